//! The standard library, with atomics of shuttle: before each access it may let another task run.
//!
//! A dependency called `std` takes the place of the real one, so the rooms need not import their
//! atomics from elsewhere.

pub use std::*;

/// As `std::sync`.
pub mod sync {
    pub use std::sync::*;

    /// Shuttle's atomics, which are sequentially consistent whatever the ordering.
    pub mod atomic {
        pub use shuttle::sync::atomic::*;
    }
}
