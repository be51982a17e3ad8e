//! The opt-in log of look-ups: one line for each, no number in it, switched by SIGHUP.

use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1::{ExplainContactRequest, FindContactRequest};
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use crate::clients::{sha256, with_token};
use crate::support::daemon::Changed as _;
use crate::support::program::Program;
use crate::support::{FakeCrm, Reply, contact, eventually, find, refresh};

fn settings(crm: &FakeCrm, more: &str) -> String {
    let url = crm.url();
    format!("{more}\n[connectors.example]\nkind = \"example\"\nbase_url = \"{url}\"\n")
}

/// Of all other lines, only the start line is logged: the test needs it.
const ERRORS_ONLY: &str = "[log]\nlevel = \"error,contactd::app=info\"\nlookups = true";

async fn start(toml: &str) -> Program {
    Program::start_flagged(toml, &[], &[]).await
}

async fn client(program: &Program) -> ContactServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(program.grpc.clone()).unwrap();
    ContactServiceClient::new(endpoint.connect().await.unwrap())
}

/// The lines about look-ups so far.
fn lines(program: &Program) -> Vec<Value> {
    let log = program.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == "look-up").collect()
}

/// The next line after these look-ups.
async fn line_of(program: &Program, request: FindContactRequest) -> Value {
    let before = lines(program).len();
    let _ = client(program).await.find_contact(request).await;
    eventually("a line about it", || lines(program).len() > before).await;
    assert_eq!(lines(program).len(), before + 1);
    lines(program).pop().unwrap()
}

fn hash(line: &Value) -> String {
    let hash = line["number"].as_str().unwrap().to_owned();
    let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash, "{line}");
    hash
}

#[tokio::test]
async fn each_look_up_has_a_line_with_its_source_and_outcome_at_every_level() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let program = start(&settings(&crm, ERRORS_ONLY)).await;
    let mut hashes = Vec::new();
    for (request, trigger, source, outcome) in [
        (find(), "incoming_call", "crm", "found"),
        (
            find().number("(650) 555-1234").region("US"),
            "incoming_call",
            "crm",
            "found",
        ),
        (find(), "incoming_call", "memory", "found"),
        (refresh(), "manual_refresh", "crm", "found"),
    ] {
        let line = line_of(&program, request).await;
        assert_eq!(
            (&line["trigger"], &line["source"], &line["outcome"]),
            (&trigger.into(), &source.into(), &outcome.into()),
            "{line}"
        );
        assert_eq!(line["platform"], "example");
        assert!(line["duration_ms"].as_f64().unwrap() > 0.0, "{line}");
        assert!(line["timestamp"].is_string() && line["client"].is_null());
        hashes.push(hash(&line));
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "one number in any spelling has one hash");

    let other = line_of(&program, find().number("+16505559999")).await;
    assert_ne!(hash(&other), hashes[0]);
    assert_eq!(other["outcome"], "not_found");
    let withheld = line_of(&program, find().number("anonymous")).await;
    assert_eq!(
        (&withheld["number"], &withheld["outcome"]),
        (&Value::Null, &"not_found".into())
    );
    let unread = line_of(&program, find().platform("nowhere")).await;
    assert_eq!(
        (&unread["platform"], &unread["outcome"]),
        (&"unknown".into(), &"invalid_request".into())
    );
    crm.becomes(|_| Reply::status(500));
    let failed = line_of(&program, refresh().number("+16505550001")).await;
    assert_eq!(
        (&failed["source"], &failed["outcome"]),
        (&"none".into(), &"crm_unavailable".into())
    );
    hash(&failed);
}

#[tokio::test]
async fn the_lines_are_off_unless_set_and_a_sighup_switches_them() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let off = settings(&crm, "[log]\nlevel = \"debug\"");
    let program = start(&off).await;
    client(&program).await.find_contact(find()).await.unwrap();
    let read_again = || {
        program
            .log()
            .matches("the settings were read again")
            .count()
    };
    let reload = |toml: String, times: usize| {
        program.reload(&toml);
        eventually("the settings are read again", move || read_again() == times)
    };
    reload(
        settings(&crm, "[log]\nlevel = \"debug\"\nlookups = true"),
        1,
    )
    .await;
    assert!(program.log().contains("\"changed\":\"log.lookups\""));
    let line = line_of(&program, find()).await;
    assert_eq!(line["source"], "memory");
    reload(off, 2).await;
    client(&program).await.find_contact(find()).await.unwrap();
    assert_eq!(lines(&program).len(), 1, "{}", program.log());
}

#[tokio::test]
async fn a_level_of_the_command_line_stays_and_the_lines_can_still_be_switched() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let program = Program::start_with(&settings(&crm, "[log]\nlookups = true"), "info", &[]).await;
    line_of(&program, find()).await;
    let more = "[log]\nlevel = \"error\"";
    program.reload(&settings(&crm, more));
    eventually("the settings are read again", || {
        program.log().contains("the settings were read again")
    })
    .await;
    client(&program).await.find_contact(find()).await.unwrap();
    assert_eq!(lines(&program).len(), 1, "{}", program.log());
}

#[tokio::test]
async fn a_hash_is_the_same_elsewhere_only_with_a_secret_file_and_the_client_is_named() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), [7; 32]).unwrap();
    let redis = "[log]\nlookups = true\n[redis]\nreplicas = 2\nurl = \"redis://127.0.0.1:1\"\n";
    let shared = format!("{redis}key_secret_file = {:?}\n", secret.path());
    let mut hashes = Vec::new();
    for more in [&shared, &shared, redis, redis] {
        let program = start(&settings(&crm, more)).await;
        hashes.push(hash(&line_of(&program, find()).await));
    }
    assert_eq!(hashes[0], hashes[1]);
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 3, "an address alone is no secret");

    let token = sha256("secret-token");
    let tokens = format!(
        "[log]\nlookups = true\n[grpc]\ntokens = [{{ name = \"pbx\", sha256 = \"{token}\" }}]"
    );
    let program = start(&settings(&crm, &tokens)).await;
    let mut client = client(&program).await;
    let (find, token) = (find(), "Bearer secret-token");
    let request = with_token(token, find.clone());
    client.find_contact(request).await.unwrap();
    let request = with_token(token, find.clone());
    let mut events = client.watch_contact(request).await.unwrap().into_inner();
    while events.message().await.unwrap().is_some() {}
    let explained = ExplainContactRequest {
        question: Some(find),
        live: true,
    };
    let request = with_token(token, explained);
    client.explain_contact(request).await.unwrap();
    eventually("three lines", || lines(&program).len() == 3).await;
    for line in lines(&program) {
        assert_eq!(line["client"], "pbx", "{line}");
    }
}
