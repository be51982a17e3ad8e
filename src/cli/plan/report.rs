//! What a plan shows: a log, the terms, and what it costs under each variant of them.

use super::read::ReadLog;
use crate::plan::{Figures, Terms, Variant};

/// Everything that is shown.
pub(super) struct Report<'a> {
    pub(super) read: &'a ReadLog,
    pub(super) terms: &'a Terms,
    /// The assumed part of known numbers.
    pub(super) known: f64,
    pub(super) variants: &'a [Variant],
    /// In the order of the variants.
    pub(super) figures: &'a [Figures],
}

impl Report<'_> {
    /// The figures of the first number of replicas.
    pub(super) fn base(&self) -> Option<&Figures> {
        self.figures.first()
    }

    /// The variants of one kind, with their figures.
    pub(super) fn of<'a>(
        &'a self,
        what: &'a str,
    ) -> impl Iterator<Item = (&'a Variant, &'a Figures)> {
        let all = self.variants.iter().zip(self.figures);
        all.filter(move |(variant, _)| variant.what == what)
    }
}
