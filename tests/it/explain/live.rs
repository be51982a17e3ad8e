//! With `live`: each call without its values, each record with its verdict, and the answer.

use contactd::pb::v1::{CrmExchange, RecordVerdict};
use serde_json::{Value, json};

use super::*;

async fn live(daemon: &TestDaemon, question: FindContactRequest) -> ExplainContactResponse {
    ask(daemon, about(question, true)).await.unwrap()
}

fn paths(explained: &ExplainContactResponse) -> Vec<(&str, &str, u32)> {
    let calls = explained.exchanges.iter();
    calls
        .map(|call| (call.method.as_str(), call.path.as_str(), call.status))
        .collect()
}

fn record(id: u32, name: &str, phones: &[&str]) -> Value {
    let phones = phones
        .iter()
        .map(|phone| json!({"label": "work", "number": phone}));
    json!({"id": id, "kind": "person", "name": name, "phones": phones.collect::<Vec<_>>()})
}

#[tokio::test]
async fn it_shows_each_call_without_values_and_each_record_with_its_verdict() {
    let crm = FakeCrm::with(vec![
        record(1701, "Dropped Doe", &["+49 30 1234567", "+44 20 7946 0000"]),
        record(1702, "Exact Ada", &["+49 30 1234567", "+1 650 555 1234"]),
        record(1703, "Likely Lee", &["650-555-1234"]),
        record(1704, "Unverified Una", &[]),
        record(1702, "Exact Ada", &["+1 650 555 1234"]),
    ])
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let explained = live(&daemon, find()).await;
    let verdicts: Vec<_> = explained
        .records
        .iter()
        .map(|record| {
            (
                record.id.as_str(),
                record.verdict.as_str(),
                record.because.as_str(),
            )
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            ("1701", "dropped", "its phone fields are other numbers"),
            ("1702", "exact", "its phone field 2 is this number"),
            (
                "1703",
                "likely",
                "its phone field 1 is probably this number, but can be read in another way"
            ),
            (
                "1704",
                "unverified",
                "the CRM shows no phone field of it to compare"
            ),
            ("1702", "dropped", "the same record was found before"),
        ]
    );
    let answer = explained.answer.clone().unwrap();
    assert_eq!(
        names(&answer),
        ["Exact Ada", "Likely Lee", "Unverified Una"]
    );
    assert_eq!(answer.lookup.as_ref().unwrap().source(), Source::Crm);

    let mut calls = paths(&explained);
    calls.sort_unstable();
    let deals = ("GET", "/api/v1/contacts/{…}/deals", 200);
    assert_eq!(
        calls,
        [
            ("GET", "/api/v1/contacts", 200),
            deals,
            deals,
            deals,
            ("GET", "/api/v1/me", 200)
        ]
    );
    assert_eq!(
        calls.len(),
        crm.seen().len() + crm.asked_who(),
        "each call is shown"
    );
    assert!(
        explained
            .exchanges
            .iter()
            .all(|call| call.bytes > 0 && call.took.is_some())
    );
    // How long a call took may have any digits.
    let calls = explained.exchanges.iter();
    let calls: Vec<_> = calls
        .map(|call| CrmExchange {
            took: None,
            ..call.clone()
        })
        .collect();
    let shown = format!("{calls:?} {:?}", explained.records);
    for value in [
        "token-1", "555", "1234567", "7946", "Ada", "user-1", "Bearer",
    ] {
        assert!(!shown.contains(value), "{value}: {shown}");
    }

    // What it found before the look-up stands beside it.
    assert_eq!(
        (standing(&explained), explained.decision.as_str()),
        ("unknown", "ask_crm")
    );
    let stored = daemon.find(find()).await.unwrap();
    assert_eq!(stored.lookup.as_ref().unwrap().source(), Source::Memory);
    assert_eq!(names(&stored), names(&answer));
}

#[tokio::test]
async fn it_asks_the_crm_though_a_fresh_answer_is_stored_and_replaces_that() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    assert!(names(&daemon.find(find()).await.unwrap()).is_empty());
    crm.becomes(|seen| example(seen, &[contact(1, "Ada", "+16505551234")]));
    let explained = live(&daemon, find()).await;
    assert_eq!(
        (standing(&explained), explained.decision.as_str()),
        ("proven", "serve_fresh")
    );
    assert_eq!(explained.stored[0].match_count, 0);
    assert_eq!(names(explained.answer.as_ref().unwrap()), ["Ada"]);
    assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada"]);
    let series = "contactd_lookups_total{platform=\"example\",trigger=\"manual_refresh\",source=\"crm\",outcome=\"found\"}";
    assert_eq!(
        daemon.metric(series).await,
        Some(1.0),
        "it counts as a look-up"
    );
}

#[tokio::test]
async fn a_look_up_that_fails_is_explained_too() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::over(&crm).await;
    for (reply, words, status) in [
        (Reply::status(401), "did not accept your sign-in", 401),
        (Reply::status(403), "does not let you search contacts", 403),
        (Reply::html(), "could not be read", 200),
        (
            Reply::status(429).header("retry-after", "1"),
            "limits how often",
            429,
        ),
    ] {
        let daemon = TestDaemon::over(&crm).await;
        crm.becomes(move |_| reply.clone());
        let explained = live(&daemon, find()).await;
        let answer = explained.answer.as_ref().unwrap();
        let message = &answer.return_message.as_ref().unwrap().message;
        assert!(message.contains(words), "{message}");
        assert!(answer.lookup.is_none() && answer.matched_contact_info.is_empty());
        let searched = explained.exchanges.iter();
        let searched = searched.filter(|call| call.path == "/api/v1/contacts");
        assert!(searched.clone().count() > 0, "{:?}", explained.exchanges);
        assert!(searched.clone().all(|call| call.status == status));
    }
    drop(crm);
    let explained = live(&daemon, find()).await;
    assert!(
        !explained.exchanges.is_empty(),
        "calls without a reply are shown"
    );
    assert!(
        explained
            .exchanges
            .iter()
            .all(|call| call.status == 0 && call.bytes == 0)
    );
}

#[tokio::test]
async fn at_the_deadline_it_shows_the_calls_so_far() {
    let crm = FakeCrm::start(|seen| {
        if seen
            .param("phone")
            .is_some_and(|phone| phone.starts_with('('))
        {
            return guarded(seen).after(Duration::from_secs(30));
        }
        example(seen, &[])
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let mut cut_off = 0;
    let explained = loop {
        let mut request = Request::new(about(find().formats(&["(###) ###-####"]), true));
        request.set_timeout(Duration::from_secs(3));
        match ask(&daemon, request).await {
            // The machine is so busy that the server's library was first.
            Err(status) if status.code() == Code::Cancelled && cut_off < 5 => cut_off += 1,
            explained => break explained.unwrap(),
        }
    };
    let message = explained
        .answer
        .clone()
        .unwrap()
        .return_message
        .unwrap()
        .message;
    assert!(message.contains("takes longer than usual"), "{message}");
    assert!(
        paths(&explained).contains(&("GET", "/api/v1/contacts", 200)),
        "{explained:?}"
    );
}

#[tokio::test]
async fn it_sees_its_own_calls_though_another_look_up_is_under_way() {
    let crm = FakeCrm::start(|seen| guarded(seen).after(Duration::from_millis(300))).await;
    let daemon = TestDaemon::over(&crm).await;
    let (one, two, explained) = tokio::join!(
        daemon.find(find()),
        daemon.find(refresh()),
        live(&daemon, find())
    );
    assert!(one.is_ok() && two.is_ok());
    let searches = paths(&explained);
    let searches = searches.iter().filter(|call| call.1 == "/api/v1/contacts");
    assert_eq!(searches.count(), 1, "{explained:?}");
    assert_eq!(names(explained.answer.as_ref().unwrap()), ["Ada"]);
}

#[tokio::test]
async fn more_than_two_hundred_records_are_counted_only() {
    let many: Vec<_> = (0..250)
        .map(|n| record(n, "Doe", &["+49 30 1234567"]))
        .collect();
    let crm = FakeCrm::with(many).await;
    let daemon = TestDaemon::over(&crm).await;
    let explained = live(&daemon, find()).await;
    let all: &[RecordVerdict] = &explained.records;
    assert_eq!((all.len(), explained.records_left_out), (200, 50));
    assert!(all.iter().all(|record| record.verdict == "dropped"));
    assert!(names(&explained.answer.unwrap()).is_empty());
    assert_eq!(explained.exchanges_left_out, 0);
}

#[tokio::test]
async fn without_a_number_there_is_nothing_to_ask() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::over(&crm).await;
    let explained = live(&daemon, find().number("anonymous")).await;
    let message = explained.answer.unwrap().return_message.unwrap();
    assert_eq!(message.message, "The caller withheld the number");
    assert!(explained.exchanges.is_empty() && crm.seen().is_empty());
}

#[tokio::test]
async fn a_connector_from_a_file_shows_the_words_of_its_paths_only() {
    let crm = FakeCrm::start(|seen| match seen.path.as_str() {
        "/v1/users/me" => user_named("ada"),
        path if path.ends_with("/search") => Reply::json(json!({"success": true,
            "data": {"items": [crate::support::person(17, "Ada", &["+16505551234"])]}})),
        _ => Reply::json(json!({"success": true, "data": []})),
    })
    .await;
    let daemon = TestDaemon::with(&crm, "pipedrive", "").await;
    let explained = live(&daemon, find().platform("pipedrive")).await;
    assert_eq!(names(explained.answer.as_ref().unwrap()), ["Ada"]);
    let mut shown: Vec<_> = paths(&explained)
        .iter()
        .map(|call| call.1.to_owned())
        .collect();
    let mut asked: Vec<_> = crm.seen().into_iter().map(|seen| seen.path).collect();
    asked.push("/v1/users/me".to_owned());
    shown.sort_unstable();
    asked.sort_unstable();
    assert_eq!(shown, asked, "no path of this CRM has a value");
}
