//! `WatchContact`: what is known while the phone rings, as it becomes better. `calls` compares what
//! the CRM is asked with what the same look-up asks.

use std::time::Duration;

use contactd::clock;
use contactd::pb::v1::watch_contact_response::Event;
use contactd::pb::v1::{FindContactRequest, FindContactResponse, Freshness, Source};
use serde_json::{Value, json};
use tonic::{Code, Request, Status};

use crate::clients::{sha256, with_token};
use crate::commands::{contactd, run, text};
use crate::http::calls::{Answer, BOTH, Port, envelope, opened, question_of};
use crate::support::crm::{Seen, example, themselves};
use crate::support::daemon::{Changed as _, NUMBER, details, names};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find, refresh};

mod calls;

const WATCH: &str = "/contactd.v1.ContactService/WatchContact";

/// When a stored contact is stale, and when a stored "nobody" is.
const STALE: Duration = Duration::from_secs(11 * 60);
const STALE_NOBODY: Duration = Duration::from_secs(2 * 60);

/// Source and freshness of an answer, and whether it is complete.
type Provenance = (Source, Freshness, bool);

/// The answers of a watch, whether it asked first, and how it ended.
struct Watched {
    asked: bool,
    answers: Vec<FindContactResponse>,
    end: Result<(), Status>,
}

impl Watched {
    /// The names of the answers that name others than the one before.
    fn names(&self) -> Vec<Vec<&str>> {
        let mut names: Vec<_> = self.answers.iter().map(names).collect();
        names.dedup();
        names
    }

    /// Where the first and the last answer are from.
    fn ends(&self) -> [Provenance; 2] {
        let sources = self.sources();
        [sources[0], *sources.last().unwrap()]
    }

    fn sources(&self) -> Vec<Provenance> {
        let lookups = self
            .answers
            .iter()
            .map(|answer| answer.lookup.as_ref().unwrap());
        lookups
            .map(|lookup| (lookup.source(), lookup.freshness(), lookup.complete))
            .collect()
    }

    /// The watch went well.
    fn ended(&self) -> &Self {
        self.end.as_ref().unwrap();
        self
    }
}

async fn watch(
    daemon: &TestDaemon,
    request: impl tonic::IntoRequest<FindContactRequest>,
) -> Watched {
    let mut watched = Watched {
        asked: false,
        answers: Vec::new(),
        end: Ok(()),
    };
    let mut client = daemon.client.clone();
    let mut events = match client.watch_contact(request).await {
        Ok(events) => events.into_inner(),
        Err(status) => {
            watched.end = Err(status);
            return watched;
        }
    };
    loop {
        match events.message().await {
            Ok(Some(response)) => match response.event.unwrap() {
                Event::Asking(_) => {
                    assert!(
                        !watched.asked && watched.answers.is_empty(),
                        "first or never"
                    );
                    watched.asked = true;
                }
                Event::Answer(answer) => watched.answers.push(answer),
            },
            Ok(None) => return watched,
            Err(status) => {
                watched.end = Err(status);
                return watched;
            }
        }
    }
}

/// One contact with this name and a deal.
fn named(name: &'static str) -> impl Fn(&Seen) -> Reply + Send + Clone + 'static {
    move |seen| {
        if seen.path.ends_with("/deals") {
            Reply::json(json!({"deals": [{"id": 7, "title": "Renewal"}], "next_page": null}))
        } else {
            example(seen, &[contact(1, name, NUMBER)])
        }
    }
}

/// The same, but replies of this path come late.
fn late(
    script: impl Fn(&Seen) -> Reply + Send + 'static,
    path: &'static str,
    delay: Duration,
) -> impl Fn(&Seen) -> Reply + Send + 'static {
    move |seen| {
        let reply = script(seen);
        if seen.path.ends_with(path) {
            reply.after(delay)
        } else {
            reply
        }
    }
}

async fn ada() -> (FakeCrm, TestDaemon) {
    let crm = FakeCrm::start(named("Ada")).await;
    let daemon = TestDaemon::over(&crm).await;
    (crm, daemon)
}

/// Ada is stored, and stale.
async fn stale_ada() -> (FakeCrm, TestDaemon) {
    let (crm, daemon) = ada().await;
    daemon.find(find()).await.unwrap();
    daemon.clock.advance(STALE);
    (crm, daemon)
}

const FROM_CRM: Provenance = (Source::Crm, Freshness::Fresh, true);
const OLD: Provenance = (Source::Memory, Freshness::Stale, true);

#[tokio::test]
async fn a_fresh_answer_is_the_only_event() {
    let (_crm, daemon) = ada().await;
    let stored = daemon.find(find()).await.unwrap();
    let watched = watch(&daemon, find()).await;
    assert!(!watched.ended().asked);
    assert_eq!(
        watched.sources(),
        [(Source::Memory, Freshness::Fresh, true)]
    );
    assert_eq!(
        watched.answers[0].matched_contact_info,
        stored.matched_contact_info
    );
    assert_eq!(watched.answers[0].return_message, stored.return_message);
}

#[tokio::test]
async fn a_stale_answer_comes_at_once_and_then_the_crms_if_it_differs() {
    let (crm, daemon) = stale_ada().await;
    crm.becomes(late(
        named("Ada King"),
        "/contacts",
        Duration::from_millis(300),
    ));
    let searches = crm.searches();
    let mut client = daemon.client.clone();
    let mut events = client.watch_contact(find()).await.unwrap().into_inner();
    let Some(Event::Answer(first)) = events.message().await.unwrap().unwrap().event else {
        panic!("something is stored")
    };
    assert_eq!(names(&first), ["Ada"]);
    assert_eq!(first.lookup.unwrap().freshness(), Freshness::Stale);
    assert!(
        first
            .return_message
            .unwrap()
            .message
            .contains("earlier look-up")
    );
    let mut last = None;
    while let Some(response) = events.message().await.unwrap() {
        last = response.event;
    }
    let Some(Event::Answer(last)) = last else {
        panic!("the CRM answers")
    };
    assert_eq!(names(&last), ["Ada King"]);
    let lookup = last.lookup.unwrap();
    assert_eq!((lookup.source(), lookup.complete), (Source::Crm, true));
    assert_eq!(crm.searches(), searches + 1);
    let stored = daemon.find(find()).await.unwrap();
    assert_eq!(
        (names(&stored), crm.searches()),
        (vec!["Ada King"], searches + 1)
    );
}

#[tokio::test]
async fn a_stale_answer_that_the_crm_confirms_or_fails_to_confirm_is_the_last_one() {
    let (crm, daemon) = stale_ada().await;
    let watched = watch(&daemon, find()).await;
    assert_eq!(
        (watched.ended().names(), watched.sources()),
        (vec![vec!["Ada"]], vec![OLD])
    );
    daemon.clock.advance(STALE);
    crm.becomes(|_| Reply::status(500));
    let watched = watch(&daemon, find()).await;
    assert_eq!(
        (watched.ended().names(), watched.sources()),
        (vec![vec!["Ada"]], vec![OLD])
    );
}

#[tokio::test]
async fn a_stale_nobody_is_shown_at_once_and_then_whom_the_crm_knows_by_now() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    daemon.clock.advance(STALE_NOBODY);
    // Longer than a look-up waits for news.
    crm.becomes(late(named("Ada"), "/contacts", Duration::from_millis(1200)));
    let watched = watch(&daemon, find()).await;
    assert_eq!(watched.ended().names(), [vec![], vec!["Ada"]]);
    assert_eq!(watched.ends(), [OLD, FROM_CRM]);
}

#[tokio::test]
async fn if_nothing_is_stored_names_come_before_their_details() {
    let crm = FakeCrm::start(late(named("Ada"), "/deals", Duration::from_millis(700))).await;
    let daemon = TestDaemon::with(&crm, "example", "[lookup]\ndetails_timeout = \"50ms\"\n").await;
    let watched = watch(&daemon, find()).await;
    assert!(watched.ended().asked);
    assert_eq!(watched.names(), [["Ada"]]);
    assert_eq!(
        watched.sources(),
        [(Source::Crm, Freshness::Fresh, false), FROM_CRM]
    );
    let deals = |answer: &FindContactResponse| {
        let info = answer.matched_contact_info[0].additional_info.clone();
        info.is_some_and(|info| info.fields.contains_key("deals"))
    };
    assert_eq!(
        watched.answers.iter().map(deals).collect::<Vec<_>>(),
        [false, true]
    );
    let stored = daemon.find(find()).await.unwrap().lookup.unwrap();
    assert_eq!((stored.source(), stored.complete), (Source::Memory, true));
}

#[tokio::test]
async fn names_without_details_do_not_replace_the_same_names_with_them() {
    let (crm, daemon) = stale_ada().await;
    crm.becomes(late(named("Ada"), "/deals", Duration::from_millis(300)));
    let watched = watch(&daemon, find()).await;
    assert_eq!(
        (watched.ended().sources(), watched.names()),
        (vec![OLD], vec![vec!["Ada"]])
    );
    // Another daemon, because the first one may not know yet that its refresh has ended.
    let (crm, daemon) = stale_ada().await;
    crm.becomes(late(named("Eve"), "/deals", Duration::from_millis(300)));
    let watched = watch(&daemon, find()).await;
    assert_eq!(watched.ended().names(), [["Ada"], ["Eve"]]);
    let names_only = (Source::Crm, Freshness::Fresh, false);
    assert_eq!(watched.sources(), [OLD, names_only, FROM_CRM]);
}

#[tokio::test]
async fn a_manual_refresh_shows_what_is_stored_until_the_crm_answers() {
    let (crm, daemon) = ada().await;
    let watched = watch(&daemon, refresh()).await;
    assert!(watched.ended().asked, "nothing is stored");
    crm.becomes(late(
        named("Ada King"),
        "/contacts",
        Duration::from_millis(200),
    ));
    let watched = watch(&daemon, refresh()).await;
    assert_eq!(watched.ended().names(), [["Ada"], ["Ada King"]]);
    assert_eq!(watched.ends(), [OLD, FROM_CRM]);
    // It fails as the look-up does, after what is stored.
    crm.becomes(|_| Reply::status(500));
    let watched = watch(&daemon, refresh()).await;
    let status = watched.end.as_ref().unwrap_err();
    assert_eq!(details(status).reason, "CRM_UNAVAILABLE");
    assert_eq!(watched.names(), [["Ada King"]]);
}

#[tokio::test]
async fn a_manual_refresh_that_takes_long_still_brings_the_crms_answer() {
    let (crm, daemon) = (
        FakeCrm::start(named("Ada")).await,
        "[lookup]\nsoft_deadline = \"100ms\"\n",
    );
    let daemon = TestDaemon::with(&crm, "example", daemon).await;
    daemon.find(find()).await.unwrap();
    crm.becomes(late(
        named("Ada King"),
        "/contacts",
        Duration::from_millis(600),
    ));
    let watched = watch(&daemon, refresh()).await;
    assert_eq!(watched.ended().names(), [["Ada"], ["Ada King"]]);
    // The CRM's names differ from the stored ones.
    crm.becomes(late(named("Eve"), "/deals", Duration::from_millis(600)));
    let watched = watch(&daemon, refresh()).await;
    assert_eq!(watched.ended().names(), [["Ada King"], ["Eve"]]);
    // If the refresh fails only after the stored answer would have been served, the watch does not
    // fail.
    crm.becomes(late(|_| Reply::status(500), "", Duration::from_millis(600)));
    let watched = watch(&daemon, refresh()).await;
    assert_eq!(watched.ended().names(), [["Eve"]]);
}

#[tokio::test]
async fn failures_are_those_of_a_look_up() {
    let (crm, daemon) = ada().await;
    let only_if_cached = FindContactRequest {
        only_if_cached: true,
        ..find()
    };
    for request in [
        find().number("no digits"),
        find().platform("none"),
        find().auth(""),
        only_if_cached,
    ] {
        let expected = daemon.find(request.clone()).await.unwrap_err();
        let watched = watch(&daemon, request).await;
        let status = watched.end.as_ref().unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (expected.code(), expected.message())
        );
        assert_eq!(details(status).fields, details(&expected).fields);
        assert!(!watched.asked && watched.answers.is_empty());
    }
    for (status, reason) in [(401, "CRM_UNAUTHENTICATED"), (403, "CRM_FORBIDDEN")] {
        crm.becomes(move |_| Reply::status(status));
        let watched = watch(&daemon, find().user(reason)).await;
        let status = watched.end.as_ref().unwrap_err();
        assert_eq!(details(status).reason, reason);
        assert!(watched.answers.is_empty() && details(status).message.is_some());
    }
    let withheld = watch(&daemon, find().number("anonymous")).await;
    assert_eq!(withheld.ended().answers.len(), 1);
}

#[tokio::test]
async fn nothing_stored_is_shown_before_the_crm_accepts_the_credential_again() {
    let (crm, daemon) = ada().await;
    daemon.find(find()).await.unwrap();
    crm.becomes(|_| Reply::status(401));
    for request in [find().auth("Bearer false"), refresh().auth("Bearer false")] {
        let watched = watch(&daemon, request).await;
        assert_eq!(
            watched.end.as_ref().unwrap_err().code(),
            Code::Unauthenticated
        );
        assert!(watched.answers.is_empty());
    }
    daemon.clock.advance(Duration::from_secs(2 * 3600));
    let watched = watch(&daemon, find()).await;
    assert_eq!(
        watched.end.as_ref().unwrap_err().code(),
        Code::Unauthenticated
    );
    assert!(watched.answers.is_empty());
    // Once it is accepted, the stored answer is shown, and then the CRM's.
    let (crm, daemon) = stale_ada().await;
    daemon.clock.advance(Duration::from_secs(2 * 3600));
    crm.becomes(named("Ada King"));
    let watched = watch(&daemon, find()).await;
    assert_eq!(watched.ended().names(), [["Ada"], ["Ada King"]]);
    assert!(!watched.asked);
}

#[tokio::test]
async fn a_watch_ends_with_its_deadline() {
    let (crm, daemon) = stale_ada().await;
    let hangs = |seen: &Seen| match seen.asks_who() {
        true => themselves(seen),
        false => Reply::status(200).after(Duration::from_secs(60)),
    };
    crm.becomes(hangs);
    let limit = Duration::from_millis(400);
    let watched = watch(&daemon, find().within(limit)).await;
    assert_eq!(watched.ended().names(), [["Ada"]]);
    let watched = watch(&daemon, find().number("+16505550000").within(limit)).await;
    let status = watched.end.as_ref().unwrap_err();
    assert_eq!(details(status).reason, "DEADLINE_EXCEEDED");
    assert!(watched.asked && watched.answers.is_empty());
}

#[tokio::test]
async fn a_watch_without_a_deadline_ends_with_the_time_of_a_look_up() {
    let crm = FakeCrm::start(named("Ada")).await;
    let daemon = TestDaemon::with(&crm, "example", "[lookup]\ntimeout = \"400ms\"\n").await;
    daemon.find(find()).await.unwrap();
    daemon.clock.advance(STALE);
    crm.becomes(late(
        named("Ada King"),
        "/contacts",
        Duration::from_secs(60),
    ));
    let ended = clock::timeout(Duration::from_secs(10), watch(&daemon, find())).await;
    assert_eq!(ended.expect("it ends").ended().names(), [["Ada"]]);
}

/// A daemon whose only client may have so many calls at once.
async fn limited(crm: &FakeCrm, most: usize) -> TestDaemon {
    let entry = format!(
        "{{ name = \"pbx\", sha256 = \"{}\", max_in_flight = {most} }}",
        sha256("pbx")
    );
    TestDaemon::with(crm, "example", &format!("[grpc]\ntokens = [{entry}]\n")).await
}

fn from_pbx(request: FindContactRequest) -> Request<FindContactRequest> {
    with_token("Bearer pbx", request)
}

/// Waits until the client has a place for one more call.
async fn has_a_place(daemon: &TestDaemon) {
    let has_place = async {
        while daemon
            .find(from_pbx(find().number("anonymous")))
            .await
            .is_err()
        {
            clock::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = clock::timeout(Duration::from_secs(10), has_place).await;
    assert!(in_time.is_some(), "the places come back");
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_places_back() {
    let crm = FakeCrm::start(|seen| match seen.asks_who() {
        true => themselves(seen),
        false => Reply::status(200).after(Duration::from_secs(60)),
    })
    .await;
    let daemon = limited(&crm, 2).await;
    for round in 1..4 {
        let mut open = Vec::new();
        for n in 0..2 {
            let request = from_pbx(find().user(&format!("user-{round}-{n}")));
            let events = daemon.client.clone().watch_contact(request).await;
            let mut events = events.unwrap().into_inner();
            let first = events.message().await.unwrap().unwrap().event;
            assert!(matches!(first, Some(Event::Asking(_))));
            open.push(events);
        }
        let watched = watch(&daemon, from_pbx(find())).await;
        let status = watched.end.as_ref().unwrap_err();
        assert_eq!(details(status).reason, "OVERLOADED");
        drop(open);
        has_a_place(&daemon).await;
        let series = "contactd_lookups_total{platform=\"example\",trigger=\"incoming_call\",source=\"none\",\
                      outcome=\"cancelled\"}";
        let cancelled = async {
            while daemon.metric(series).await != Some(f64::from(2 * round)) {
                clock::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = clock::timeout(Duration::from_secs(10), cancelled).await;
        assert!(in_time.is_some(), "each is counted");
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_no_place() {
    let crm = FakeCrm::start(named("Ada")).await;
    let daemon = limited(&crm, 1).await;
    daemon.find(from_pbx(find())).await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..10 {
        unread.push(
            daemon
                .client
                .clone()
                .watch_contact(from_pbx(find()))
                .await
                .unwrap(),
        );
        has_a_place(&daemon).await;
    }
}

#[tokio::test]
async fn several_watchers_see_one_refresh() {
    let (crm, daemon) = stale_ada().await;
    crm.becomes(late(
        named("Ada King"),
        "/contacts",
        Duration::from_millis(500),
    ));
    let searches = crm.searches();
    let (one, other, third) = tokio::join!(
        watch(&daemon, find()),
        watch(&daemon, find()),
        watch(&daemon, find())
    );
    for watched in [one, other, third] {
        assert_eq!(watched.ended().names(), [["Ada"], ["Ada King"]]);
    }
    assert_eq!(crm.searches(), searches + 1);
}

#[tokio::test]
async fn it_is_counted_by_method_and_as_one_look_up() {
    let (crm, daemon) = stale_ada().await;
    crm.becomes(named("Ada King"));
    assert_eq!(watch(&daemon, find()).await.ended().names().len(), 2);
    watch(&daemon, find().number("no digits"))
        .await
        .end
        .unwrap_err();
    for (series, value) in [
        ("calls_total{method=\"WatchContact\"}", 2.0),
        ("calls_total{method=\"FindContact\"}", 1.0),
        (
            "lookups_total{platform=\"example\",trigger=\"incoming_call\",source=\"memory\",outcome=\"found\"}",
            1.0,
        ),
        (
            "lookups_total{platform=\"example\",trigger=\"incoming_call\",source=\"crm\",outcome=\"found\"}",
            1.0,
        ),
        (
            "lookups_total{platform=\"example\",trigger=\"incoming_call\",source=\"none\",outcome=\"invalid_request\"}",
            1.0,
        ),
    ] {
        let series = format!("contactd_{series}");
        assert_eq!(daemon.metric(&series).await, Some(value), "{series}");
    }
}

#[tokio::test]
async fn it_is_a_stream_of_the_connect_protocol_too() {
    let (crm, daemon) = ada().await;
    for (version, user) in BOTH.into_iter().zip(["one", "two"]) {
        let port = Port::new(daemon.grpc, version);
        let watched = async |question: &Value| {
            let body = envelope(0, question.to_string().as_bytes());
            let request = port.post(WATCH, "application/connect+json", body);
            let answer = Answer::to(request.header("connect-timeout-ms", "5000")).await;
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (200, "application/connect+json")
            );
            let messages = opened(&answer.body).into_iter();
            messages
                .map(|(flags, message)| (flags, serde_json::from_slice::<Value>(&message).unwrap()))
                .collect::<Vec<_>>()
        };
        let events = watched(&question_of(user)).await;
        assert_eq!(events[0], (0, json!({"asking": {}})));
        let (_, answer) = &events[events.len() - 2];
        assert_eq!(answer["answer"]["matchedContactInfo"][0]["name"], "Ada");
        assert_eq!(answer["answer"]["lookup"]["complete"], true);
        assert_eq!(
            answer["answer"]["matchedContactInfo"][1]["isNewContact"],
            true
        );
        assert_eq!(events.last().unwrap(), &(2, json!({})));
        let events = watched(&json!({"phoneNumber": NUMBER})).await;
        assert_eq!(
            (events.len(), &events[0].1["error"]["code"]),
            (1, &json!("invalid_argument"))
        );
    }
    assert_eq!(crm.searches(), 2);
}

#[tokio::test]
async fn the_command_prints_each_event() {
    let (crm, daemon) = ada().await;
    let url = format!("http://{}", daemon.grpc);
    let asked = async |more: &[&str]| {
        let mut args = vec![
            "find",
            NUMBER,
            "--watch",
            "--user-id",
            "user-1",
            "--server",
            &url,
        ];
        args.extend(more);
        run(contactd(&args)).await
    };
    let output = asked(&[]).await;
    let told = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{told}{}",
        text(&output.stderr)
    );
    assert!(
        told.starts_with("Asking the CRM\n") && told.contains("Ada"),
        "{told}"
    );
    daemon.clock.advance(STALE);
    crm.becomes(named("Ada King"));
    let told = text(&asked(&["--output", "json"]).await.stdout);
    let events: Vec<Value> = serde_json::Deserializer::from_str(&told)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let name = |event: &Value| event["answer"]["matchedContactInfo"][0]["name"].clone();
    let mut names: Vec<_> = events.iter().map(name).collect();
    names.dedup();
    assert_eq!(names, ["Ada", "Ada King"]);
    daemon.clock.advance(STALE);
    crm.becomes(named("Ada Lovelace"));
    let told = text(&asked(&[]).await.stdout);
    let answers: Vec<_> = told.split("\n\nFound 1 contact").collect();
    assert!(
        answers.len() > 1 && answers[0].starts_with("Found 1 contact"),
        "a blank line stands between answers: {told}"
    );
    crm.becomes(|_| Reply::status(401));
    let output = asked(&["--refresh"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("CRM_UNAUTHENTICATED"));
    let nothing = asked(&["--only-if-cached"]).await;
    assert_eq!(nothing.status.code(), Some(3));
}
