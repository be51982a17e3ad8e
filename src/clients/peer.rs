//! The other end of a connection, and what it has proved.

use std::sync::Arc;

use super::origin::{Busy, Origin};

/// Who is at the other end of a connection, as far as the connection itself shows.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The name in its certificate, which has been verified.
    pub(crate) certificate: Option<Arc<str>>,
    /// Whether it has shown a certificate, with a name or without.
    is_verified: bool,
    origin: Arc<Origin>,
}

impl Peer {
    /// A peer that has shown no certificate.
    #[must_use]
    pub(crate) fn new(origin: Arc<Origin>) -> Self {
        Self {
            certificate: None,
            is_verified: false,
            origin,
        }
    }

    /// The peer after it has shown a certificate or not, and the name in it.
    #[must_use]
    pub(crate) fn showing(self, is_verified: bool, name: Option<String>) -> Self {
        Self {
            certificate: name.map(Into::into),
            is_verified,
            ..self
        }
    }

    /// Whether it has shown a certificate.
    #[must_use]
    pub(crate) fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// Counts one more of its calls as in hand.
    #[must_use]
    pub(crate) fn busy(&self) -> Busy {
        Busy::begin(&self.origin)
    }

    /// The connection.
    #[must_use]
    pub(crate) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }
}
