//! Names first: a ringing phone does not wait for the details of a number that many records have.

use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::pb::v1::{FindContactResponse, InvalidateContactsRequest};
use serde_json::{Value, json};

use crate::prefetch::{batch, run};
use crate::support::crm::{Seen, themselves};
use crate::support::daemon::{Changed as _, names};
use crate::support::fleet::{everything, number, source};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, eventually, find, refresh};

/// Clio with so many records of one number, and one matter each; every call takes so long.
fn clio(records: usize, call: Duration) -> impl Fn(&Seen) -> Reply + Send + 'static {
    move |seen| {
        let reply = if seen.asks_who() {
            themselves(seen)
        } else if seen.path.ends_with("/contacts.json") {
            let phone = seen.param("query").unwrap_or_default();
            let record = |n: usize| json!({"id": n, "type": "Person", "name": format!("P{n}"), "phone_numbers": [{"number": phone}]});
            Reply::json(
                json!({"data": (1..=records).map(record).collect::<Vec<Value>>(), "meta": {}}),
            )
        } else if seen.path.ends_with("/matters.json") {
            Reply::json(
                json!({"data": [{"id": 7, "display_number": "7", "description": "", "status": "Open"}], "meta": {}}),
            )
        } else {
            Reply::json(json!({"data": [], "meta": {}}))
        };
        reply.after(call)
    }
}

/// What `lookup.details_timeout` is if nobody sets it.
const DEFAULT: &str = "[lookup]\ndetails_timeout = \"400ms\"\n";

/// More calls than any of these tests makes.
const AMPLE: &str = "[connectors.clio.quota]\nrate = 1000\nper = \"1s\"\nburst = 1000\n";

const CALL: Duration = Duration::from_millis(50);

async fn daemon(crm: &FakeCrm, quota: &str) -> TestDaemon {
    let url = crm.url();
    TestDaemon::start(&format!(
        "{DEFAULT}[connectors.clio]\nkind = \"clio\"\nbase_url = \"{url}\"\n{quota}"
    ))
    .await
}

fn ring(n: usize) -> contactd::pb::v1::FindContactRequest {
    find().platform("clio").number(&number(n))
}

fn is_complete(answer: &FindContactResponse) -> bool {
    answer.lookup.as_ref().unwrap().complete
}

#[tokio::test]
async fn twenty_five_names_are_there_within_a_second_and_the_next_phone_is_not_starved() {
    // The defaults of Clio: forty calls a minute, ten at once.
    let crm = FakeCrm::start(clio(25, CALL)).await;
    let daemon = daemon(&crm, "").await;
    for limit in [Duration::from_secs(60), Duration::from_secs(3)] {
        let (stopwatch, before) = (Stopwatch::start(), crm.seen().len());
        let n = usize::try_from(limit.as_secs()).unwrap();
        let answer = daemon
            .find(ring(n).auth(&format!("Bearer {n}")).within(limit))
            .await
            .unwrap();
        let took = stopwatch.elapsed();
        assert_eq!((names(&answer).len(), is_complete(&answer)), (25, false));
        assert!(took < Duration::from_secs(1), "{took:?}");
        let spent = crm.seen().len() - before;
        assert!(spent <= 15, "the rest is in no hurry: {spent} calls");

        crm.becomes(clio(0, CALL));
        let stopwatch = Stopwatch::start();
        let next = daemon
            .find(
                ring(n + 1)
                    .auth(&format!("Bearer {n}"))
                    .within(Duration::from_secs(3)),
            )
            .await
            .unwrap();
        assert!(
            names(&next).is_empty() && stopwatch.elapsed() < Duration::from_secs(1),
            "{:?}",
            stopwatch.elapsed()
        );
        crm.becomes(clio(25, CALL));
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn what_comes_too_late_is_loaded_behind_the_answer_and_stored_on_all_replicas() {
    let (crm, redis) = (
        FakeCrm::start(clio(12, Duration::from_millis(200))).await,
        RedisServer::start().await,
    );
    let quota =
        "[connectors.clio.quota]\nrate = 1000\nper = \"1s\"\nburst = 40\nprefetch_share = 0.5\n";
    let toml = format!(
        "{DEFAULT}[redis]\nurl = \"{}\"\n[connectors.clio]\nkind = \"clio\"\nbase_url = \"{}\"\n{quota}",
        redis.url(),
        crm.url()
    );
    let daemons = [
        TestDaemon::start(&toml).await,
        TestDaemon::start(&toml).await,
    ];
    for daemon in &daemons {
        crate::support::fleet::redis_is(daemon, true).await;
    }
    clock::sleep(Duration::from_millis(200)).await;
    let stopwatch = Stopwatch::start();
    let first = daemons[0].find(ring(1)).await.unwrap();
    assert_eq!((names(&first).len(), is_complete(&first)), (12, false));
    assert!(
        stopwatch.elapsed() < Duration::from_millis(1_200),
        "{:?}",
        stopwatch.elapsed()
    );
    assert!(first.return_message.unwrap().message_type == "warning");
    let elsewhere = daemons[1].find(ring(1)).await.unwrap();
    assert_eq!(names(&elsewhere).len(), 12, "names, from wherever they are");
    for daemon in &daemons {
        let whole = async {
            while !is_complete(&daemon.find(ring(1)).await.unwrap()) {
                clock::sleep(Duration::from_millis(50)).await;
            }
        };
        clock::timeout(Duration::from_secs(20), whole)
            .await
            .expect("the rest is stored");
        let answer = daemon.find(ring(1)).await.unwrap();
        assert!(
            answer
                .matched_contact_info
                .iter()
                .filter(|c| !c.is_new_contact)
                .all(|c| c.additional_info.is_some())
        );
    }
    assert_eq!(
        crm.seen()
            .iter()
            .filter(|seen| seen.path.ends_with("/contacts.json"))
            .count(),
        1,
        "one search for all"
    );
    assert_eq!(
        crm.seen().len(),
        1 + 12 * 2,
        "and nothing is asked for twice"
    );
}

#[tokio::test]
async fn an_answer_waits_for_details_no_longer_than_half_of_what_is_left_of_its_deadline() {
    let crm = FakeCrm::start(|seen| {
        let details = !seen.path.ends_with("/contacts.json") && !seen.asks_who();
        clio(
            1,
            if details {
                Duration::from_secs(5)
            } else {
                CALL
            },
        )(seen)
    })
    .await;
    let daemon = daemon(&crm, AMPLE).await;
    for (n, (limit, at_most)) in (0..).zip([(500, 400), (2_000, 900), (30_000, 900)]) {
        let stopwatch = Stopwatch::start();
        let answer = daemon
            .find(ring(n).within(Duration::from_millis(limit)))
            .await
            .unwrap();
        assert_eq!((names(&answer).len(), is_complete(&answer)), (1, false));
        assert!(
            stopwatch.elapsed() < Duration::from_millis(at_most),
            "{limit}: {:?}",
            stopwatch.elapsed()
        );
    }
    // A CRM that is slow in all is waited for: twice as long as its search took.
    crm.becomes(clio(1, Duration::from_millis(500)));
    let answer = daemon.find(ring(9)).await.unwrap();
    assert!(is_complete(&answer));
}

#[tokio::test]
async fn a_manual_refresh_and_a_batch_wait_for_all_details() {
    let crm = FakeCrm::start(clio(6, Duration::from_millis(250))).await;
    let daemon = daemon(&crm, AMPLE).await;
    let answer = daemon
        .find(refresh().platform("clio").number(&number(1)))
        .await
        .unwrap();
    assert_eq!((names(&answer).len(), is_complete(&answer)), (6, true));
    let mut request = batch(vec![number(2)]);
    request.user.as_mut().unwrap().platform = "clio".to_owned();
    assert_eq!(run(&daemon, request).await.finished.unwrap().found, 1);
    let stored = daemon.find(ring(2)).await.unwrap();
    assert!(is_complete(&stored) && source(&stored) == contactd::pb::v1::Source::Memory);
}

#[tokio::test]
async fn details_that_fail_behind_the_answer_leave_the_names() {
    let crm = FakeCrm::start(|seen| {
        if seen.path.ends_with("/matters.json") {
            Reply::status(500).after(Duration::from_secs(1))
        } else {
            clio(1, CALL)(seen)
        }
    })
    .await;
    let daemon = daemon(&crm, "").await;
    let answer = daemon.find(ring(1)).await.unwrap();
    assert_eq!((names(&answer).len(), is_complete(&answer)), (1, false));
    eventually("the matters have failed", || crm.seen().len() >= 3).await;
    clock::sleep(Duration::from_millis(1_200)).await;
    let again = daemon.find(ring(1)).await.unwrap();
    assert_eq!((names(&again).len(), is_complete(&again)), (1, false));
}

/// Calls for details that wait for the quota.
async fn waiting(daemon: &TestDaemon) -> u64 {
    let status: Value = serde_json::from_str(&daemon.page("/status.json").await.1).unwrap();
    status["connectors"][0]["waiting"]["revalidate"]
        .as_u64()
        .unwrap()
}

/// A daemon with a look-up whose details wait for the quota, for longer than the test takes.
async fn with_waiting_details() -> (FakeCrm, TestDaemon) {
    let crm = FakeCrm::start(clio(6, Duration::ZERO)).await;
    let quota = "[connectors.clio.quota]\nrate = 5\nper = \"10m\"\nburst = 5\n";
    let daemon = daemon(&crm, quota).await;
    let answer = daemon.find(ring(1)).await.unwrap();
    assert_eq!((names(&answer).len(), is_complete(&answer)), (6, false));
    let waits = async {
        while waiting(&daemon).await == 0 {
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        clock::timeout(Duration::from_secs(10), waits)
            .await
            .is_some()
    );
    (crm, daemon)
}

/// Waits until no call waits any more.
async fn is_given_up(daemon: &TestDaemon) {
    let given_up = async {
        while waiting(daemon).await > 0 {
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    let limit = Duration::from_secs(20);
    assert!(clock::timeout(limit, given_up).await.is_some());
}

#[tokio::test]
async fn details_of_an_answer_that_was_invalidated_meanwhile_are_given_up() {
    let (crm, daemon) = with_waiting_details().await;
    let request = InvalidateContactsRequest {
        user: ring(1).user,
        scope: Some(everything()),
    };
    let before = crm.seen().len();
    daemon
        .client
        .clone()
        .invalidate_contacts(request)
        .await
        .unwrap();
    is_given_up(&daemon).await;
    assert_eq!(crm.seen().len(), before);
}

#[tokio::test]
async fn details_of_an_answer_that_is_past_its_hard_end_are_given_up() {
    let (crm, daemon) = with_waiting_details().await;
    let before = crm.seen().len();
    // The hard end of an answer without all details.
    daemon.clock.advance(Duration::from_secs(11 * 60));
    is_given_up(&daemon).await;
    assert_eq!(crm.seen().len(), before);
}
