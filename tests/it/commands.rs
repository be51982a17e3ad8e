//! The commands as a person or a script uses them.

use std::process::{Command, Output};
use std::time::Duration;

use contactd::clock;
use serde_json::Value;

use crate::support::{FakeCrm, Reply, TestDaemon, contact};

pub(crate) fn contactd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_contactd"));
    command
        .args(args)
        .env("CONTACTD_AUTH_HEADER", "Bearer token-1")
        .env_remove("CONTACTD_LOG");
    command
}

pub(crate) async fn run(mut command: Command) -> Output {
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    clock::timeout(Duration::from_secs(30), ended)
        .await
        .expect("the command ends")
        .unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn daemon() -> (FakeCrm, TestDaemon, String) {
    let crm = FakeCrm::start(|seen| match seen.param("phone") {
        Some("+16505551234") => {
            crate::support::crm::example(seen, &[contact(17, "Ada Lovelace", "(650) 555-1234")])
        }
        Some("+16505550500") => Reply::status(500),
        Some("+16505550401") => Reply::status(401),
        _ => crate::support::crm::example(seen, &[]),
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let url = format!("http://{}", daemon.grpc);
    (crm, daemon, url)
}

#[tokio::test]
async fn find_prints_a_table_for_people_and_json_for_scripts() {
    let (_crm, _daemon, url) = daemon().await;
    let human = run(contactd(&[
        "find",
        "+1 650 555 1234",
        "--region",
        "US",
        "--server",
        &url,
    ]))
    .await;
    assert_eq!(human.status.code(), Some(0), "{}", text(&human.stderr));
    let shown = text(&human.stdout);
    assert!(
        shown.contains("Found 1 contact")
            && shown.contains("Ada Lovelace")
            && shown.contains("from the CRM"),
        "{shown}"
    );

    let json = run(contactd(&[
        "find",
        "(650) 555-1234",
        "--region",
        "US",
        "--server",
        &url,
        "--output",
        "json",
    ]))
    .await;
    assert_eq!(json.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&json.stdout).unwrap();
    let first = &answer["matchedContactInfo"][0];
    assert_eq!(
        (&first["id"], &first["name"], &first["isNewContact"]),
        (&"17".into(), &"Ada Lovelace".into(), &false.into())
    );
    assert_eq!(first["additionalInfo"], Value::Null);
    assert_eq!(first["matchQuality"], "MATCH_QUALITY_EXACT");
    let create = &answer["matchedContactInfo"][1];
    assert_eq!(
        (&create["id"], &create["isNewContact"]),
        (&"createNewContact".into(), &true.into())
    );
    assert_eq!(answer["returnMessage"]["messageType"], "success");
    assert_eq!(answer["returnMessage"]["ttl"], 3000);
    assert_eq!(answer["lookup"]["source"], "SOURCE_MEMORY");
    assert_eq!(answer["lookup"]["phoneNumber"], "+16505551234");
}

#[tokio::test]
async fn find_ends_with_the_exit_code_of_its_outcome() {
    let (_crm, _daemon, url) = daemon().await;
    for (number, more, code, words) in [
        ("+16505551234", &[][..], 0, "Found 1 contact"),
        ("+16505550000", &[], 3, "Contact not found"),
        ("anonymous", &[], 3, "withheld"),
        (
            "+16505550001",
            &["--only-if-cached"],
            3,
            "cannot see a stored answer for this number",
        ),
        ("+16505550500", &[], 1, "HTTP status 500"),
        ("+16505550401", &[], 1, "--auth-header-file"),
        ("12", &["--platform", "nobody"], 2, "--platform"),
        ("hello", &[], 2, "the number is not a telephone number"),
        (
            "+16505551234",
            &["--refresh", "--only-if-cached"],
            2,
            "cannot be used with",
        ),
    ] {
        let mut args = vec!["find", number, "--server", url.as_str()];
        args.extend(more);
        let output = run(contactd(&args)).await;
        let told = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(words), "{args:?}: {told}");
    }
}

#[tokio::test]
async fn the_credential_comes_from_the_environment_or_a_file_and_from_nowhere_else() {
    let (crm, _daemon, url) = daemon().await;
    let mut without = contactd(&["find", "+16505551234", "--server", &url]);
    without.env_remove("CONTACTD_AUTH_HEADER");
    let output = run(without).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("CONTACTD_AUTH_HEADER")
            && text(&output.stderr).contains("--auth-header-file")
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "Bearer from-file\n").unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let output = run(contactd(&[
        "find",
        "+16505551234",
        "--server",
        &url,
        "--auth-header-file",
        &path,
    ]))
    .await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        crm.seen()[0].authorization.as_deref(),
        Some("Bearer from-file")
    );
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_said_so() {
    let output = run(contactd(&[
        "find",
        "+16505551234",
        "--server",
        "http://127.0.0.1:1",
    ]))
    .await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("Is `contactd serve` running?"));
    let output = run(contactd(&["find", "+16505551234", "--server", "not a url"])).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[tokio::test]
async fn help_tells_a_newcomer_what_each_command_is_for() {
    let output = run(contactd(&["--help"])).await;
    let help = text(&output.stdout);
    for command in [
        "serve",
        "find",
        "prefetch",
        "plan",
        "invalidate",
        "demo",
        "example-crm",
        "check-config",
        "status",
        "tls",
        "completions",
        "man",
    ] {
        assert!(help.contains(command), "{command}");
        let output = run(contactd(&[command, "--help"])).await;
        assert_eq!(output.status.code(), Some(0));
        assert!(
            text(&output.stdout).len() > 200,
            "{command} --help says little"
        );
    }
    assert_eq!(
        run(contactd(&["no-such-command"])).await.status.code(),
        Some(2)
    );
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let (_crm, _daemon, url) = daemon().await;
    let mut command = contactd(&["find", "+16505551234", "--server", &url, "--output", "json"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer).stderr(std::process::Stdio::piped());
    let ended =
        tokio::task::spawn_blocking(move || command.spawn().unwrap().wait_with_output().unwrap());
    let ended = clock::timeout(Duration::from_secs(30), ended)
        .await
        .expect("the command ends")
        .unwrap();
    assert_eq!(
        (ended.status.code(), text(&ended.stderr)),
        (Some(0), String::new())
    );
}

#[tokio::test]
async fn a_server_that_is_no_url_is_answered_with_what_to_write() {
    for (server, advice) in [
        ("grpc://localhost:50051", "http://localhost:50051"),
        ("/run/contactd.sock", "http://127.0.0.1:50051"),
        ("http://", "http://127.0.0.1:50051"),
        ("", "http://127.0.0.1:50051"),
    ] {
        let refused = run(contactd(&["find", "+16505551234", "--server", server])).await;
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{server:?}: {said}");
        assert!(
            said.contains("--server") && said.contains(advice),
            "{server:?}: {said}"
        );
    }
}
