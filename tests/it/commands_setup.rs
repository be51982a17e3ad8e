//! Commands around a daemon: certificates to try with, figures in a terminal, completions, manual
//! pages.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::commands::{contactd, run, text};
use crate::status_page::status_when;
use crate::support::outside::program;
use crate::support::program::Program;
use crate::support::{FakeCrm, TestDaemon, contact, find};

async fn crm() -> FakeCrm {
    FakeCrm::with(vec![contact(1, "Ada Lovelace", "+16505551234")]).await
}

fn connector(crm: &FakeCrm) -> String {
    format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        crm.url()
    )
}

async fn init(directory: &Path, more: &[&str]) -> Output {
    let mut command = contactd(&["tls", "init"]);
    command.arg(directory).args(more);
    run(command).await
}

/// The variables in the comments of the settings, as a shell would set them.
fn exports(settings: &str) -> BTreeMap<String, String> {
    let lines = settings
        .lines()
        .filter_map(|line| line.strip_prefix("#   export "));
    lines
        .map(|line| line.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect()
}

/// Starts a daemon with settings as `tls init` printed them, and looks a number up as its comments
/// say. Returns the daemon and the variables.
async fn look_up(settings: &str, names: &[&str]) -> (Program, BTreeMap<String, String>, FakeCrm) {
    let crm = crm().await;
    let daemon = Program::start(&format!("{settings}\n{}", connector(&crm))).await;
    let port = daemon.grpc.rsplit(':').next().unwrap().to_owned();
    let variables = exports(settings);
    assert!(
        variables["CONTACTD_SERVER"].ends_with(":50051"),
        "{variables:?}"
    );
    for name in names {
        let mut command = contactd(&["find", "+16505551234", "--output", "name"]);
        command
            .envs(&variables)
            .env("CONTACTD_SERVER", format!("https://{name}:{port}"));
        let output = run(command).await;
        assert_eq!(
            text(&output.stdout),
            "Ada Lovelace\n",
            "{name}: {}",
            text(&output.stderr)
        );
    }
    (daemon, variables, crm)
}

#[tokio::test]
async fn tls_init_makes_what_a_daemon_and_its_client_need() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("new folder/tls");
    let output = init(&directory, &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for entry in fs::read_dir(&directory).unwrap() {
        let (name, mode) = {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                entry.metadata().unwrap().permissions().mode(),
            )
        };
        let secret = name.contains("key") || name == "token";
        assert_eq!(mode & 0o777, if secret { 0o600 } else { 0o644 }, "{name}");
    }
    let settings = text(&output.stdout);
    let (daemon, variables, _crm) = look_up(&settings, &["localhost", "127.0.0.1"]).await;
    let port = daemon.grpc.rsplit(':').next().unwrap();
    let mut without = contactd(&["find", "+16505551234"]);
    without
        .env("CONTACTD_SERVER", format!("https://localhost:{port}"))
        .env("CONTACTD_CA_FILE", &variables["CONTACTD_CA_FILE"]);
    let refused = run(without).await;
    assert!(
        text(&refused.stderr).contains("CALLER_UNAUTHENTICATED"),
        "{}",
        text(&refused.stderr)
    );
}

#[tokio::test]
async fn tls_init_makes_a_client_certificate_if_asked_and_the_daemon_then_requires_one() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "--client-certificate",
        "--client",
        "pbx-1",
        "--name",
        "127.0.0.1",
        "--days",
        "7",
    ];
    let output = init(folder.path(), &names).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let settings = text(&output.stdout);
    let (daemon, variables, _crm) = look_up(&settings, &["127.0.0.1"]).await;
    let port = daemon.grpc.rsplit(':').next().unwrap();
    for (left_out, words) in [
        (
            &["CONTACTD_CERT_FILE", "CONTACTD_KEY_FILE"][..],
            "requires a client certificate (grpc.tls.client_ca)",
        ),
        // The certificate alone names the client too.
        (&["CONTACTD_TOKEN_FILE"], "Ada"),
    ] {
        let mut command = contactd(&["find", "+16505551234"]);
        command
            .envs(&variables)
            .env("CONTACTD_SERVER", format!("https://127.0.0.1:{port}"));
        for name in left_out {
            command.env_remove(name);
        }
        let output = run(command).await;
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(told.contains(words), "{left_out:?}: {told}");
    }
}

#[tokio::test]
async fn tls_init_replaces_nothing_and_leaves_nothing_half_done() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "mine").unwrap();
    let output = init(folder.path(), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("token is there already") && output.stdout.is_empty(),
        "{said}"
    );
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(
        fs::read_to_string(folder.path().join("token")).unwrap(),
        "mine"
    );
    for wrong in [
        &["--client", "a b"][..],
        &["--days", "0"],
        &["--name", "https://a"],
    ] {
        assert_eq!(
            init(folder.path(), wrong).await.status.code(),
            Some(2),
            "{wrong:?}"
        );
    }
}

#[tokio::test]
async fn status_shows_the_figures_of_the_page_and_its_exit_code_says_ready() {
    let crm = crm().await;
    let daemon = TestDaemon::over(&crm).await;
    for _ in 0..3 {
        daemon.find(find()).await.unwrap();
    }
    let status = status_when(&daemon, "three look-ups", |status| {
        status["lookups"]["in_window"] == 3
    })
    .await;
    let calls = &status["connectors"][0]["calls_in_window"];
    let ops = daemon.ops.to_string();
    let output = run(contactd(&["status", "--ops", &ops])).await;
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for words in [
        "  ready, up ",
        "alone, without Redis",
        "Look-ups: 3 in all",
        "Memory",
        "CRM",
        "without an answer: none",
        "example: ",
        "for each user",
        &format!("0 of {calls} failed"),
        "waiting: 0 call pops",
        "Memory: 1 answer, ",
        "Prefetch: 0 batches running",
    ] {
        assert!(shown.contains(words), "{words:?} in {shown}");
    }
    assert!(
        !shown.contains("Redis\n") && !shown.contains("  Redis "),
        "{shown}"
    );
    assert!(
        shown.lines().all(|line| line.chars().count() <= 80),
        "{shown}"
    );

    let mut by_variable = contactd(&["status", "--output", "json"]);
    by_variable.env("CONTACTD_OPS", format!("http://{ops}/"));
    let output = run(by_variable).await;
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&status["state"], &status["lookups"]["in_window"]),
        (&"ready".into(), &3.into())
    );
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn status_says_what_is_wrong_if_there_are_no_figures() {
    let crm = crm().await;
    let daemon = TestDaemon::over(&crm).await;
    for (ops, code, words) in [
        ("127.0.0.1:1".to_owned(), 1, "contactd serve"),
        (daemon.grpc.to_string(), 1, "--ops"),
        ("https://127.0.0.1:1".to_owned(), 2, "http://127.0.0.1:9464"),
        (String::new(), 2, "http://127.0.0.1:9464"),
    ] {
        let output = run(contactd(&["status", "--ops", &ops])).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{ops}: {said}");
        assert!(
            said.contains(words) && !said.contains("os error") && said.lines().count() <= 2,
            "{ops}: {said}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_daemon_that_is_stopping_shows_its_figures_and_is_not_ready() {
    let crm = crm().await;
    let settings = format!("[grpc]\ndrain_delay = \"20s\"\n{}", connector(&crm));
    let daemon = Program::start(&settings).await;
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    crate::support::eventually("the stop is announced", || {
        daemon.log().contains("stopping")
    })
    .await;
    let output = run(contactd(&["status", "--ops", &daemon.ops])).await;
    let told = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        text(&output.stderr).contains("not ready") && told.contains("  stopping, up"),
        "{told}"
    );
}

#[tokio::test]
async fn a_daemon_on_defaults_says_where_answers_are_kept() {
    let daemon = Program::on_defaults(&[]).await;
    assert!(daemon.log().contains("in memory only"), "{}", daemon.log());
    // Nothing listens there, which changes nothing: the daemon goes on without it until it does.
    let daemon = Program::on_defaults(&[("CONTACTD__REDIS__URL", "redis://127.0.0.1:1")]).await;
    let log = daemon.log();
    assert!(
        !log.contains("memory only") && log.contains("in memory and Redis"),
        "{log}"
    );
}

/// What bash offers after these words, the last of which is being written.
fn completed(script: &Path, words: &[&str]) -> Vec<String> {
    let line = words.join(" ");
    let shell = format!(
        "source '{}'; COMP_WORDS=({}); COMP_CWORD={}; COMP_LINE='{line}'; COMP_POINT={}; \
         _contactd contactd '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words
            .iter()
            .map(|word| format!("'{word}'"))
            .collect::<Vec<_>>()
            .join(" "),
        words.len() - 1,
        line.len(),
        words[words.len() - 1],
        words[words.len() - 2],
    );
    let output = Command::new("bash")
        .args(["--norc", "-c", &shell])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn bash_completes_commands_options_and_values() {
    let output = run(contactd(&["completions", "bash"])).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), &output.stdout).unwrap();
    for (words, offered) in [
        (&["contactd", "fi"][..], &["find"][..]),
        (&["contactd", "tls", "i"], &["init"]),
        (&["contactd", "find", "--only"], &["--only-if-cached"]),
        (&["contactd", "find", "--output", "n"], &["name"]),
        (&["contactd", "connector", "te"], &["test"]),
    ] {
        assert_eq!(completed(script.path(), words), offered, "{words:?}");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let output = run(contactd(&["completions", shell])).await;
        assert!(text(&output.stdout).contains("only-if-cached"), "{shell}");
    }
    assert_eq!(
        run(contactd(&["completions", "cmd"])).await.status.code(),
        Some(2)
    );
}

#[tokio::test]
#[ignore = "needs groff: tests/run gets it"]
async fn every_command_has_a_manual_page_that_groff_sets_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("man1");
    let mut command = contactd(&["man"]);
    command.arg(&directory);
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for (page, words) in [
        ("contactd.1", &["SUBCOMMANDS", "contactd-status(1)"][..]),
        ("contactd-find.1", &["--only-if-cached", "CONTACTD_SERVER"]),
        ("contactd-tls-init.1", &["--client-certificate"]),
        ("contactd-connector-try.1", &["--replies"]),
    ] {
        let mut groff = program("groff");
        groff
            .args(["-man", "-Kutf8", "-Tutf8", "-ww", "-P-c", "-P-b", "-P-u"])
            .arg(directory.join(page));
        let output = groff.output().unwrap();
        let set = text(&output.stdout);
        assert_eq!(text(&output.stderr), "", "{page}");
        for word in words {
            assert!(set.contains(word), "{page}: {word:?} in {set}");
        }
    }
}
