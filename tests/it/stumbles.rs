//! A CRM that stumbles: it limits in ways of its own, breaks connections, and is away for seconds
//! or for longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::pb::v1::{PrefetchOutcome, Source};
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use crate::prefetch::{Told, batch, run};
use crate::support::crm::{Seen, example, themselves};
use crate::support::daemon::{Changed as _, details};
use crate::support::fleet::{ada, source};
use crate::support::wire::failure_within;
use crate::support::{FakeCrm, Reply, TestDaemon, find};

fn number(n: usize) -> String {
    format!("+1650{:07}", 2_000_000 + n)
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(number).collect()
}

/// A daemon over `crm` whose own quota is far away.
async fn daemon(crm: &FakeCrm) -> TestDaemon {
    let quota = "quota = { rate = 1000, per = \"1s\", burst = 1000, prefetch_share = 1.0 }";
    TestDaemon::start(&format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}\n",
        crm.url()
    ))
    .await
}

/// Every number was answered, none given up.
fn settled(told: &Told, count: usize) {
    let failed: Vec<_> = told
        .results
        .iter()
        .filter(|result| result.outcome() == PrefetchOutcome::Failed)
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {count} lost, {:?}",
        failed.len(),
        failed.first()
    );
    assert_eq!(
        (
            told.status.as_ref().map(tonic::Status::code),
            told.results.len()
        ),
        (None, count)
    );
}

#[tokio::test]
async fn a_403_that_says_when_to_come_back_or_that_no_call_is_left_is_a_limit_and_any_other_a_permission()
 {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = daemon(&crm).await;
    let refused = || Reply::status(403);
    let word = |body: serde_json::Value| Reply::json(body).but(403);
    let salesforce = json!([{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]);
    let google = json!({"error": {"code": 403, "errors": [{"domain": "usageLimits", "reason": "rateLimitExceeded"}]}});
    let missing = json!([{"message": "no", "errorCode": "INSUFFICIENT_ACCESS"}]);
    for (reply, code, retry_after) in [
        (
            refused().header("retry-after", "2"),
            Code::ResourceExhausted,
            Some(2),
        ),
        (
            refused()
                .header("x-ratelimit-remaining", "0")
                .header("x-ratelimit-reset", "3"),
            Code::ResourceExhausted,
            Some(3),
        ),
        (word(salesforce), Code::ResourceExhausted, Some(60)),
        (word(google), Code::ResourceExhausted, Some(60)),
        (Reply::status(420), Code::ResourceExhausted, Some(60)),
        (
            Reply::status(509).header("retry-after", "4"),
            Code::ResourceExhausted,
            Some(4),
        ),
        (
            Reply::json(json!({"error": {"rate_reset": 6.5}})).but(429),
            Code::ResourceExhausted,
            Some(6),
        ),
        (refused(), Code::PermissionDenied, None),
        (
            refused()
                .header("x-ratelimit-remaining", "7")
                .header("x-ratelimit-reset", "3"),
            Code::PermissionDenied,
            None,
        ),
        (word(missing), Code::PermissionDenied, None),
        (Reply::html().but(403), Code::PermissionDenied, None),
        (Reply::status(425), Code::Unavailable, None),
        (Reply::status(500), Code::Unavailable, None),
    ] {
        let label = format!("{reply:?}");
        crm.becomes(move |_| reply.clone());
        let status = daemon.find(find().user(&label)).await.unwrap_err();
        assert_eq!(
            (status.code(), details(&status).retry_after),
            (code, retry_after),
            "{label}"
        );
    }
}

#[tokio::test]
async fn what_pipedrive_answers_instead_of_a_429_is_a_limit_too_and_pauses_the_user() {
    let in_the_body =
        Reply::json(json!({"success": false, "error": "no", "errorCode": 429, "data": null}));
    // A client that goes on after many replies with 429 gets a block page from Cloudflare.
    for reply in [in_the_body, Reply::html().but(403)] {
        let crm = FakeCrm::start(move |seen| {
            if seen.asks_who() {
                themselves(seen)
            } else {
                reply.clone()
            }
        })
        .await;
        let daemon = TestDaemon::with(&crm, "pipedrive", "").await;
        let question = |n| {
            find()
                .platform("pipedrive")
                .hostname("acme.pipedrive.com")
                .number(&number(n))
        };
        let status = daemon.find(question(1)).await.unwrap_err();
        assert_eq!(
            (status.code(), details(&status).reason.as_str()),
            (Code::ResourceExhausted, "CRM_RATE_LIMITED")
        );
        let status = failure_within(daemon.grpc, &question(2), Duration::from_millis(300)).await;
        assert_eq!(
            details(&status).reason,
            "BUDGET_EXHAUSTED",
            "the user rests"
        );
        assert_eq!(crm.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_wait_that_a_failing_crm_announces_reaches_the_caller() {
    let crm = FakeCrm::start(|_| Reply::status(503).header("retry-after", "7")).await;
    let daemon = daemon(&crm).await;
    let status = failure_within(daemon.grpc, &find(), Duration::from_secs(3)).await;
    assert_eq!(
        (status.code(), details(&status).reason.as_str()),
        (Code::Unavailable, "CRM_UNAVAILABLE")
    );
    assert_eq!(details(&status).retry_after, Some(7));
    assert_eq!(crm.searches(), 1, "the CRM wants to be left alone");
}

#[tokio::test]
async fn a_retry_after_in_a_success_pauses_nobody() {
    let crm = FakeCrm::start(|seen| example(seen, &[]).header("retry-after", "3600")).await;
    let daemon = daemon(&crm).await;
    daemon.find(find().number(&number(1))).await.unwrap();
    let mut second = find().number(&number(2)).within(Duration::from_secs(2));
    second.get_mut().auth_header.push('2');
    daemon.find(second).await.unwrap();
    daemon
        .find(find().number(&number(3)).within(Duration::from_secs(2)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_reset_in_milliseconds_of_unix_time_is_a_matter_of_seconds() {
    // The daemon's clock stands at 2026-01-01T00:00:00Z.
    let crm = FakeCrm::start(|seen| {
        let left = if seen.param("phone") == Some("+16502000001") {
            "0"
        } else {
            "9"
        };
        example(seen, &[])
            .header("x-ratelimit-remaining", left)
            .header("x-ratelimit-reset", "1767225602000")
    })
    .await;
    let daemon = daemon(&crm).await;
    let stopwatch = Stopwatch::start();
    daemon.find(find().number(&number(1))).await.unwrap();
    daemon
        .find(find().number(&number(2)).within(Duration::from_secs(8)))
        .await
        .unwrap();
    assert!(
        stopwatch.elapsed() >= Duration::from_secs(2),
        "{:?}",
        stopwatch.elapsed()
    );
}

#[tokio::test]
async fn a_read_is_sent_again_once_after_a_502_503_or_504() {
    for status in [502, 503, 504] {
        let crm = FakeCrm::with(vec![]).await;
        let daemon = daemon(&crm).await;
        daemon.find(find()).await.unwrap();
        let calls = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&calls);
        crm.becomes(move |seen| match counted.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::status(status),
            _ => example(seen, &[]),
        });
        let answer = daemon.find(find().number(&number(1))).await.unwrap();
        assert_eq!(answer.lookup.unwrap().crm_requests, 2, "both count");
        calls.store(0, Ordering::Relaxed);
        crm.becomes(move |_| Reply::status(status));
        let before = crm.searches();
        assert_eq!(
            daemon
                .find(find().number(&number(2)))
                .await
                .unwrap_err()
                .code(),
            Code::Unavailable
        );
        assert_eq!(crm.searches() - before, 2, "once");
    }
}

#[tokio::test]
async fn a_read_sent_again_takes_a_permit_of_its_own() {
    let crm = FakeCrm::start(|_| Reply::status(503)).await;
    let quota = "quota = { rate = 1, per = \"60s\", burst = 1 }\nidentity = \"caller\"";
    let toml = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}\n",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    let status = daemon
        .find(find().within(Duration::from_secs(5)))
        .await
        .unwrap_err();
    assert_eq!(
        details(&status).reason,
        "CRM_UNAVAILABLE",
        "what the CRM said counts, not that there is no second call"
    );
    assert_eq!(crm.searches(), 1);
}

/// A CRM that hangs up on the second request of each connection, as some servers and balancers do
/// whose keep-alive ends at that very moment.
async fn hangs_up() -> (String, Arc<AtomicUsize>) {
    async fn head(stream: &mut TcpStream) -> std::io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let hung_up = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&hung_up);
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let head_of_first = head(&mut stream).await?;
                let body = match head_of_first.contains("/me ") {
                    true => json!({"id": "u", "account_id": "a"}),
                    false => json!({"contacts": [], "next_page": null}),
                };
                let body = body.to_string();
                let head_of_reply =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream
                    .write_all(format!("{head_of_reply}{body}").as_bytes())
                    .await?;
                head(&mut stream).await?;
                counted.fetch_add(1, Ordering::Relaxed);
                std::io::Result::Ok(())
            });
        }
    });
    (url, hung_up)
}

#[tokio::test]
async fn a_server_that_hangs_up_on_the_second_request_of_a_connection_loses_no_look_up() {
    let (url, hung_up) = hangs_up().await;
    let quota = "quota = { rate = 1000, per = \"1s\", burst = 1000, prefetch_share = 1.0 }";
    let toml = format!("[connectors.example]\nkind = \"example\"\nbase_url = \"{url}\"\n{quota}\n");
    let daemon = TestDaemon::start(&toml).await;
    for n in 0..10 {
        let answer = daemon.find(find().number(&number(n))).await;
        assert!(answer.is_ok(), "look-up {n}: {answer:?}");
    }
    let calls = (10..20).map(|n| daemon.find(find().number(&number(n))));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    let told = run(&daemon, batch((100..140).map(number).collect())).await;
    settled(&told, 40);
    assert!(hung_up.load(Ordering::Relaxed) > 0, "it did hang up");
}

/// A CRM that answers at most `most` calls within any second, as it counts them, and the number of
/// calls that it refused.
async fn strict(
    most: usize,
    refusal: impl Fn() -> Reply + Send + 'static,
) -> (FakeCrm, Arc<AtomicUsize>) {
    let refused = Arc::<AtomicUsize>::default();
    let (counted, taken) = (Arc::clone(&refused), Mutex::new(Vec::<Stopwatch>::new()));
    let crm = FakeCrm::start(move |seen| {
        let mut taken = taken.lock();
        taken.retain(|since| since.elapsed() < Duration::from_secs(1));
        if taken.len() < most {
            taken.push(Stopwatch::start());
            return example(seen, &[]);
        }
        counted.fetch_add(1, Ordering::Relaxed);
        refusal()
    })
    .await;
    (crm, refused)
}

#[tokio::test]
async fn a_batch_waits_out_a_limit_that_is_said_by_403() {
    for says_when in [true, false] {
        let taken = AtomicUsize::new(0);
        let crm = FakeCrm::start(move |seen| match taken.fetch_add(1, Ordering::Relaxed) {
            20..24 => {
                let refusal = Reply::status(403)
                    .header("x-ratelimit-remaining", "0")
                    .header("x-ratelimit-reset", "2");
                if says_when {
                    refusal.header("retry-after", "2")
                } else {
                    refusal
                }
            }
            _ => example(seen, &[]),
        })
        .await;
        let daemon = daemon(&crm).await;
        settled(&run(&daemon, batch(numbers(60))).await, 60);
    }
}

#[tokio::test]
async fn a_batch_under_a_crm_that_allows_a_tenth_of_the_settings_loses_nothing_and_phones_are_answered()
 {
    let (crm, refused) = strict(5, || Reply::status(429)).await;
    let daemon = TestDaemon::with(&crm, "example", "").await;
    let stopwatch = Stopwatch::start();
    let phones = async {
        let mut answered = 0;
        for n in 0..4 {
            clock::sleep(Duration::from_secs(1)).await;
            let request = find()
                .number(&number(1000 + n))
                .within(Duration::from_secs(5));
            answered += usize::from(daemon.find(request).await.is_ok());
        }
        answered
    };
    let (told, answered) = tokio::join!(run(&daemon, batch(numbers(60))), phones);
    settled(&told, 60);
    let (took, refused) = (stopwatch.elapsed(), refused.load(Ordering::Relaxed));
    assert!(
        answered == 4 && took < Duration::from_secs(22) && refused < 15,
        "{answered}, {took:?}, {refused} refusals"
    );
}

/// A CRM that replies 503 while `away` is true, and otherwise knows nobody.
fn away(seen: &Seen, away: bool) -> Reply {
    if away {
        Reply::status(503)
    } else {
        example(seen, &[])
    }
}

#[tokio::test]
async fn a_batch_waits_out_seconds_of_trouble_and_loses_no_number() {
    let (taken, began) = (AtomicUsize::new(0), Mutex::new(None::<Stopwatch>));
    let crm = FakeCrm::start(move |seen| {
        let in_trouble = taken.fetch_add(1, Ordering::Relaxed) >= 20 && {
            let since = *began.lock().get_or_insert_with(Stopwatch::start);
            since.elapsed() < Duration::from_secs(4)
        };
        away(seen, in_trouble)
    })
    .await;
    let daemon = daemon(&crm).await;
    let stopwatch = Stopwatch::start();
    let told = run(&daemon, batch(numbers(200))).await;
    settled(&told, 200);
    assert!(
        stopwatch.elapsed() >= Duration::from_secs(4),
        "there was trouble"
    );
}

#[tokio::test]
async fn a_batch_ends_with_a_status_when_the_trouble_lasts_and_does_not_burn_the_rest() {
    let taken = AtomicUsize::new(0);
    let crm =
        FakeCrm::start(move |seen| away(seen, taken.fetch_add(1, Ordering::Relaxed) >= 20)).await;
    let daemon = daemon(&crm).await;
    let stopwatch = Stopwatch::start();
    let told = run(&daemon, batch(numbers(500))).await;
    let status = told.status.unwrap();
    assert_eq!(
        (status.code(), details(&status).reason.as_str()),
        (Code::Unavailable, "CRM_UNAVAILABLE")
    );
    assert!(told.finished.is_none());
    let took = stopwatch.elapsed();
    assert!(
        took > Duration::from_secs(10) && took < Duration::from_secs(40),
        "{took:?}"
    );
    let failed = told
        .results
        .iter()
        .filter(|result| result.outcome() == PrefetchOutcome::Failed)
        .count();
    assert!(
        failed <= 1 && crm.searches() < 150,
        "{failed} given up, {} searches",
        crm.searches()
    );
}

#[tokio::test]
async fn a_batch_that_is_told_to_come_back_much_later_ends_with_that_word() {
    let taken = AtomicUsize::new(0);
    let crm = FakeCrm::start(move |seen| match taken.fetch_add(1, Ordering::Relaxed) {
        0..10 => example(seen, &[]),
        _ => Reply::status(429).header("retry-after", "900"),
    })
    .await;
    let daemon = daemon(&crm).await;
    let stopwatch = Stopwatch::start();
    let status = run(&daemon, batch(numbers(100))).await.status.unwrap();
    assert_eq!(
        (status.code(), details(&status).retry_after),
        (Code::ResourceExhausted, Some(900))
    );
    assert!(
        stopwatch.elapsed() < Duration::from_secs(5),
        "{:?}",
        stopwatch.elapsed()
    );
}

#[tokio::test]
async fn a_batch_whose_first_call_meets_trouble_waits_it_out_too() {
    let began = Stopwatch::start();
    let crm =
        FakeCrm::start(move |seen| away(seen, began.elapsed() < Duration::from_secs(3))).await;
    let daemon = daemon(&crm).await;
    settled(&run(&daemon, batch(numbers(20))).await, 20);
}

#[tokio::test]
async fn what_a_batch_stores_after_trouble_is_found_once_the_crm_names_the_owner() {
    let asked = AtomicUsize::new(0);
    let crm = FakeCrm::start(move |seen| match asked.fetch_add(1, Ordering::Relaxed) {
        // The call is sent again once.
        0 | 1 => Reply::status(503),
        _ => ada(seen),
    })
    .await;
    let daemon = daemon(&crm).await;
    settled(&run(&daemon, batch(numbers(20))).await, 20);
    // By then the CRM may be asked again whose a credential is.
    daemon.clock.advance(Duration::from_secs(61));
    // The first number has shown that the trouble is over. It is looked up again.
    for n in (1..20).chain(1..20) {
        let answer = daemon.find(find().number(&number(n))).await.unwrap();
        assert_eq!(source(&answer), Source::Memory, "number {n}");
    }
}
