//! What the tests share: a daemon, a scripted CRM, and waiting with a deadline.

pub(crate) mod at_once;
pub(crate) mod attack;
pub(crate) mod chaos;
pub(crate) mod clocks;
pub(crate) mod cluster;
pub(crate) mod crm;
pub(crate) mod daemon;
pub(crate) mod fleet;
pub(crate) mod outside;
pub(crate) mod pki;
pub(crate) mod ports;
pub(crate) mod program;
pub(crate) mod raw;
pub(crate) mod redis;
pub(crate) mod sink;
pub(crate) mod strict;
pub(crate) mod wire;

use std::time::Duration;

use contactd::clock;

pub(crate) use crm::{FakeCrm, Reply, contact, person};
pub(crate) use daemon::{TestDaemon, find, refresh};

/// Waits until `happened` says so; fails after half a minute.
pub(crate) async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let waited = clock::timeout(Duration::from_secs(30), async {
        while !happened() {
            clock::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(
        waited.await.is_some(),
        "still not so after half a minute: {what}"
    );
}
