//! The parts of tokio that the modelled rooms use.
//!
//! Channels and notifications are tokio's own, which tokio checks itself. Each call of them is one
//! step, before which shuttle may let another task run. Tasks are shuttle's. Time is virtual.

pub mod sync;
pub mod time;

#[doc(hidden)]
pub use real;
pub use real::try_join;

/// The branches are polled in their order, so that a schedule can be repeated.
#[macro_export]
macro_rules! select {
    (biased; $($branches:tt)*) => { $crate::real::select! { biased; $($branches)* } };
    ($($branches:tt)*) => { $crate::real::select! { biased; $($branches)* } };
}

/// As `tokio::task`.
pub mod task {
    pub use shuttle::future::yield_now;
}

/// As `tokio::runtime`.
pub mod runtime {
    /// Tasks run in shuttle's execution.
    #[derive(Debug, Clone)]
    pub struct Handle;
}

/// Another task may run here.
pub(crate) fn step() {
    use shuttle::sync::atomic::{AtomicBool, Ordering};
    AtomicBool::new(false).load(Ordering::SeqCst);
}
