//! Encrypted connections: who gets through the handshake, and certificates that change.

use std::time::Duration;

use contactd::clock;
use tokio::net::TcpStream;
use tonic::Code;

use crate::commands::{contactd, run, text};
use crate::support::daemon::{details, get};
use crate::support::pki::{Authority, Files, connect};
use crate::support::program::Program;
use crate::support::{FakeCrm, TestDaemon, contact, eventually, find};

async fn crm() -> FakeCrm {
    FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await
}

#[tokio::test]
async fn calls_are_answered_over_tls_and_not_in_the_clear() {
    let (crm, authority) = (crm().await, Authority::new());
    let files = Files::new(&authority.issue(&["localhost"], "server"), None);
    let daemon = TestDaemon::with(&crm, "example", &files.toml()).await;
    let mut client = connect(daemon.grpc, &authority, None).await.unwrap();
    assert!(client.find_contact(find()).await.is_ok());
    assert!(
        daemon.find(find()).await.is_err(),
        "plain HTTP/2 gets nothing"
    );
    assert!(
        connect(daemon.grpc, &Authority::new(), None).await.is_err(),
        "another authority is not trusted"
    );
}

#[tokio::test]
async fn with_a_client_authority_only_its_certificates_get_through() {
    let (crm, authority, other) = (crm().await, Authority::new(), Authority::new());
    let files = Files::new(&authority.issue(&["localhost"], "server"), Some(&authority));
    let daemon = TestDaemon::with(&crm, "example", &files.toml()).await;
    let good = authority.issue(&["pbx.example"], "pbx");
    let mut client = connect(daemon.grpc, &authority, Some(&good)).await.unwrap();
    assert!(client.find_contact(find()).await.is_ok());
    for (what, identity) in [
        ("no certificate", None),
        (
            "another authority's",
            Some(other.issue(&["pbx.example"], "x")),
        ),
    ] {
        // TLS 1.3 tells a client only after its handshake, so the first call may be what fails.
        if let Ok(mut client) = connect(daemon.grpc, &authority, identity.as_ref()).await {
            assert!(client.find_contact(find()).await.is_err(), "{what}");
        }
    }
}

#[tokio::test]
async fn a_certificate_names_the_caller_by_its_dns_name_or_else_its_common_name() {
    let (crm, authority) = (crm().await, Authority::new());
    let files = Files::new(&authority.issue(&["localhost"], "server"), Some(&authority));
    let tokens = "tokens = [{ name = \"pbx\", certificate = [\"pbx.example\", \"old-pbx\"], platforms = [\"example\"] }]\n";
    let daemon = TestDaemon::with(&crm, "example", &(files.toml() + tokens)).await;
    for (dns_names, common_name, let_in) in [
        (&["pbx.example"][..], "anything", true),
        (&["pbx.example", "second.example"], "anything", true),
        (&["second.example", "pbx.example"], "anything", false),
        (&[], "old-pbx", true),
        (&["second.example"], "old-pbx", false),
        (&[], "stranger", false),
    ] {
        let pair = authority.issue(dns_names, common_name);
        let mut client = connect(daemon.grpc, &authority, Some(&pair)).await.unwrap();
        let answer = client.find_contact(find()).await;
        match answer {
            Ok(_) => assert!(let_in, "{dns_names:?} {common_name}"),
            Err(status) => {
                assert!(!let_in, "{dns_names:?} {common_name}: {status}");
                assert_eq!(details(&status).reason, "CALLER_UNAUTHENTICATED");
            }
        }
    }
}

#[tokio::test]
async fn new_certificates_are_taken_up_without_dropping_connections_and_broken_ones_are_not() {
    let (crm, old, new) = (crm().await, Authority::new(), Authority::new());
    let files = Files::new(&old.issue(&["localhost"], "server"), None);
    let example = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        crm.url()
    );
    let program = Program::start(&(files.toml() + &example)).await;
    let grpc = program
        .grpc
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    let mut before = connect(grpc, &old, None).await.unwrap();
    before.find_contact(find()).await.unwrap();

    // A key that belongs to another certificate, and then none at all.
    let other = new.issue(&["localhost"], "server").key;
    for (n, broken) in [(1, other.as_str()), (2, "no key")] {
        files.write("key.pem", broken);
        let told = || {
            program
                .log()
                .matches("new certificates cannot be used")
                .count()
                == n
        };
        eventually("the broken files are noticed", told).await;
        assert!(connect(grpc, &old, None).await.is_ok(), "{broken}");
    }

    files.replace(&new.issue(&["localhost"], "server"));
    eventually("the replacement is logged", || {
        program.log().contains("the certificates were replaced")
    })
    .await;
    assert!(connect(grpc, &new, None).await.is_ok());
    assert!(connect(grpc, &old, None).await.is_err());
    assert!(
        before.find_contact(find()).await.is_ok(),
        "the connection from before stays"
    );
}

#[tokio::test]
async fn handshakes_that_never_end_hold_nobody_up() {
    let (crm, authority) = (crm().await, Authority::new());
    let files = Files::new(&authority.issue(&["localhost"], "server"), None);
    let daemon = TestDaemon::with(&crm, "example", &files.toml()).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(daemon.grpc).await.unwrap());
    }
    let mut client = connect(daemon.grpc, &authority, None).await.unwrap();
    assert!(client.find_contact(find()).await.is_ok());
    drop(silent);
}

#[tokio::test]
async fn the_commands_speak_tls_and_show_a_certificate_and_a_token() {
    let (crm, authority) = (crm().await, Authority::new());
    let files = Files::new(&authority.issue(&["localhost"], "server"), Some(&authority));
    // echo -n token-of-the-cli | sha256sum
    let hash = crate::clients::sha256("token-of-the-cli");
    let tokens = format!("tokens = [{{ name = \"cli\", sha256 = \"{hash}\" }}]\n");
    let daemon = TestDaemon::with(&crm, "example", &(files.toml() + &tokens)).await;
    let pair = authority.issue(&["cli.example"], "cli");
    let path = |name: &str, text: &str| files.write(name, text).display().to_string();
    let (ca, cert, key) = (
        path("ca.pem", &authority.pem()),
        path("c.pem", &pair.cert),
        path("c.key", &pair.key),
    );
    let token = path("token", "token-of-the-cli\n");
    let server = format!("https://localhost:{}", daemon.grpc.port());
    let base = [
        "find",
        "+16505551234",
        "--server",
        &server,
        "--ca-file",
        &ca,
        "--cert-file",
        &cert,
        "--key-file",
        &key,
    ];

    let with_token = run(contactd(&[&base[..], &["--token-file", &token]].concat())).await;
    assert_eq!(
        with_token.status.code(),
        Some(0),
        "{}",
        text(&with_token.stderr)
    );
    let mut from_environment = contactd(&base);
    from_environment.env("CONTACTD_TOKEN", "token-of-the-cli");
    assert_eq!(run(from_environment).await.status.code(), Some(0));

    let without = run(contactd(&base)).await;
    assert_eq!(without.status.code(), Some(1));
    assert!(
        text(&without.stderr).contains("the client is not known"),
        "{}",
        text(&without.stderr)
    );
    let alone = run(contactd(&[
        "find",
        "1",
        "--server",
        &server,
        "--cert-file",
        &cert,
    ]))
    .await;
    assert_eq!(
        alone.status.code(),
        Some(2),
        "a certificate without its key"
    );
    let plain = run(contactd(&[
        "find",
        "+16505551234",
        "--server",
        "http://localhost:1",
        "--ca-file",
        &ca,
    ]))
    .await;
    assert_eq!(plain.status.code(), Some(2), "{}", text(&plain.stderr));
}

#[tokio::test]
async fn a_certificate_and_a_token_are_both_needed_where_the_list_has_tokens_only() {
    let (crm, authority) = (crm().await, Authority::new());
    let files = Files::new(&authority.issue(&["localhost"], "server"), Some(&authority));
    let tokens = format!(
        "tokens = [{{ name = \"a\", sha256 = \"{}\" }}]\n",
        crate::clients::sha256("right")
    );
    let daemon = TestDaemon::with(&crm, "example", &(files.toml() + &tokens)).await;
    let pair = authority.issue(&["a"], "a");
    let mut client = connect(daemon.grpc, &authority, Some(&pair)).await.unwrap();
    assert_eq!(
        client.find_contact(find()).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert!(
        client
            .find_contact(crate::clients::with_token("Bearer right", find()))
            .await
            .is_ok()
    );
}

const DAY: i64 = 24 * 3600;

#[tokio::test]
async fn certificates_that_are_not_valid_today_are_refused_at_start_and_by_check_config() {
    let authority = Authority::new();
    for (from, to, word) in [
        (-2 * DAY, -1, "expired"),
        (DAY, 2 * DAY, "not valid before"),
    ] {
        let files = Files::new(
            &authority.issue_for(&["localhost"], "server", from, to),
            None,
        );
        let connector = "[connectors.pipedrive]\nkind = \"pipedrive\"\n";
        let settings = files.write("contactd.toml", &(files.toml() + connector));
        for command in ["check-config", "serve"] {
            let mut command = contactd(&[command, "--config", &settings.display().to_string()]);
            command
                .env("CONTACTD__GRPC__LISTEN", "127.0.0.1:0")
                .env("CONTACTD__OPS__LISTEN", "127.0.0.1:0");
            let refused = clock::timeout(Duration::from_secs(10), run(command))
                .await
                .expect("it does not serve");
            let said = text(&refused.stderr);
            assert_eq!(refused.status.code(), Some(2), "{said}");
            assert!(
                said.contains("grpc.tls.cert") && said.contains(word),
                "{said}"
            );
        }
    }
}

#[tokio::test]
async fn an_expired_certificate_is_not_taken_in_exchange_for_a_valid_one() {
    let (crm, authority) = (crm().await, Authority::new());
    let files = Files::new(&authority.issue(&["localhost"], "server"), None);
    let example = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        crm.url()
    );
    let program = Program::start(&(files.toml() + &example)).await;
    let grpc = program
        .grpc
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    files.replace(&authority.issue_for(&["localhost"], "server", -2 * DAY, -DAY));
    let decided = || {
        program.log().contains("certificates cannot be used")
            || program.log().contains("were replaced")
    };
    eventually("the files are noticed", decided).await;
    assert!(
        program.log().contains("expired"),
        "it says why: {}",
        program.log()
    );
    assert!(
        connect(grpc, &authority, None).await.is_ok(),
        "the one before stays"
    );
}

#[tokio::test]
async fn a_certificate_that_expires_soon_is_told_in_the_log_and_counted_down() {
    let (crm, authority) = (crm().await, Authority::new());
    let files = Files::new(
        &authority.issue_for(&["localhost"], "server", -DAY, 10 * DAY + 60),
        None,
    );
    let example = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        crm.url()
    );
    let program = Program::start(&(files.toml() + &example)).await;
    eventually("it is told", || program.log().contains("expires soon")).await;
    let line = program
        .log()
        .lines()
        .find(|line| line.contains("expires soon"))
        .unwrap()
        .to_owned();
    assert!(
        line.contains("WARN") && line.contains("\"days_left\":10"),
        "{line}"
    );
    let left = async || {
        let page = get(&format!("{}/metrics", program.ops)).await.1;
        let left = page
            .lines()
            .find_map(|line| line.strip_prefix("contactd_tls_certificate_expires_seconds "));
        left.expect("it is counted").parse::<i64>().unwrap()
    };
    assert!((10 * DAY..=10 * DAY + 60).contains(&left().await));
    files.replace(&authority.issue_for(&["localhost"], "server", -DAY, 90 * DAY));
    let renewed = async { while left().await < 89 * DAY {} };
    clock::timeout(Duration::from_secs(20), renewed)
        .await
        .expect("the new one is counted down");

    let plain = TestDaemon::over(&crm).await;
    assert_eq!(
        plain
            .metric("contactd_tls_certificate_expires_seconds")
            .await,
        None,
        "without TLS there is no series"
    );
}

#[tokio::test]
async fn each_certificate_of_a_chain_and_each_authority_of_callers_has_to_be_valid() {
    let (authority, expired) = (Authority::new(), Authority::valid(-2 * DAY, -DAY));
    let server = authority.issue(&["localhost"], "server");
    let files = Files::new(&server, Some(&authority));
    let settings = files.toml() + "[connectors.pipedrive]\nkind = \"pipedrive\"\n";
    let settings = files.write("contactd.toml", &settings);
    for (file, sound) in [("cert.pem", &server.cert), ("ca.pem", &authority.pem())] {
        files.write(file, &format!("{sound}{}", expired.pem()));
        for command in ["check-config", "serve"] {
            let mut command = contactd(&[command, "--config", &settings.display().to_string()]);
            command
                .env("CONTACTD__GRPC__LISTEN", "127.0.0.1:0")
                .env("CONTACTD__OPS__LISTEN", "127.0.0.1:0");
            let refused = clock::timeout(Duration::from_secs(10), run(command))
                .await
                .expect("it does not serve");
            let said = text(&refused.stderr);
            assert_eq!(refused.status.code(), Some(2), "{said}");
            for word in [&files.path(file).display().to_string(), "2 of 2", "expired"] {
                assert!(said.contains(word), "{word}: {said}");
            }
        }
        files.write(file, sound);
    }
}

#[tokio::test]
async fn the_earliest_end_in_the_files_counts_and_each_file_is_told_of() {
    let crm = crm().await;
    let (root, below) = (
        Authority::valid(-DAY, 10 * DAY + 60),
        Authority::valid(-DAY, 20 * DAY + 60),
    );
    let server = below.issue(&["localhost"], "server");
    let files = Files::new(&server, Some(&root));
    files.write("cert.pem", &format!("{}{}", server.cert, below.pem()));
    let example = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        crm.url()
    );
    let program = Program::start(&(files.toml() + &example)).await;
    for (setting, days) in [("grpc.tls.cert", 20), ("grpc.tls.client_ca", 10)] {
        let told = |line: &str| {
            line.contains("expires soon")
                && line.contains(&format!("\"setting\":\"{setting}\""))
                && line.contains(&format!("\"days_left\":{days}"))
        };
        eventually(setting, || program.log().lines().any(told)).await;
    }
    let page = get(&format!("{}/metrics", program.ops)).await.1;
    let left = page
        .lines()
        .find_map(|line| line.strip_prefix("contactd_tls_certificate_expires_seconds "));
    let left = left.expect("it is counted").parse::<i64>().unwrap();
    assert!((10 * DAY..=10 * DAY + 60).contains(&left), "{left}");
}

#[tokio::test]
async fn a_command_that_does_not_get_through_says_which_option_may_be_missing() {
    let (crm, authority) = (crm().await, Authority::new());
    let files = Files::new(&authority.issue(&["localhost"], "server"), Some(&authority));
    let daemon = TestDaemon::with(&crm, "example", &files.toml()).await;
    let other = Authority::new().issue(&["cli.example"], "cli");
    let (cert, key) = (
        files.write("c.pem", &other.cert),
        files.write("c.key", &other.key),
    );
    let path = |path: &std::path::Path| path.display().to_string();
    let numbers = path(&files.write("numbers", "+16505551234\n"));
    let (cert, key, ca) = (path(&cert), path(&key), path(&files.path("ca.pem")));
    let at = |scheme: &str| format!("{scheme}localhost:{}", daemon.grpc.port());
    let (tls, plain) = (at("https://"), at("http://"));
    let plain_daemon = TestDaemon::over(&crm).await;
    let not_tls = format!("https://localhost:{}", plain_daemon.grpc.port());
    for command in [
        &["find", "+16505551234"][..],
        &["prefetch", &numbers],
        &["invalidate", "+16505551234"],
    ] {
        for (options, hint) in [
            (&["--server", &tls, "--ca-file", &ca][..], "--cert-file"),
            (
                &[
                    "--server",
                    &tls,
                    "--ca-file",
                    &ca,
                    "--cert-file",
                    &cert,
                    "--key-file",
                    &key,
                ],
                "client_ca",
            ),
            (&["--server", &tls], "--ca-file"),
            (&["--server", &plain], "https://"),
            (&["--server", &not_tls, "--ca-file", &ca], "http://"),
        ] {
            let failed = run(contactd(&[command, options].concat())).await;
            let said = text(&failed.stderr);
            assert_eq!(failed.status.code(), Some(1), "{options:?}: {said}");
            assert!(said.contains(hint), "{options:?}: {said}");
        }
    }
}
