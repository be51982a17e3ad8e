//! Replicas over one Redis, and what is asked of all of them.

use std::collections::HashMap;
use std::time::Duration;

use contactd::clock;
use contactd::pb::v1::invalidate_contacts_request::Scope;
use contactd::pb::v1::{FindContactResponse, InvalidateContactsRequest, PhoneNumbers};
use contactd::redis_link::Link;

use super::daemon::{NUMBER, TestDaemon, find, names};
use super::redis::link_to;
use super::{FakeCrm, Reply, contact};
use crate::support::crm::{Seen, example};

/// A replica on the Redis at `url`, once it has reached it; `more` is further TOML.
pub(crate) async fn replica(crm: &FakeCrm, url: &str, more: &str) -> TestDaemon {
    let link = link_to(url);
    let before = polls(&link).await;
    let daemon = TestDaemon::with(
        crm,
        "example",
        &format!("[redis]\nurl = \"{url}\"\n{more}\n"),
    )
    .await;
    redis_is(&daemon, true).await;
    has_read_the_log(&link, &before).await;
    daemon
}

/// When each replica has polled the log last.
async fn polls(link: &Link) -> HashMap<Vec<u8>, u64> {
    let mut polls = redis::cmd("ZRANGE");
    polls.arg(&["contactd:{log}:r", "0", "-1", "WITHSCORES"]);
    loop {
        if let Ok(polls) = link.query(polls.clone()).await {
            return polls;
        }
        clock::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for the second poll of a replica that had not polled `before`. The first one empties
/// memory once, and is applied by then; before it, a replica uses nothing of Redis.
async fn has_read_the_log(link: &Link, before: &HashMap<Vec<u8>, u64>) {
    let first = polls(link).await;
    let again = async {
        let mut first = first;
        loop {
            let now = polls(link).await;
            let new = now
                .iter()
                .filter(|(replica, _)| !before.contains_key(*replica));
            for (replica, polled) in new {
                if *first.entry(replica.clone()).or_insert(*polled) < *polled {
                    return;
                }
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    clock::timeout(Duration::from_secs(30), again)
        .await
        .expect("it reads the log");
}

/// So many replicas. Redis may take its time, because these tests are about what replicas share, on
/// machines that may be busy.
pub(crate) async fn replicas(crm: &FakeCrm, url: &str, count: usize) -> Vec<TestDaemon> {
    let mut daemons = Vec::new();
    for _ in 0..count {
        daemons.push(replica(crm, url, "timeout = \"500ms\"").await);
    }
    daemons
}

/// A number of its own for each `n`.
pub(crate) fn number(n: usize) -> String {
    format!("+1650{:07}", 2_000_000 + n)
}

/// A CRM that knows everybody, as Ada.
pub(crate) fn ada(seen: &Seen) -> Reply {
    named("Ada", seen)
}

/// A CRM that knows everybody by this name.
pub(crate) fn named(name: &str, seen: &Seen) -> Reply {
    example(
        seen,
        &[contact(1, name, seen.param("phone").unwrap_or_default())],
    )
}

/// Invalidates at `daemon`, for the user of [`find`].
pub(crate) async fn forget(daemon: &TestDaemon, scope: Scope) -> Result<(), tonic::Status> {
    let request = InvalidateContactsRequest {
        user: find().user,
        scope: Some(scope),
    };
    daemon
        .client
        .clone()
        .invalidate_contacts(request)
        .await
        .map(|_| ())
}

/// The number of [`find`].
pub(crate) fn the_number() -> Scope {
    Scope::Numbers(PhoneNumbers {
        phone_numbers: vec![NUMBER.to_owned()],
    })
}

/// The user of [`find`].
pub(crate) fn everything() -> Scope {
    Scope::Everything(true)
}

/// Waits until `contactd_redis_up` tells so.
pub(crate) async fn redis_is(daemon: &TestDaemon, up: bool) {
    let told = async {
        while daemon.metric("contactd_redis_up").await != Some(f64::from(u8::from(up))) {
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    clock::timeout(Duration::from_secs(30), told)
        .await
        .unwrap_or_else(|| panic!("Redis is not told to be up: {up}"));
}

/// Asks until the answer is this one; fails after so long.
pub(crate) async fn answers(daemon: &TestDaemon, name: &str, limit: Duration) {
    let told = async {
        while names(&daemon.find(find()).await.unwrap()) != [name] {
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    clock::timeout(limit, told)
        .await
        .unwrap_or_else(|| panic!("it does not answer {name} within {limit:?}"));
}

/// Where an answer came from.
pub(crate) fn source(response: &FindContactResponse) -> contactd::pb::v1::Source {
    response.lookup.as_ref().unwrap().source()
}
