//! The real program, started and stopped as an operator does.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contactd::clock::{self, Stopwatch, sleep};
use contactd::grpc::client::ContactServiceClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::crm::example;
use crate::support::daemon::{Changed as _, get};
use crate::support::program::Program;
use crate::support::{FakeCrm, contact, eventually, find};

fn config(crm: &FakeCrm) -> String {
    format!(
        "[grpc]\ndrain_delay = \"500ms\"\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        crm.url()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_fails_no_call() {
    let crm = FakeCrm::start(|seen| {
        example(seen, &[contact(1, "Ada", "+16505551234")]).after(Duration::from_millis(40))
    })
    .await;
    let program = Program::start(&config(&crm).replace("500ms", "3s")).await;
    let (answered, failed, turned_away) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut callers = Vec::new();
    for caller in 0..16 {
        let channel = Endpoint::from_shared(program.grpc.clone())
            .unwrap()
            .connect()
            .await
            .unwrap();
        let (answered, failed, turned_away) = (
            Arc::clone(&answered),
            Arc::clone(&failed),
            Arc::clone(&turned_away),
        );
        #[expect(clippy::disallowed_methods, reason = "joined below")]
        callers.push(tokio::spawn(async move {
            let (mut client, mut health) = (
                ContactServiceClient::new(channel.clone()),
                HealthClient::new(channel),
            );
            for call in 0..10_000 {
                // A well-behaved client asks health before it calls, as a balancer does for it.
                let check = HealthCheckRequest {
                    service: "contactd.v1.ContactService".to_owned(),
                };
                match health.check(check).await {
                    Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => {}
                    _ => {
                        turned_away.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
                let number = format!("+1650{:07}", 2_000_000 + caller * 10_000 + call / 2);
                let result = client.find_contact(find().number(&number)).await;
                if result.is_ok() { &answered } else { &failed }.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    eventually("calls are answered", || {
        answered.load(Ordering::Relaxed) > 200
    })
    .await;
    program.signal(Signal::SIGTERM);
    for caller in callers {
        caller.await.unwrap();
    }
    let (code, log) = program.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    assert_eq!(
        turned_away.load(Ordering::Relaxed),
        16,
        "all callers saw NOT_SERVING before the port closed"
    );
}

#[tokio::test]
async fn while_it_stops_it_is_not_ready_but_answers() {
    let crm = FakeCrm::start(|seen| example(seen, &[contact(1, "Ada", "+16505551234")])).await;
    let program = Program::start(&config(&crm).replace("500ms", "3s")).await;
    let channel = Endpoint::from_shared(program.grpc.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = ContactServiceClient::new(channel);
    assert_eq!(get(&format!("{}/readyz", program.ops)).await.0, 200);
    program.signal(Signal::SIGTERM);
    let not_ready = async {
        while get(&format!("{}/readyz", program.ops)).await.0 != 503 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    clock::timeout(Duration::from_secs(5), not_ready)
        .await
        .expect("readiness falls first");
    assert!(
        client.find_contact(find()).await.is_ok(),
        "calls in the grace time are answered"
    );
    assert_eq!(get(&format!("{}/livez", program.ops)).await.0, 200);
    drop(client);
    assert_eq!(program.end().await.0, Some(0));
}

#[tokio::test]
async fn a_call_in_hand_is_answered_after_sigterm() {
    let crm = FakeCrm::start(|seen| {
        example(seen, &[contact(1, "Ada", "+16505551234")]).after(Duration::from_millis(700))
    })
    .await;
    let program = Program::start(&config(&crm)).await;
    let channel = Endpoint::from_shared(program.grpc.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = ContactServiceClient::new(channel);
    let call = client.find_contact(find());
    let stop = async {
        eventually("the CRM is asked", || crm.searches() == 1).await;
        program.signal(Signal::SIGTERM);
    };
    let (answer, ()) = tokio::join!(call, stop);
    assert!(answer.is_ok());
    drop(client);
    assert_eq!(program.end().await.0, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let crm = FakeCrm::with(vec![]).await;
    let program = Program::start(&config(&crm).replace("500ms", "60s")).await;
    program.signal(Signal::SIGTERM);
    let not_ready = async {
        while get(&format!("{}/readyz", program.ops)).await.0 != 503 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    clock::timeout(Duration::from_secs(5), not_ready)
        .await
        .unwrap();
    program.signal(Signal::SIGINT);
    assert_eq!(program.end().await.0, Some(1));
}

#[tokio::test]
async fn without_a_settings_file_it_warns_of_the_environment_too() {
    let program = Program::on_defaults(&[(
        "CONTACTD__CONNECTORS__EXAMPLE__BASE_URL",
        "http://crm.example",
    )])
    .await;
    let log = program.log();
    assert!(
        log.contains("WARN") && log.contains("connectors.example.base_url"),
        "{log}"
    );
}

#[tokio::test]
async fn an_outage_of_a_crm_is_told_in_a_few_lines() {
    let crm = FakeCrm::start(|_| crate::support::Reply::status(503)).await;
    let program = Program::start(&config(&crm)).await;
    let channel = Endpoint::from_shared(program.grpc.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let client = ContactServiceClient::new(channel);
    let watch = Stopwatch::start();
    for n in 0..100 {
        let number = format!("+1650{:07}", 2_000_000 + n);
        client
            .clone()
            .find_contact(find().user(&n.to_string()).number(&number))
            .await
            .unwrap_err();
    }
    let most = 1 + usize::try_from(watch.elapsed().as_secs()).unwrap() / 10;
    program.signal(Signal::SIGTERM);
    drop(client);
    let (_, log) = program.end().await;
    let lines = log
        .lines()
        .filter(|line| line.contains("a look-up in the CRM failed"))
        .count();
    assert!((1..=most).contains(&lines), "{lines} lines: {log}");
}

#[tokio::test]
async fn the_log_tells_what_happened_and_nothing_about_anybody() {
    let crm = FakeCrm::start(|seen| match seen.param("phone") {
        Some("+16505551234") => example(seen, &[contact(1, "Ada Lovelace", "+16505551234")]),
        Some(_) => crate::support::Reply::html(),
        None => crate::support::Reply::status(500),
    })
    .await;
    let program = Program::start(&config(&crm)).await;
    let channel = Endpoint::from_shared(program.grpc.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = ContactServiceClient::new(channel);
    client.find_contact(find()).await.unwrap();
    client.find_contact(find()).await.unwrap();
    client
        .find_contact(find().number("+12125550000"))
        .await
        .unwrap_err();
    client
        .find_contact(find().number("nonsense-4711"))
        .await
        .unwrap();
    client
        .find_contact(find().number("nonsense"))
        .await
        .unwrap_err();
    client
        .find_contact(find().hostname("evil.example:1"))
        .await
        .unwrap_err();
    program.signal(Signal::SIGTERM);
    drop(client);
    let (code, log) = program.end().await;
    assert_eq!(code, Some(0));
    assert!(
        log.contains("contactd serves")
            && log.contains("a look-up in the CRM failed")
            && log.contains("stopped"),
        "{log}"
    );
    for personal in [
        "6505551234",
        "2125550000",
        "4711",
        "Ada",
        "Lovelace",
        "token-1",
        "user-1",
        "evil",
        "sign in",
    ] {
        assert!(!log.contains(personal), "{personal} in the log: {log}");
    }
    for line in log.lines() {
        let _: Value = serde_json::from_str(line).expect("each line is one JSON object");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_open_files_are_said_at_the_start_and_when_a_connection_fails_for_them() {
    let crm = FakeCrm::start(|seen| example(seen, &[contact(1, "Ada", "+16505551234")])).await;
    let program = Program::with_files(&config(&crm), 64).await;
    let started = program.log();
    assert!(
        started.contains("at most 64 files may be open here, and the settings may need "),
        "{started}"
    );
    let address = program.grpc.strip_prefix("http://").unwrap();
    let crowd: Vec<_> = (0..80)
        .map(|_| std::net::TcpStream::connect(address).unwrap())
        .collect();
    eventually("it says so", || {
        program
            .log()
            .contains("connections cannot be accepted on grpc.listen")
    })
    .await;
    drop(crowd);
    let mut client = ContactServiceClient::connect(program.grpc.clone())
        .await
        .unwrap();
    client
        .find_contact(find().within(Duration::from_secs(10)))
        .await
        .unwrap();
    assert_eq!(
        program
            .log()
            .matches("connections cannot be accepted")
            .count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_enough_open_files_nothing_is_logged() {
    let crm = FakeCrm::start(|seen| example(seen, &[])).await;
    let program = Program::with_files(&config(&crm), 4096).await;
    assert!(
        !program.log().contains("files may be open"),
        "{}",
        program.log()
    );
}

/// A daemon that waits for its settings, which come through a pipe.
struct Starting {
    child: Child,
    folder: TempDir,
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Starting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("contactd.toml");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_contactd"))
            .args(["serve", "--config"])
            .arg(&pipe)
            .env("CONTACTD__GRPC__LISTEN", "127.0.0.1:0")
            .env("CONTACTD__OPS__LISTEN", "127.0.0.1:0")
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// The pipe, as soon as the daemon reads from it.
    async fn is_read(&self) -> File {
        let pipe = self.folder.path().join("contactd.toml");
        let open = tokio::task::spawn_blocking(|| File::options().write(true).open(pipe));
        let open = clock::timeout(Duration::from_secs(10), open).await;
        open.expect("the settings are read").unwrap().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    async fn end(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().code()
    }
}

#[tokio::test]
async fn a_sighup_before_the_settings_are_read_has_them_read_again() {
    let crm = FakeCrm::with(vec![]).await;
    let mut starting = Starting::new();
    let mut settings = starting.is_read().await;
    starting.signal(Signal::SIGHUP);
    settings.write_all(config(&crm).as_bytes()).unwrap();
    drop(settings);
    eventually("it serves", || starting.log().contains("contactd serves")).await;
    let mut again = starting.is_read().await;
    again.write_all(config(&crm).as_bytes()).unwrap();
    drop(again);
    eventually("they are read again", || {
        starting.log().contains("the settings were read again")
    })
    .await;
    starting.signal(Signal::SIGTERM);
    assert_eq!(starting.end().await, Some(0));
}

#[tokio::test]
async fn a_stop_before_the_settings_are_read_is_a_stop() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut starting = Starting::new();
        let settings = starting.is_read().await;
        starting.signal(signal);
        assert_eq!(starting.end().await, Some(0), "{signal}");
        assert!(starting.log().contains("stop"), "{}", starting.log());
        drop(settings);
    }
}
