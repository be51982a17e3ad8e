//! Concurrency models: the rooms of the daemon that share state between tasks, built over stand-ins
//! for `std`'s atomics, `parking_lot` and `tokio`, so that shuttle decides which task runs at each
//! step.
//!
//! The files of the rooms are those of the daemon. What they need of other rooms is a stand-in, if
//! it is not here as well: spans and metrics do nothing, and the link to Redis blocks.
//!
//! [`explore`] runs a scenario under many schedules. A scenario states what must hold, and panics
//! if it does not. See tests/README.md for what is modelled, and how to repeat a failure.
#![allow(
    dead_code,
    unused_imports,
    unfulfilled_lint_expectations,
    reason = "only a part of each room is used here"
)]

/// The daemon's own files.
#[path = "../../../src"]
mod daemon {
    pub mod pb;

    pub mod domain;

    pub mod clock;
    pub(crate) mod urgency;

    pub(crate) mod budget;
    pub mod cache;
    pub(crate) mod flight;
}

use daemon::{budget, flight, urgency};
pub use daemon::{cache, clock, domain, pb};

mod metrics;
pub mod redis_link;
mod trace;

pub mod explore;
pub mod flights;
pub mod lanes;
mod samples;
pub mod tickets;
