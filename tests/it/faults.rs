//! Redis and the CRM in trouble, as callers of the daemon see it: who is answered, how fast, and
//! that it passes.

mod crm;
mod redis;
mod refusals;

use std::net::SocketAddr;
use std::time::Duration;

use contactd::clock::Stopwatch;
use contactd::pb::v1::FindContactResponse;
use tonic::Status;

use crate::support::daemon::{Changed as _, TestDaemon, find};
use crate::support::fleet::number;

/// Far more than the timeouts of one look-up, and far less than a caller that waits for what will
/// not come.
const PROMPT: Duration = Duration::from_secs(2);

/// A look-up of number `n`, which must end promptly.
async fn promptly(daemon: &TestDaemon, n: usize) -> Result<FindContactResponse, Status> {
    let stopwatch = Stopwatch::start();
    let answer = daemon.find(find().number(&number(n))).await;
    let took = stopwatch.elapsed();
    assert!(took < PROMPT, "number {n} took {took:?}");
    answer
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
