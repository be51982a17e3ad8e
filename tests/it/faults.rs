//! Redis and the CRM in trouble, as callers of the daemon see it: who is answered, how fast, and
//! that it passes.

mod crm;
mod redis;
mod refusals;

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::pb::v1::FindContactResponse;
use tonic::Status;

use crate::support::daemon::{Changed as _, TestDaemon, find};
use crate::support::fleet::number;

/// If Redis does not answer in time, a look-up waits for a second before this replica counts the
/// call for the user by itself, and then for the credential. This is longer than both waits
/// together, and far shorter than waiting for a Redis that never answers. It leaves room for a slow
/// machine.
const PROMPT: Duration = Duration::from_millis(3_500);

/// A look-up of number `n`, which must end promptly.
async fn promptly(daemon: &TestDaemon, n: usize) -> Result<FindContactResponse, Status> {
    let stopwatch = Stopwatch::start();
    let mut look_up = pin!(daemon.find(find().number(&number(n))));
    let mut slowest_probe = Duration::ZERO;
    let answer = loop {
        let begun = Stopwatch::start();
        let probe = async {
            daemon.page("/livez").await;
            clock::sleep(Duration::from_millis(5)).await;
        };
        let answer = tokio::select! {
            answer = &mut look_up => Some(answer),
            () = probe => None,
        };
        slowest_probe = slowest_probe.max(begun.elapsed());
        if let Some(answer) = answer {
            break answer;
        }
    };
    let took = stopwatch.elapsed();
    assert!(
        took < PROMPT + slowest_probe * 4,
        "number {n} took {took:?}, a probe of the same daemon {slowest_probe:?}"
    );
    answer
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
