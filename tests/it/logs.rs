//! Nothing about logs stops the daemon: standard error that is closed, full or read by nobody costs
//! lines.

use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use contactd::clock;
use contactd::grpc::client::ContactServiceClient;
use nix::sys::signal::Signal;
use serde_json::Value;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::support::crm::example;
use crate::support::daemon::{Changed as _, details, get, names};
use crate::support::ports::free_address;
use crate::support::sink::{Sink, Unheard, contactd, direct, ended, read_until};
use crate::support::{FakeCrm, Reply, contact, find};

const DROPPED: &str = "contactd_log_lines_dropped_total ";

async fn crm() -> FakeCrm {
    FakeCrm::start(|seen| match seen.param("phone") {
        Some("+16505551234") => example(seen, &[contact(1, "Ada", "+16505551234")]),
        _ => Reply::status(500),
    })
    .await
}

fn settings(crm: &FakeCrm) -> String {
    let grpc = "[grpc]\ndrain_delay = \"100ms\"\nmax_connections = 2\n";
    format!(
        "{grpc}[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        crm.url()
    )
}

async fn connect(daemon: &Unheard) -> Option<ContactServiceClient<Channel>> {
    let endpoint = Endpoint::from_shared(daemon.grpc.clone()).unwrap();
    let channel = clock::timeout(Duration::from_secs(5), endpoint.connect()).await;
    Some(ContactServiceClient::new(channel?.ok()?))
}

async fn dropped(daemon: &Unheard) -> u64 {
    let (_, page) = get(&format!("{}/metrics", daemon.ops)).await;
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(DROPPED))
        .expect("the metric is there");
    value.parse().unwrap()
}

/// Starts, looks up, turns connections away, says how it is, and stops, as if somebody read its
/// log.
async fn serves_and_stops(sink: Sink) {
    let (crm, limit) = (crm().await, Duration::from_secs(5));
    // Rust opens a closed standard error as /dev/null when the program starts, so no write fails. A
    // line that waits for a stuck pipe is not lost yet.
    let loses_lines = !matches!(sink, Sink::Closed | Sink::Stuck);
    let mut daemon = Unheard::start(&settings(&crm), "info", sink).await;
    let mut client = connect(&daemon).await.expect("it connects");
    for _ in 0..2 {
        let found = client
            .find_contact(find().within(limit))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(names(&found), ["Ada"]);
    }
    // Each of these is a line in the log.
    let failed = client
        .find_contact(find().number("+16505550500").within(limit))
        .await
        .unwrap_err();
    assert_eq!(
        (failed.code(), details(&failed).reason.as_str()),
        (Code::Unavailable, "CRM_UNAVAILABLE")
    );
    let address = daemon.grpc.strip_prefix("http://").unwrap().to_owned();
    drop(
        (0..3)
            .map(|_| TcpStream::connect(&address).unwrap())
            .collect::<Vec<_>>(),
    );
    drop(client);

    // Once it has seen that the places are free, it accepts again.
    let accepted = clock::timeout(2 * limit, async {
        loop {
            if let Some(mut client) = connect(&daemon).await
                && client.find_contact(find().within(limit)).await.is_ok()
            {
                return;
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
    });
    accepted.await.expect("the port is open");
    for path in ["/livez", "/readyz"] {
        let page = clock::timeout(limit, get(&format!("{}{path}", daemon.ops))).await;
        assert_eq!(page.expect("it answers").0, 200, "{path}");
    }
    assert_eq!(dropped(&daemon).await > 0, loses_lines);

    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end_within(Duration::from_secs(8)).await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_standard_error_costs_nothing() {
    serves_and_stops(Sink::Closed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_lines() {
    serves_and_stops(Sink::Full).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_gone_costs_lines() {
    serves_and_stops(Sink::Abandoned).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_costs_lines() {
    serves_and_stops(Sink::Stuck).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_reads_again_learns_how_many_lines_it_missed() {
    let crm = crm().await;
    let mut daemon = Unheard::start(&settings(&crm), "trace,contactd=trace", Sink::Stuck).await;
    let mut client = connect(&daemon).await.expect("it connects");
    let dropping = clock::timeout(Duration::from_secs(60), async {
        while dropped(&daemon).await == 0 {
            client
                .find_contact(find().within(Duration::from_secs(5)))
                .await
                .unwrap();
        }
    });
    dropping.await.expect("more lines than there is room for");
    let text = read_until(daemon.pipe.take().unwrap(), |text| {
        text.contains("log lines were dropped")
    })
    .await;
    let lines: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert!(
        lines
            .iter()
            .any(|line| line["message"] == "contactd serves"),
        "the oldest are kept"
    );
    let missed = lines
        .iter()
        .find(|line| line["message"] == "log lines were dropped")
        .unwrap();
    assert!(missed["lines"].as_u64().unwrap() > 0, "{missed}");
}

/// Both signals, with a call in hand that would hold the first one up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once_whoever_reads_the_log() {
    let crm = FakeCrm::start(|_| Reply::status(500).after(Duration::from_secs(60))).await;
    let mut daemon =
        Unheard::start(&settings(&crm).replace("100ms", "60s"), "info", Sink::Stuck).await;
    assert_eq!(get(&format!("{}/readyz", daemon.ops)).await.0, 200);
    daemon.signal(Signal::SIGTERM);
    let stopping = async {
        while get(&format!("{}/readyz", daemon.ops)).await.0 == 200 {
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    clock::timeout(Duration::from_secs(5), stopping)
        .await
        .expect("it begins to stop");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end_within(Duration::from_secs(5)).await, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_ends_whoever_reads_why() {
    for (arguments, code) in [
        (&["serve", "--config", "/nowhere/contactd.toml"][..], 1),
        (&["serve", "--no-such-option"], 2),
        (&["serve", "--log-level", "no=such=level"], 2),
    ] {
        for sink in [Sink::Closed, Sink::Full, Sink::Abandoned, Sink::Stuck] {
            let name = format!("{arguments:?} {sink:?}");
            let mut command = contactd(&sink);
            let _pipe = direct(&mut command, sink);
            let mut child = command.args(arguments).spawn().unwrap();
            let code_seen = ended(&mut child, Duration::from_secs(5)).await;
            let _ = child.kill();
            assert_eq!(code_seen, Some(code), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_survive_a_reader_that_has_seen_enough() {
    let crm = crm().await;
    let daemon = crate::support::TestDaemon::over(&crm).await;
    let server = format!("http://{}", daemon.grpc);
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "+16505551234\nnonsense\n").unwrap();
    let list = list.path().to_str().unwrap();
    let config = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/deploy/../../../deploy/config.example.toml"
    );
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["find", "+16505551234", "--server", &server], 0),
        (
            &[
                "find",
                "+16505551234",
                "--server",
                &server,
                "--output",
                "json",
            ],
            0,
        ),
        (
            &["find", "+16505551234", "--server", "http://127.0.0.1:1"],
            1,
        ),
        (
            &[
                "find",
                "+16505550499",
                "--server",
                &server,
                "--only-if-cached",
            ],
            3,
        ),
        (&["prefetch", list, "--server", &server], 4),
        (&["demo", "--latency", "1ms", "--rate-limit", "2000/1s"], 0),
        (&["check-config", "--config", config], 0),
    ] {
        let mut command = contactd(&Sink::Abandoned);
        direct(&mut command, Sink::Abandoned);
        command
            .env("CONTACTD_AUTH_HEADER", "Bearer token-1")
            .args(arguments)
            .stdout(std::io::pipe().unwrap().1);
        let mut child = command.spawn().unwrap();
        drop(command);
        let code_seen = ended(&mut child, Duration::from_secs(30)).await;
        let _ = child.kill();
        assert_eq!(code_seen, Some(code), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_crm_serves_on_when_nobody_reads_its_greeting() {
    let address = free_address();
    let mut command = contactd(&Sink::Abandoned);
    direct(&mut command, Sink::Abandoned);
    command
        .args(["example-crm", "--listen", &address.to_string()])
        .stdout(std::io::pipe().unwrap().1);
    let mut child = command.spawn().unwrap();
    drop(command);
    let reached = clock::timeout(Duration::from_secs(10), async {
        while TcpStream::connect(address).is_err() {
            clock::sleep(Duration::from_millis(10)).await;
        }
    });
    reached.await.expect("it listens");
    // It greets once it listens.
    let still_there = ended(&mut child, Duration::from_millis(500))
        .await
        .is_none();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id().cast_signed()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert!(still_there);
    assert_eq!(ended(&mut child, Duration::from_secs(5)).await, Some(0));
}

/// Runs one test of this binary as a process of its own with a standard error that nobody reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_reported_and_waits_for_nobody() {
    for sink in [Sink::Full, Sink::Abandoned, Sink::Stuck] {
        let name = format!("{sink:?}");
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let _pipe = direct(&mut command, sink);
        command
            .args(["--exact", PANICS, "--ignored", "--nocapture"])
            .stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        drop(command);
        let code = ended(&mut child, Duration::from_secs(10)).await;
        let _ = child.kill();
        assert_eq!(code, Some(0), "{name}");
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command
        .args(["--exact", PANICS, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let [said, unsaid] = &lines[..] else {
        panic!("two lines are expected: {text}")
    };
    assert_eq!(
        (&said["level"], &said["target"]),
        (&"ERROR".into(), &"contactd::panic".into())
    );
    assert_eq!(said["message"], "a panic: the reason");
    assert!(
        said["location"]
            .as_str()
            .unwrap()
            .starts_with("tests/it/logs.rs:"),
        "{said}"
    );
    // What is put together may hold a number or a name.
    assert!(!text.contains("6505551234"), "{unsaid}");
}

const PANICS: &str = "logs::panics_as_a_process_of_its_own";

#[test]
#[ignore = "run by a_panic_is_reported_and_waits_for_nobody"]
fn panics_as_a_process_of_its_own() {
    let lines = contactd::telemetry::LogLines::start();
    let _ = contactd::telemetry::start(
        contactd::telemetry::LogFormat::Json,
        &"off".parse().unwrap(),
        &lines,
    );
    let number = "+16505551234";
    assert!(std::thread::spawn(|| panic!("the reason")).join().is_err());
    assert!(
        std::thread::spawn(move || panic!("{number} is what it was about"))
            .join()
            .is_err()
    );
    lines.finish(Duration::from_secs(1));
}
