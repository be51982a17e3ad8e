//! As `foldhash`, with the same hashes in every run: which keys share a lock depends on them, so a schedule could not be
//! repeated otherwise.

/// As `foldhash::fast`.
pub mod fast {
    pub use real::fast::FixedState as RandomState;
}
