//! The first-run batch.

use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1::prefetch_contacts_response::Event;
use contactd::pb::v1::{
    PrefetchContactsRequest, PrefetchContactsResponse, PrefetchFinished, PrefetchOutcome,
    PrefetchResult, PrefetchStarted,
};
use nix::sys::signal::Signal;
use serde_json::json;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

use crate::support::crm::{Seen, example};
use crate::support::daemon::{Changed as _, details, names};
use crate::support::program::Program;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find};

/// A CRM that knows the numbers that end in an even digit.
fn even(seen: &Seen) -> Reply {
    let phone = seen.param("phone").unwrap_or_default().to_owned();
    let known = phone.ends_with(['0', '2', '4', '6', '8']);
    example(
        seen,
        &if known {
            vec![contact(1, "Somebody", &phone)]
        } else {
            vec![]
        },
    )
}

fn numbers(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("+1650{:07}", 2_000_000 + n))
        .collect()
}

pub(crate) fn batch(numbers: Vec<String>) -> PrefetchContactsRequest {
    let find = find();
    PrefetchContactsRequest {
        user: find.user,
        auth_header: find.auth_header,
        phone_numbers: numbers,
        overriding_formats: Vec::new(),
    }
}

/// The same batch under another credential.
pub(crate) fn under(request: PrefetchContactsRequest, auth: &str) -> PrefetchContactsRequest {
    PrefetchContactsRequest {
        auth_header: auth.to_owned(),
        ..request
    }
}

/// Everything that a batch told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) started: PrefetchStarted,
    pub(crate) results: Vec<PrefetchResult>,
    pub(crate) finished: Option<PrefetchFinished>,
    pub(crate) status: Option<Status>,
}

pub(crate) async fn run(daemon: &TestDaemon, request: PrefetchContactsRequest) -> Told {
    let stream = daemon
        .client
        .clone()
        .prefetch_contacts(request)
        .await
        .unwrap()
        .into_inner();
    follow(stream, |_| {}).await
}

/// Reads the events of a batch to its end. Calls `each` after each result, with their number so
/// far.
async fn follow(
    mut stream: Streaming<PrefetchContactsResponse>,
    mut each: impl FnMut(usize),
) -> Told {
    let mut told = Told::default();
    loop {
        match stream.message().await {
            Ok(Some(response)) => match response.event.unwrap() {
                Event::Started(started) => told.started = started,
                Event::Result(result) => {
                    told.results.push(result);
                    each(told.results.len());
                }
                Event::Finished(finished) => told.finished = Some(finished),
            },
            Ok(None) => return told,
            Err(status) => {
                told.status = Some(status);
                return told;
            }
        }
    }
}

#[tokio::test]
async fn a_batch_tells_each_number_once_and_the_sums() {
    let crm = FakeCrm::start(even).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find().number("+16502000000")).await.unwrap();
    let mut log = numbers(10);
    log.extend(
        [
            "+1 (650) 200-0001",
            "tel:+16502000002",
            "nonsense",
            " nonsense ",
            "anonymous",
            "911",
        ]
        .map(str::to_owned),
    );
    let told = run(&daemon, batch(log)).await;
    assert_eq!(
        (
            told.started.requested,
            told.started.distinct,
            told.started.already_cached
        ),
        (16, 13, 1)
    );
    assert_eq!(told.results.len(), 13);
    for (n, result) in told.results.iter().enumerate() {
        assert_eq!((result.done as usize, result.total), (n + 1, 13));
    }
    let of = |number: &str| {
        told.results
            .iter()
            .find(|result| result.phone_number == number)
            .unwrap()
    };
    assert_eq!(
        (of("+16502000000").outcome(), of("+16502000000").match_count),
        (PrefetchOutcome::AlreadyCached, 1)
    );
    assert_eq!(
        (of("+16502000002").outcome(), of("+16502000002").match_count),
        (PrefetchOutcome::Found, 1)
    );
    assert_eq!(
        (of("+16502000001").outcome(), of("+16502000001").match_count),
        (PrefetchOutcome::NotFound, 0)
    );
    for (text, reason) in [
        ("nonsense", "is not a telephone number"),
        ("anonymous", "is withheld"),
        ("911", "short code"),
    ] {
        assert_eq!(of(text).outcome(), PrefetchOutcome::InvalidNumber);
        assert!(of(text).reason.contains(reason), "{:?}", of(text));
    }
    let sums = told.finished.unwrap();
    assert_eq!(
        (
            sums.found,
            sums.not_found,
            sums.already_cached,
            sums.invalid,
            sums.failed
        ),
        (4, 5, 1, 3, 0)
    );
    assert_eq!(sums.crm_requests, 4 * 2 + 5);
    assert!(sums.elapsed.is_some() && told.status.is_none());
    for (outcome, count) in [
        ("found", 4.0),
        ("not_found", 5.0),
        ("already_cached", 1.0),
        ("invalid_number", 3.0),
    ] {
        let series = format!(
            "contactd_prefetch_numbers_total{{platform=\"example\",outcome=\"{outcome}\"}}"
        );
        assert_eq!(daemon.metric(&series).await, Some(count), "{series}");
    }
    assert_eq!(
        daemon
            .metric("contactd_prefetch_jobs{platform=\"example\"}")
            .await,
        Some(0.0)
    );

    // Once more costs nothing, and a ringing call is answered from the cache.
    let asked = crm.seen().len();
    let again = run(&daemon, batch(numbers(10))).await;
    assert_eq!(
        (
            again.started.already_cached,
            again.finished.unwrap().crm_requests
        ),
        (10, 0)
    );
    assert_eq!(
        names(&daemon.find(find().number("+16502000004")).await.unwrap()),
        ["Somebody"]
    );
    assert_eq!(crm.seen().len(), asked);
}

#[tokio::test]
async fn an_error_of_one_number_does_not_end_the_batch_and_running_it_again_costs_what_is_missing()
{
    let crm = FakeCrm::start(|seen| {
        if seen.param("phone") == Some("+16502000003") {
            Reply::status(500)
        } else {
            even(seen)
        }
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let told = run(&daemon, batch(numbers(8))).await;
    let failed = told
        .results
        .iter()
        .find(|result| result.outcome() == PrefetchOutcome::Failed)
        .unwrap();
    assert_eq!(
        (failed.phone_number.as_str(), failed.reason.as_str()),
        ("+16502000003", "CRM_UNAVAILABLE")
    );
    assert_eq!(told.finished.unwrap().failed, 1);
    let asked = crm.searches();
    crm.becomes(even);
    let again = run(&daemon, batch(numbers(8))).await;
    assert_eq!(
        (
            again.started.already_cached,
            again.finished.unwrap().not_found
        ),
        (7, 1)
    );
    assert_eq!(crm.searches(), asked + 1);
}

#[tokio::test]
async fn a_credential_that_the_crm_refuses_ends_the_batch_at_once() {
    let crm = FakeCrm::start(|_| Reply::status(401)).await;
    let daemon = TestDaemon::over(&crm).await;
    let told = run(&daemon, batch(numbers(500))).await;
    let status = told.status.unwrap();
    assert_eq!(
        (status.code(), details(&status).reason.as_str()),
        (Code::Unauthenticated, "CRM_UNAUTHENTICATED")
    );
    assert_eq!(crm.seen().len(), 1, "one call was enough to know");
    assert!(told.finished.is_none());
}

#[tokio::test]
async fn a_refused_rate_is_tried_again_when_the_pause_is_over() {
    let refused = std::sync::atomic::AtomicUsize::new(0);
    let crm = FakeCrm::start(move |seen| {
        if refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 3 {
            return Reply::status(429).header("retry-after", "1");
        }
        even(seen)
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let told = run(&daemon, batch(numbers(20))).await;
    assert_eq!(told.finished.unwrap().failed, 0, "{:?}", told.results);
}

/// No job is under way any more.
async fn ended(daemon: &TestDaemon) {
    let none = async {
        while daemon
            .metric("contactd_prefetch_jobs{platform=\"example\"}")
            .await
            != Some(0.0)
        {
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    clock::timeout(Duration::from_secs(10), none)
        .await
        .expect("the job ends");
}

#[tokio::test]
async fn a_client_that_leaves_stops_new_crm_calls() {
    let crm = FakeCrm::start(|seen| even(seen).after(Duration::from_millis(20))).await;
    let daemon = TestDaemon::over(&crm).await;
    let mut stream = daemon
        .client
        .clone()
        .prefetch_contacts(batch(numbers(2000)))
        .await
        .unwrap()
        .into_inner();
    for _ in 0..20 {
        stream.message().await.unwrap().unwrap();
    }
    drop(stream);
    ended(&daemon).await;
    // What was being asked ends; nothing new begins.
    let settled = async {
        let mut asked = 0;
        while asked != crm.searches() {
            asked = crm.searches();
            clock::sleep(Duration::from_millis(500)).await;
        }
        asked
    };
    let asked = clock::timeout(Duration::from_secs(10), settled)
        .await
        .expect("it settles");
    assert!(asked < 300, "{asked}");
}

#[tokio::test]
async fn a_client_that_leaves_while_its_credential_proves_itself_ends_the_job() {
    let crm = FakeCrm::start(|_| Reply::status(429).header("retry-after", "100")).await;
    let daemon = TestDaemon::over(&crm).await;
    let mut stream = daemon
        .client
        .clone()
        .prefetch_contacts(batch(numbers(100)))
        .await
        .unwrap()
        .into_inner();
    assert!(matches!(
        stream.message().await.unwrap().unwrap().event,
        Some(Event::Started(_))
    ));
    eventually("the CRM is asked", || crm.asked_who() == 1).await;
    drop(stream);
    ended(&daemon).await;
}

#[tokio::test]
async fn what_stands_in_line_for_a_client_that_left_makes_no_call() {
    let crm = FakeCrm::start(|seen| example(seen, &[])).await;
    let quota =
        "[connectors.example.quota]\nrate = 2\nper = \"1s\"\nburst = 2\nprefetch_share = 1.0\n";
    let toml = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    let mut stream = daemon
        .client
        .clone()
        .prefetch_contacts(batch(numbers(100)))
        .await
        .unwrap()
        .into_inner();
    for _ in 0..3 {
        stream.message().await.unwrap().unwrap();
    }
    drop(stream);
    ended(&daemon).await;
    let asked = crm.searches();
    // Time for three more calls, of thirty in line.
    clock::sleep(Duration::from_millis(1500)).await;
    assert!(
        crm.searches() <= asked + 1,
        "{asked}, then {}",
        crm.searches()
    );
    // One of them that a phone rings for now is asked for all the same.
    daemon.find(find().number("+16502000020")).await.unwrap();
}

#[tokio::test]
async fn a_client_that_reads_slowly_slows_the_job_down() {
    let crm = FakeCrm::start(even).await;
    let daemon = TestDaemon::with(&crm, "example", "").await;
    let mut stream = daemon
        .client
        .clone()
        .prefetch_contacts(batch(numbers(10_000)))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    clock::sleep(Duration::from_millis(1500)).await;
    let asked = crm.searches();
    clock::sleep(Duration::from_millis(500)).await;
    // What fits into the windows of HTTP/2 and the backlog, and no more.
    assert!(
        crm.searches() < 8000 && crm.searches() - asked < 200,
        "{asked}, then {}",
        crm.searches()
    );
}

#[tokio::test]
async fn ten_thousand_stored_numbers_cost_under_a_second_and_more_are_refused() {
    let crm = FakeCrm::start(even).await;
    let quota = "[connectors.example.quota]\nrate = 10000\nper = \"1s\"\nburst = 10000\nprefetch_share = 1.0\n";
    let toml = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    let first = run(&daemon, batch(numbers(10_000))).await;
    assert_eq!(first.finished.unwrap().failed, 0);
    let stopwatch = Stopwatch::start();
    let again = run(&daemon, batch(numbers(10_000))).await;
    let took = stopwatch.elapsed();
    assert_eq!(again.finished.unwrap().already_cached, 10_000);
    assert!(
        took < Duration::from_secs(3),
        "{took:?} in an unoptimised build"
    );
    let refused = daemon
        .client
        .clone()
        .prefetch_contacts(batch(numbers(10_001)))
        .await
        .unwrap_err();
    assert_eq!(details(&refused).fields, ["phone_numbers"]);
}

#[tokio::test]
async fn an_empty_batch_and_one_without_a_number_end_at_once() {
    let crm = FakeCrm::start(even).await;
    let daemon = TestDaemon::over(&crm).await;
    let told = run(&daemon, batch(vec![])).await;
    assert_eq!((told.results.len(), told.finished.unwrap().found), (0, 0));
    let told = run(&daemon, batch(vec!["x".to_owned()])).await;
    assert_eq!((told.results.len(), told.finished.unwrap().invalid), (1, 1));
    assert!(crm.seen().is_empty());
}

#[tokio::test]
async fn the_most_recent_calls_come_first() {
    let crm = FakeCrm::start(even).await;
    let daemon = TestDaemon::with(&crm, "example", "").await;
    let mut log = numbers(60);
    log.reverse();
    run(&daemon, batch(log.clone())).await;
    let asked: Vec<String> = crm
        .seen()
        .iter()
        .filter_map(|seen| seen.param("phone").map(str::to_owned))
        .collect();
    let place = |number: &String| asked.iter().position(|asked| asked == number).unwrap();
    assert!(
        place(&log[0]) < 40 && place(&log[59]) > 20,
        "in the order given, but for those under way at once"
    );
}

#[tokio::test]
async fn a_call_pop_that_joins_a_prefetch_overtakes_what_waits() {
    let crm = FakeCrm::start(even).await;
    let quota = "quota = { rate = 20, per = \"1s\", burst = 5, prefetch_share = 0.5 }";
    let toml = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}\n",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    let prefetch = run(&daemon, batch(numbers(60)));
    let ringing = async {
        eventually("the batch is under way", || crm.searches() > 3).await;
        let mut waits = Vec::new();
        // One that is among those waiting for the quota, and one that nobody has asked for.
        for number in ["+16502000028", "+16509990002"] {
            let stopwatch = Stopwatch::start();
            assert_eq!(
                names(&daemon.find(find().number(number)).await.unwrap()),
                ["Somebody"]
            );
            waits.push(stopwatch.elapsed());
        }
        waits
    };
    let (told, waits) = tokio::join!(prefetch, ringing);
    assert_eq!(told.finished.unwrap().failed, 0);
    // Each needs two calls of a quota with 50 ms between calls; behind the batch it would be five
    // seconds and more.
    assert!(
        waits.iter().all(|wait| *wait < Duration::from_millis(2500)),
        "{waits:?}"
    );
}

#[tokio::test]
async fn numbers_of_the_same_crm_answer_are_told_in_json_as_the_contract_says() {
    let crm = FakeCrm::start(even).await;
    let daemon = TestDaemon::over(&crm).await;
    let told = run(&daemon, batch(numbers(1))).await;
    let result = &told.results[0];
    assert_eq!(
        json!([result.phone_number, result.reason, result.done]),
        json!(["+16502000000", "", 1])
    );
}

#[tokio::test]
async fn a_quota_slower_than_the_time_of_a_look_up_fails_no_number() {
    let crm = FakeCrm::start(even).await;
    let quota = "quota = { rate = 10, per = \"1s\", burst = 1, prefetch_share = 1.0 }";
    let lookup = "[lookup]\ntimeout = \"1s\"\n";
    let toml = format!(
        "{lookup}[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}\n",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    let finished = run(&daemon, batch(numbers(20))).await.finished.unwrap();
    // Whose credential it is, a search for each, and deals for those who are found: a tenth of a
    // second apart.
    assert_eq!(
        (
            finished.found,
            finished.not_found,
            finished.failed,
            finished.crm_requests
        ),
        (10, 10, 0, 31)
    );
}

#[tokio::test]
async fn stored_answers_are_not_even_counted_for_a_credential_that_does_not_prove_itself() {
    let crm = FakeCrm::start(even).await;
    let daemon = TestDaemon::over(&crm).await;
    run(&daemon, batch(numbers(4))).await;
    for status in [503, 401] {
        // A CRM that is away for longer than a batch waits.
        crm.becomes(move |_| Reply::status(status).header("retry-after", "600"));
        let stolen = under(batch(numbers(4)), &format!("Bearer false{status}"));
        let told = run(&daemon, stolen).await;
        assert_eq!(told.started.already_cached, 0, "{status}");
        let cached = told
            .results
            .iter()
            .filter(|result| result.outcome() == PrefetchOutcome::AlreadyCached)
            .count();
        assert_eq!(
            (
                cached,
                told.results
                    .iter()
                    .map(|result| result.match_count)
                    .sum::<u32>()
            ),
            (0, 0),
            "{status}"
        );
    }
}

#[tokio::test]
async fn calls_of_numbers_that_fail_are_counted_too() {
    let crm = FakeCrm::start(|_| Reply::status(404)).await;
    let daemon = TestDaemon::over(&crm).await;
    let finished = run(&daemon, batch(numbers(5))).await.finished.unwrap();
    assert_eq!(
        (finished.failed, finished.crm_requests),
        (5, 1 + 5),
        "whose credential it is, then each number"
    );
}

#[tokio::test]
async fn sigterm_ends_the_stream_with_what_was_done() {
    let crm = FakeCrm::start(|seen| even(seen).after(Duration::from_millis(50))).await;
    let quota = "quota = { rate = 40, per = \"1s\", burst = 10, prefetch_share = 1.0 }";
    let toml = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}\n",
        crm.url()
    );
    let program = Program::start(&toml).await;
    let channel = Endpoint::from_shared(program.grpc.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = ContactServiceClient::new(channel);
    let stream = client
        .prefetch_contacts(batch(numbers(1000)))
        .await
        .unwrap()
        .into_inner();
    let told = follow(stream, |results| {
        if results == 10 {
            program.signal(Signal::SIGTERM);
        }
    })
    .await;
    let (sums, status) = (told.finished.unwrap(), told.status.unwrap());
    assert_eq!(
        (status.code(), details(&status).reason.as_str()),
        (Code::Unavailable, "STOPPING")
    );
    let done = sums.found + sums.not_found + sums.failed;
    assert_eq!(done as usize, told.results.len());
    assert!((10..200).contains(&done), "{done}");
    assert!(
        crm.searches() <= told.results.len() + 1,
        "what was begun was told"
    );
    drop(client);
    assert_eq!(program.end().await.0, Some(0));
}

#[tokio::test]
async fn a_credential_that_ends_in_the_middle_dooms_the_rest() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let crm = FakeCrm::start(move |seen| {
        match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0..40 => even(seen),
            _ => Reply::status(401),
        }
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let told = run(&daemon, batch(numbers(500))).await;
    let status = told.status.unwrap();
    assert_eq!(
        (status.code(), details(&status).reason.as_str()),
        (Code::Unauthenticated, "CRM_UNAUTHENTICATED")
    );
    assert!(
        told.results.len() >= 20 && told.finished.is_none(),
        "{}",
        told.results.len()
    );
    assert!(crm.seen().len() < 120, "{}", crm.seen().len());
}

#[tokio::test]
async fn a_batch_takes_no_more_than_its_share_as_the_crm_counts_it() {
    let crm = FakeCrm::start(|seen| example(seen, &[])).await;
    let quota = "quota = { rate = 40, per = \"1s\", burst = 4, prefetch_share = 0.5 }";
    let toml = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}\n",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    let stopwatch = Stopwatch::start();
    let told = run(&daemon, batch(numbers(60))).await;
    assert_eq!(told.finished.unwrap().crm_requests, 61);
    // Half of the rate, after half of the burst.
    assert!(
        stopwatch.elapsed() >= Duration::from_millis(2850),
        "{:?}",
        stopwatch.elapsed()
    );
}
