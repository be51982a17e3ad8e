//! The same over the Connect protocol, and the command for a terminal.

use serde_json::{Value, json};

use super::*;
use crate::commands::{contactd, run, text};
use crate::support::daemon::http_client;

const EXPLAIN: &str = "/contactd.v1.ContactService/ExplainContact";

#[expect(clippy::disallowed_methods, reason = "this is no CRM")]
async fn post(daemon: &TestDaemon, body: Value) -> (u16, Value) {
    let url = format!("http://{}{EXPLAIN}", daemon.grpc);
    let request = http_client()
        .post(url)
        .header("content-type", "application/json")
        .body(body.to_string());
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.text().await.unwrap();
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn connect_clients_have_it_as_json() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    let question = json!({"user": {"id": "user-1", "platform": "example"},
        "authHeader": "Bearer token-1", "phoneNumber": "+16505551234"});
    let (status, explained) = post(&daemon, json!({"question": question})).await;
    assert_eq!(status, 200, "{explained}");
    assert_eq!(explained["reading"], "number");
    assert_eq!(explained["phoneNumber"], "+16505551234");
    assert_eq!(explained["decision"], "serve_fresh");
    assert_eq!(explained["because"], "A fresh answer is stored.");
    assert_eq!(explained["spellings"], json!(["+16505551234"]));
    assert_eq!(
        explained["credential"],
        json!({"standing": "proven", "identityKnown": true})
    );
    assert_eq!(explained["stored"][0]["tier"], "SOURCE_MEMORY");
    assert_eq!(explained["stored"][0]["matchCount"], 1);
    assert!(
        explained["stored"][0]["freshFor"]
            .as_str()
            .unwrap()
            .ends_with('s')
    );
    assert_eq!(explained["quota"]["per"], "1s");

    let live = json!({"question": question, "live": true});
    let (status, explained) = post(&daemon, live).await;
    assert_eq!(status, 200, "{explained}");
    assert_eq!(explained["records"][0]["verdict"], "exact");
    assert_eq!(explained["answer"]["matchedContactInfo"][0]["name"], "Ada");
    assert_eq!(explained["exchanges"][0]["method"], "GET");

    let wrong = json!({"question": {"user": {"id": "u", "platform": "example"}, "authHeader": "x", "phoneNumber": "hello"}});
    let (status, error) = post(&daemon, wrong).await;
    assert_eq!(
        (status, error["code"].as_str()),
        (400, Some("invalid_argument"))
    );
    let (status, error) = post(&daemon, json!({"question": {"number": "1"}})).await;
    assert_eq!(status, 400);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("question.number"),
        "{error}"
    );
}

#[tokio::test]
async fn the_command_prints_sections_for_people_and_json_for_scripts() {
    let crm = FakeCrm::start(|seen| {
        example(
            seen,
            &[
                contact(17, "Ada Lovelace", "+16505551234"),
                contact(18, "Eve Other", "+4930123456"),
            ],
        )
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let url = format!("http://{}", daemon.grpc);
    let explained = async |more: &[&str]| {
        let mut args = vec!["explain", "+1 650 555 1234", "--server", url.as_str()];
        args.extend(more);
        let output = run(contactd(&args)).await;
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, cold, _) = explained(&[]).await;
    assert_eq!(code, Some(0));
    for part in [
        "+16505551234, read as a number",
        "Now: a look-up asks the CRM.",
        "Stored\n  not shown",
        "Credential\n  unknown",
        "Quota\n  0 of 50 calls in 1s used, 50 left",
        "Searched for, in this order\n  +16505551234",
        "Add --live",
    ] {
        assert!(cold.contains(part), "{part}:\n{cold}");
    }
    assert!(crm.seen().is_empty());

    let (code, live, _) = explained(&["--live"]).await;
    assert_eq!(code, Some(0));
    for part in [
        "Calls to the CRM\n",
        "GET /api/v1/contacts: HTTP 200, ",
        "Records\n  17: exact, its phone field 1 is this number\n  18: dropped, its phone fields are other numbers\n",
        "Answer\n  Found 1 contact\n",
        "Ada Lovelace",
    ] {
        assert!(live.contains(part), "{part}:\n{live}");
    }
    assert!(!live.contains("Eve") && !live.contains("token-1"), "{live}");
    let (_, warm, _) = explained(&[]).await;
    assert!(
        warm.contains("Now: a look-up returns the stored answer."),
        "{warm}"
    );
    assert!(
        warm.contains("Stored\n  memory  1 contact, 0s old, fresh for "),
        "{warm}"
    );

    let (code, json, _) = explained(&["--output", "json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["decision"]), (Some(0), &json!("serve_fresh")));
    assert_eq!(json["answer"], Value::Null);
}

#[tokio::test]
async fn the_command_ends_with_the_exit_codes_of_find() {
    let crm = FakeCrm::start(|seen| match seen.param("phone") {
        Some("+16505550401") => Reply::status(401),
        _ => example(seen, &[]),
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let url = format!("http://{}", daemon.grpc);
    for (number, more, code, words) in [
        ("+16505550000", &[][..], 0, "a look-up asks the CRM"),
        ("+16505550000", &["--live"], 3, "Contact not found"),
        ("anonymous", &[], 0, "Read as a withheld number"),
        ("anonymous", &["--live"], 3, "withheld the number"),
        (
            "+16505550401",
            &["--live"],
            1,
            "did not accept your sign-in",
        ),
        ("(650) 555-1234", &[], 0, "no --region says how to read it"),
        ("hello", &[], 2, "the number "),
        ("+16505550000", &["--platform", "nobody"], 2, "--platform "),
    ] {
        let mut args = vec!["explain", number, "--server", url.as_str()];
        args.extend(more);
        let output = run(contactd(&args)).await;
        let told = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(words), "{args:?}: {told}");
    }
}
