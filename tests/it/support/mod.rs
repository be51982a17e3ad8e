//! What the tests share: a daemon, a scripted CRM, and waiting with a deadline.

pub mod attack;
pub mod chaos;
pub mod cluster;
pub mod crm;
pub mod daemon;
pub mod fleet;
pub mod pki;
pub mod program;
pub mod raw;
pub mod redis;
pub mod sink;
pub mod strict;
pub mod wire;

use std::time::Duration;

use contactd::clock;

pub use crm::{FakeCrm, Reply, contact, person};
pub use daemon::{TestDaemon, find, refresh};

/// Waits until `happened` says so; fails after ten seconds.
pub async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let waited = clock::within(Duration::from_secs(10), async {
        while !happened() {
            clock::pause(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_some(), "still not so after ten seconds: {what}");
}
