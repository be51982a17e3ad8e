//! A stand-in for spans, which are not sent anywhere.

/// See the daemon's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span;

impl Span {
    pub(crate) fn set<T>(&self, _: &'static str, _: T) {}
}
