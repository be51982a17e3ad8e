//! One load per key, whoever comes and goes.

use std::time::Duration;

use contactd::pb::v1::{FindContactRequest, FindContactResponse, Source};
use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;

use crate::support::crm::example;
use crate::support::daemon::{Changed as _, names};
use crate::support::wire::failure_within;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find, refresh};

fn slow(millis: u64) -> impl Fn(&crate::support::crm::Seen) -> Reply + Send + 'static {
    move |seen| {
        example(seen, &[contact(1, "Ada", "+16505551234")]).after(Duration::from_millis(millis))
    }
}

#[tokio::test]
async fn a_hundred_callers_of_one_unknown_number_make_the_calls_of_one() {
    let crm = FakeCrm::start(slow(200)).await;
    let daemon = TestDaemon::over(&crm).await;
    let answers = join_all((0..100).map(|_| daemon.find(find()))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| names(answer) == ["Ada"]));
    assert_eq!(crm.seen().len(), 2, "one search and one list of deals");
    let shared = answers
        .iter()
        .filter(|answer| answer.lookup.as_ref().unwrap().shared)
        .count();
    assert_eq!(shared, 99);
    assert_eq!(
        daemon
            .metric("contactd_lookups_shared_total{platform=\"example\"}")
            .await,
        Some(99.0)
    );
}

/// The answer to this request for stored answers, as soon as there is one.
async fn when_stored(daemon: &TestDaemon, request: &FindContactRequest) -> FindContactResponse {
    let stored = async {
        loop {
            if let Ok(answer) = daemon.find(request.clone()).await {
                return answer;
            }
            contactd::clock::sleep(Duration::from_millis(10)).await;
        }
    };
    let stored = contactd::clock::timeout(Duration::from_secs(30), stored).await;
    stored.expect("the load ended and its answer was kept")
}

#[tokio::test]
async fn a_deadline_shorter_than_the_load_still_fills_the_cache() {
    // Nobody waits any more when the search returns, but on a busy machine it has begun by then.
    let crm = FakeCrm::start(slow(1_500)).await;
    let daemon = TestDaemon::over(&crm).await;
    let (request, limit) = (find(), Duration::from_millis(500));
    let callers = (0..10).map(|_| failure_within(daemon.grpc, &request, limit));
    for failure in join_all(callers).await {
        assert_eq!(failure.code(), Code::DeadlineExceeded);
    }
    let mut only_cached = find();
    only_cached.only_if_cached = true;
    let lookup = when_stored(&daemon, &only_cached).await.lookup.unwrap();
    assert_eq!(
        (lookup.source(), lookup.complete),
        (Source::Memory, true),
        "with its deals"
    );
    assert_eq!(crm.searches(), 1);
}

#[tokio::test]
async fn a_deadline_shorter_than_one_of_many_searches_still_fills_the_cache() {
    let crm = FakeCrm::start(|seen| example(seen, &[]).after(Duration::from_millis(200))).await;
    let daemon = TestDaemon::over(&crm).await;
    let request = find().formats(&["(###) ###-####", "###.###.####"]);
    let failure = failure_within(daemon.grpc, &request, Duration::from_millis(100)).await;
    assert_eq!(failure.code(), Code::DeadlineExceeded);
    eventually("all spellings are searched", || crm.searches() == 3).await;
    let mut cached = request.clone();
    cached.only_if_cached = true;
    when_stored(&daemon, &cached).await;
    assert_eq!(crm.searches(), 3);
}

#[tokio::test]
async fn a_leader_whose_caller_hangs_up_breaks_nothing() {
    let crm = FakeCrm::start(slow(300)).await;
    let daemon = TestDaemon::over(&crm).await;
    let leader = daemon.client.clone();
    #[expect(clippy::disallowed_methods, reason = "aborted below")]
    let leader = tokio::spawn(async move { leader.clone().find_contact(find()).await });
    eventually("the leader's search arrives", || crm.searches() == 1).await;
    let joiner = daemon.find(find());
    leader.abort();
    assert_eq!(names(&joiner.await.unwrap()), ["Ada"]);
    assert_eq!(crm.searches(), 1);
}

#[tokio::test]
async fn a_look_up_that_its_client_cancels_is_counted_once() {
    let crm = FakeCrm::start(slow(60_000)).await;
    let daemon = TestDaemon::over(&crm).await;
    let caller = daemon.client.clone();
    #[expect(clippy::disallowed_methods, reason = "aborted below")]
    let caller = tokio::spawn(async move { caller.clone().find_contact(find()).await });
    eventually("the search arrives", || crm.searches() == 1).await;
    caller.abort();
    let cancelled = "contactd_lookups_total{platform=\"example\",trigger=\"incoming_call\",source=\"none\",\
                     outcome=\"cancelled\"}";
    contactd::clock::timeout(Duration::from_secs(10), async {
        while daemon.metric(cancelled).await != Some(1.0) {
            contactd::clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it is counted");
    let page = daemon.page("/metrics").await.1;
    let counted = page
        .lines()
        .filter(|line| line.starts_with("contactd_lookups_total{") && !line.ends_with(" 0"));
    assert_eq!(counted.count(), 1, "{page}");
}

#[tokio::test]
async fn a_failed_load_fails_its_callers_once_and_the_next_one_loads_again() {
    let crm = FakeCrm::start(|_| Reply::status(500).after(Duration::from_millis(100))).await;
    let daemon = TestDaemon::over(&crm).await;
    let answers = join_all((0..20).map(|_| daemon.find(find()))).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().unwrap_err().code() == Code::Unavailable)
    );
    assert_eq!(crm.seen().len(), 1);
    crm.becomes(slow(0));
    assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada"]);
}

#[tokio::test]
async fn callers_with_different_credentials_never_share_a_load() {
    let crm = FakeCrm::start(|seen| {
        if seen.authorization.as_deref() == Some("Bearer stolen") {
            return Reply::status(401).after(Duration::from_millis(100));
        }
        slow(200)(seen)
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let (good, bad) = (
        daemon.find(find()),
        daemon.find(find().auth("Bearer stolen")),
    );
    let (good, bad) = tokio::join!(good, bad);
    assert_eq!(names(&good.unwrap()), ["Ada"]);
    assert_eq!(bad.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(crm.searches(), 2);
}

#[tokio::test]
async fn a_manual_refresh_does_not_join_a_load_that_began_before_it_and_the_later_answer_stays() {
    let crm = FakeCrm::start(|seen| {
        example(seen, &[contact(1, "Old name", "+16505551234")]).after(Duration::from_millis(
            if seen.path.ends_with("/deals") {
                0
            } else {
                400
            },
        ))
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let ringing = daemon.find(find());
    let refreshing = async {
        eventually("the first search arrives", || crm.searches() == 1).await;
        daemon.clock.advance(Duration::from_millis(10));
        crm.becomes(|seen| example(seen, &[contact(1, "New name", "+16505551234")]));
        daemon.find(refresh()).await.unwrap()
    };
    let (old, new) = tokio::join!(ringing, refreshing);
    assert_eq!(names(&old.unwrap()), ["Old name"]);
    assert_eq!(names(&new), ["New name"]);
    assert_eq!(
        names(&daemon.find(find()).await.unwrap()),
        ["New name"],
        "the slower, older load did not undo it"
    );
}

#[tokio::test]
async fn a_slow_number_does_not_hold_up_another() {
    let crm = FakeCrm::start(|seen| {
        let late = seen.param("phone") == Some("+16505550001");
        Reply::json(json!({"contacts": [], "next_page": null}))
            .after(Duration::from_millis(if late { 4000 } else { 0 }))
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let slow = daemon.find(find().number("+16505550001"));
    let quick = async {
        eventually("the slow search is under way", || crm.searches() == 1).await;
        let stopwatch = contactd::clock::Stopwatch::start();
        daemon.find(find()).await.unwrap();
        stopwatch.elapsed()
    };
    let (slow, quick) = tokio::join!(slow, quick);
    slow.unwrap();
    assert!(quick < Duration::from_millis(3500), "{quick:?}");
}
