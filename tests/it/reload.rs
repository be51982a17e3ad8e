//! SIGHUP: the settings are read again while the daemon runs.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use contactd::clock;
use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1::{Freshness, Lookup, Source};
use nix::sys::signal::Signal;
use tokio::task::spawn_blocking;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::clients::{sha256, with_token};
use crate::support::daemon::get;
use crate::support::pki::{Authority, Files, connect};
use crate::support::program::Program;
use crate::support::{FakeCrm, contact, eventually, find, refresh};

const REFUSED: &str = "a call from a known client was refused";
const READ_AGAIN: &str = "the settings were read again";

fn settings(crm: &FakeCrm, more: &str, quota: &str) -> String {
    format!(
        "{more}\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}\n",
        crm.url()
    )
}

async fn ada() -> FakeCrm {
    FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await
}

async fn client(program: &Program) -> ContactServiceClient<Channel> {
    ContactServiceClient::new(
        Endpoint::from_shared(program.grpc.clone())
            .unwrap()
            .connect()
            .await
            .unwrap(),
    )
}

/// Other settings, and the lines that were logged about them.
async fn reload(program: &Program, toml: &str) -> String {
    let before = program.log().len();
    program.reload(toml);
    let news = || program.log()[before..].to_owned();
    eventually("it is told", || {
        news().contains(READ_AGAIN) || news().contains("nothing was changed")
    })
    .await;
    news()
}

#[tokio::test]
async fn without_a_settings_file_a_sighup_changes_nothing() {
    let program = Program::on_defaults(&[]).await;
    program.signal(Signal::SIGHUP);
    eventually("it is told", || program.log().contains("SIGHUP")).await;
    assert_eq!(get(&format!("{}/readyz", program.ops)).await.0, 200);
    program.signal(Signal::SIGTERM);
    assert_eq!(program.end().await.0, Some(0));
}

/// A pipe that nobody writes to stands for a disk that does not respond.
#[tokio::test]
async fn a_file_that_cannot_be_read_to_its_end_holds_up_neither_look_ups_nor_the_stop() {
    let (crm, folder) = (ada().await, tempfile::tempdir().unwrap());
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for section in [
        format!("[grpc]\ntls = {{ cert = {pipe:?}, key = {pipe:?} }}\n"),
        format!("[redis]\nurl = \"redis://127.0.0.1:1\"\nkey_secret_file = {pipe:?}\n"),
        format!("[redis]\nurl = \"rediss://127.0.0.1:1\"\nca_file = {pipe:?}\n"),
    ] {
        let program = Program::start(&settings(&crm, "", "")).await;
        program.reload(&settings(&crm, &section, ""));
        let reader = pipe.clone();
        let read = spawn_blocking(|| File::options().write(true).open(reader));
        let read = clock::timeout(Duration::from_secs(10), read).await;
        let _open = read.expect("the file is read").unwrap().unwrap();
        let mut client = client(&program).await;
        let answer = clock::timeout(Duration::from_secs(5), client.find_contact(find())).await;
        assert!(answer.is_some_and(|answer| answer.is_ok()), "{section}");
        program.signal(Signal::SIGTERM);
        assert_eq!(program.end().await.0, Some(0), "{section}");
    }
}

#[tokio::test]
async fn a_sighup_changes_tokens_at_once_on_connections_that_are_there() {
    let crm = ada().await;
    let tokens = |token: &str| {
        format!(
            "[grpc]\ntokens = [{{ name = \"a\", sha256 = \"{}\" }}]\n",
            sha256(token)
        )
    };
    let program = Program::start(&settings(&crm, &tokens("old"), "")).await;
    let mut client = client(&program).await;
    assert!(
        client
            .find_contact(with_token("Bearer old", find()))
            .await
            .is_ok()
    );
    let news = reload(&program, &settings(&crm, &tokens("new"), "")).await;
    assert!(news.contains("\"changed\":\"grpc.tokens\""), "{news}");
    let refused = client
        .find_contact(with_token("Bearer old", find()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(
        client
            .find_contact(with_token("Bearer new", find()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_sighup_changes_the_caller_behind_a_certificate_on_connections_that_are_there() {
    let (crm, authority) = (ada().await, Authority::new());
    let files = Files::new(&authority.issue(&["localhost"], "server"), Some(&authority));
    let tokens = |name: &str| {
        format!(
            "{}tokens = [{{ name = \"a\", certificate = \"{name}\" }}]\n",
            files.toml()
        )
    };
    let program = Program::start(&settings(&crm, &tokens("pbx.example"), "")).await;
    let grpc = program
        .grpc
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    let pair = authority.issue(&["pbx.example"], "pbx");
    let mut client = connect(grpc, &authority, Some(&pair)).await.unwrap();
    assert!(client.find_contact(find()).await.is_ok());
    reload(&program, &settings(&crm, &tokens("other.example"), "")).await;
    assert_eq!(
        client.find_contact(find()).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_connection_from_before_certificates_were_wanted_is_let_in_no_longer() {
    let (crm, authority) = (ada().await, Authority::new());
    let server = authority.issue(&["localhost"], "server");
    let (before, after) = (
        Files::new(&server, None),
        Files::new(&server, Some(&authority)),
    );
    let tokens = format!(
        "tokens = [{{ name = \"a\", sha256 = \"{}\" }}]\n",
        sha256("secret")
    );
    let program = Program::start(&settings(&crm, &format!("{}{tokens}", before.toml()), "")).await;
    let grpc = program
        .grpc
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    let mut stranger = connect(grpc, &authority, None).await.unwrap();
    assert_eq!(
        stranger.find_contact(find()).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    reload(&program, &settings(&crm, &after.toml(), "")).await;
    assert_eq!(
        stranger.find_contact(find()).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let pair = authority.issue(&["pbx.example"], "pbx");
    assert!(
        connect(grpc, &authority, Some(&pair))
            .await
            .unwrap()
            .find_contact(find())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_sighup_leads_to_other_certificate_files() {
    let (crm, old, new) = (ada().await, Authority::new(), Authority::new());
    let (before, after) = (
        Files::new(&old.issue(&["localhost"], "server"), None),
        Files::new(&new.issue(&["localhost"], "server"), None),
    );
    let program = Program::start(&settings(&crm, &before.toml(), "")).await;
    let grpc = program
        .grpc
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    let news = reload(&program, &settings(&crm, &after.toml(), "")).await;
    assert!(
        news.contains("grpc.tls.cert") && news.contains("were replaced"),
        "{news}"
    );
    assert!(connect(grpc, &new, None).await.is_ok());
    assert!(connect(grpc, &old, None).await.is_err());
    // And files that change are looked at where they are now.
    after.replace(&old.issue(&["localhost"], "server"));
    let exchanged = || program.log().matches("were replaced").count() == 2;
    eventually("the replacement is logged", exchanged).await;
    assert!(connect(grpc, &old, None).await.is_ok());
}

#[tokio::test]
async fn other_ages_hold_for_what_is_stored_already() {
    let crm = ada().await;
    let ages = |found: &str| settings(&crm, &format!("[cache]\nfound = {{ {found} }}\n"), "");
    let program = Program::start(&ages("fresh = \"1h\", stale = \"24h\"")).await;
    let mut client = client(&program).await;
    let mut ask = async || {
        let Lookup {
            source, freshness, ..
        } = client
            .find_contact(find())
            .await
            .unwrap()
            .into_inner()
            .lookup
            .unwrap();
        (
            Source::try_from(source).unwrap(),
            Freshness::try_from(freshness).unwrap(),
        )
    };
    assert_eq!(ask().await.0, Source::Crm);
    assert_eq!(ask().await, (Source::Memory, Freshness::Fresh));
    let searches = crm.searches();
    reload(&program, &ages("fresh = \"0s\", stale = \"24h\"")).await;
    assert_eq!(ask().await, (Source::Memory, Freshness::Stale));
    eventually("it is refreshed", || crm.searches() > searches).await;
    reload(&program, &ages("fresh = \"0s\", stale = \"0s\"")).await;
    assert_eq!(ask().await.0, Source::Crm);
}

#[tokio::test]
async fn another_quota_holds_for_calls_that_wait_already() {
    let crm = ada().await;
    let quota = |rate: u32, per: &str| {
        let quota = format!(
            "quota = {{ rate = {rate}, per = \"{per}\", burst = {rate}, prefetch_share = 1.0 }}"
        );
        settings(&crm, "[lookup]\ntimeout = \"120s\"\n", &quota)
    };
    // A search and the question whose credential it is use it up, and the next call would come
    // after half a minute.
    let program = Program::start(&quota(2, "60s")).await;
    let client = client(&program).await;
    assert!(client.clone().find_contact(find()).await.is_ok());
    let status = async || get(&format!("{}/status.json", program.ops)).await.1;
    let reloaded = async {
        let waits = async {
            while !status().await.contains("\"call_pop\":1") {
                clock::sleep(Duration::from_millis(50)).await;
            }
        };
        clock::timeout(Duration::from_secs(10), waits)
            .await
            .expect("a call waits");
        let news = reload(&program, &quota(100, "1s")).await;
        assert!(news.contains("connectors.example.quota.rate"), "{news}");
    };
    let waiting = async {
        clock::timeout(
            Duration::from_secs(20),
            client.clone().find_contact(refresh()),
        )
        .await
    };
    let (answer, ()) = tokio::join!(waiting, reloaded);
    assert!(answer.expect("it need not wait any more").is_ok());
    let shown = async { while !status().await.contains("\"rate\":100") {} };
    clock::timeout(Duration::from_secs(10), shown)
        .await
        .expect("the page shows it");
}

#[tokio::test]
async fn the_log_level_is_in_the_settings_and_changes_with_them() {
    let crm = ada().await;
    let level = |level: &str| {
        let tokens = format!(
            "tokens = [{{ name = \"a\", sha256 = \"{}\", rate = 1 }}]\n",
            sha256("a")
        );
        settings(
            &crm,
            &format!("[log]\nlevel = \"{level}\"\n[grpc]\n{tokens}"),
            "",
        )
    };
    // Of the lines at info only those about the start and the settings.
    let quiet = level("error,contactd::app=info,contactd::cli::reload=info");
    let program = Program::start_flagged(&quiet, &[], &[]).await;
    let client = client(&program).await;
    // A client at its limits is worth a line at info.
    let refused = async || {
        while client
            .clone()
            .find_contact(with_token("Bearer a", find()))
            .await
            .is_ok()
        {}
    };
    refused().await;
    let news = reload(&program, &level("info")).await;
    assert!(!program.log().contains(REFUSED), "{}", program.log());
    assert!(news.contains("log.level"), "{news}");
    refused().await;
    eventually("there are lines at info", || {
        program.log().contains(REFUSED)
    })
    .await;
}

#[tokio::test]
async fn the_command_line_decides_what_is_logged_if_it_says_anything() {
    let crm = ada().await;
    let level = |level: &str| settings(&crm, &format!("[log]\nlevel = \"{level}\"\n"), "");
    let program = Program::start_with(&level("error"), "info", &[]).await;
    let news = reload(&program, &level("warn")).await;
    assert!(
        news.contains("--log-level or CONTACTD_LOG decides"),
        "{news}"
    );
}

#[tokio::test]
async fn what_cannot_change_at_run_time_is_named_once_each_at_each_sighup() {
    let crm = ada().await;
    let program = Program::start(&settings(&crm, "", "")).await;
    let more = "[cache]\nmemory = \"1MiB\"\nadmitted = \"2h\"\n[redis]\nurl = \"redis://127.0.0.1:1\"\n[log]\n\
                format = \"human\"\n[lookup]\ntimeout = \"3s\"\n";
    let other = settings(&crm, more, "create_option = false")
        + "[connectors.second]\nkind = \"pipedrive\"\nregion = \"US\"\n";
    for _ in 0..2 {
        let news = reload(&program, &other).await;
        for setting in [
            "cache.memory",
            "redis",
            "log.format",
            "lookup.timeout",
            "connectors.example.create_option",
            "connectors.second",
        ] {
            let line = format!("\"setting\":\"{setting}\"");
            let warnings = news
                .lines()
                .filter(|line| line.contains("waits for a restart"));
            assert_eq!(
                warnings.filter(|warning| warning.contains(&line)).count(),
                1,
                "{setting}: {news}"
            );
        }
        assert_eq!(news.matches("waits for a restart").count(), 6, "{news}");
    }
    assert!(
        client(&program).await.find_contact(find()).await.is_ok(),
        "it goes on as it was started"
    );
}

#[tokio::test]
async fn a_faulty_file_changes_nothing_and_each_fault_is_told() {
    let crm = ada().await;
    let tokens = format!(
        "[grpc]\ntokens = [{{ name = \"a\", sha256 = \"{}\" }}]\n",
        sha256("new")
    );
    let program = Program::start(&settings(&crm, "", "")).await;
    for (faulty, told) in [
        (
            settings(
                &crm,
                &format!("{tokens}[cache]\nmemory = \"lots\"\n[typo]\n"),
                "",
            ),
            &["cache.memory", "typo"][..],
        ),
        ("[grpc\n".to_owned(), &["not TOML"]),
        (
            settings(
                &crm,
                &format!("{tokens}tls = {{ cert = \"/nowhere\", key = \"/nowhere\" }}\n"),
                "",
            ),
            &["grpc.tls"],
        ),
    ] {
        let news = reload(&program, &faulty).await;
        assert!(
            told.iter().all(|told| news.contains(told)) && news.contains("nothing was changed"),
            "{news}"
        );
        assert!(!news.contains(READ_AGAIN), "{news}");
        assert!(
            client(&program).await.find_contact(find()).await.is_ok(),
            "no token is wanted"
        );
    }
    reload(&program, &settings(&crm, &tokens, "")).await;
    assert!(
        client(&program).await.find_contact(find()).await.is_err(),
        "a sound one is taken up afterwards"
    );
}

#[tokio::test]
async fn a_second_sighup_is_judged_by_the_settings_in_force_not_by_those_at_the_start() {
    let (crm, old, new) = (ada().await, Authority::new(), Authority::new());
    let (before, after) = (
        Files::new(&old.issue(&["localhost"], "server"), None),
        Files::new(&new.issue(&["localhost"], "server"), None),
    );
    let tokens = |token: &str| {
        format!(
            "tokens = [{{ name = \"a\", sha256 = \"{}\" }}]\n",
            sha256(token)
        )
    };
    let first = settings(&crm, &(before.toml() + &tokens("one")), "");
    let second = settings(&crm, &(after.toml() + &tokens("two")), "");
    let program = Program::start(&first).await;
    let grpc = program
        .grpc
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    let changed = |news: &str| {
        let line = news.lines().find(|line| line.contains(READ_AGAIN)).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["changed"].as_str().unwrap().to_owned()
    };
    let both = "grpc.tls.cert, grpc.tls.key, grpc.tokens";
    assert_eq!(changed(&reload(&program, &second).await), both);
    let news = reload(&program, &second).await;
    assert!(
        news.contains("were read again; nothing changed") && !news.contains("\"changed\""),
        "{news}"
    );
    // Nothing is said of certificates: those in use stay, not those of the start.
    let silent = settings(&crm, &format!("[grpc]\n{}", tokens("two")), "");
    let news = reload(&program, &silent).await;
    assert!(!news.contains("were replaced"), "{news}");
    assert!(connect(grpc, &new, None).await.is_ok());
    assert!(connect(grpc, &old, None).await.is_err());
    let news = reload(&program, &first).await;
    assert!(changed(&news).contains("grpc.tokens"), "{news}");
    let mut client = connect(grpc, &old, None).await.unwrap();
    let answer = client.find_contact(with_token("Bearer one", find())).await;
    assert!(answer.is_ok(), "as at the start");
}

#[tokio::test]
async fn a_certificate_that_expired_in_use_keeps_nothing_else_from_changing() {
    let (crm, authority) = (ada().await, Authority::new());
    let files = Files::new(
        &authority.issue_for(&["localhost"], "server", -60, 8),
        Some(&authority),
    );
    let with = |token: &str| {
        let tokens = format!(
            "tokens = [{{ name = \"a\", sha256 = \"{}\" }}]\n",
            sha256(token)
        );
        settings(&crm, &(files.toml() + &tokens), "")
    };
    let program = Program::start(&with("old")).await;
    let expired = async {
        while !program.log().contains("has expired") {
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    clock::timeout(Duration::from_secs(30), expired)
        .await
        .expect("it expires");
    let news = reload(&program, &with("new")).await;
    assert!(news.contains("\"changed\":\"grpc.tokens\""), "{news}");
    let told = news
        .lines()
        .find(|line| line.contains("ERROR") && line.contains("grpc.tls.cert"));
    assert!(
        told.is_some_and(|line| line.contains("replace")),
        "what to do: {news}"
    );

    // Another authority of callers comes into use beside it.
    files.write("ca.pem", &Authority::new().pem());
    let news = reload(&program, &with("new")).await;
    assert!(news.contains(READ_AGAIN), "{news}");

    // But no other certificate that has expired.
    files.replace(&authority.issue_for(&["localhost"], "server", -60, -1));
    let news = reload(&program, &with("newer")).await;
    assert!(
        news.contains("grpc.tls.cert") && news.contains("nothing was changed"),
        "{news}"
    );
}
