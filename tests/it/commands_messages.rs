//! What the client commands say if there is no answer: one message for the person at the terminal,
//! with the option that helps.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::commands::{contactd, run, text};
use crate::support::pki::{Authority, Files, Pair};
use crate::support::{FakeCrm, Reply, TestDaemon, contact};

/// One failure of `find`: its arguments and variables, the exit code, and words of the message.
struct Case {
    args: Vec<String>,
    env: Vec<(&'static str, String)>,
    code: i32,
    words: &'static [&'static str],
}

fn case(args: &[&str], code: i32, words: &'static [&'static str]) -> Case {
    Case {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        code,
        words,
    }
}

impl Case {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }
}

/// Words of libraries, of the protocol, or for the operator of a telephony service.
const NEVER: [&str; 12] = [
    "transport error",
    "http2 error",
    "OtherError",
    "InvalidCertificate",
    "user.",
    "phone_number",
    "auth_header",
    "operator",
    "status details",
    "your telephony service",
    "os error",
    "Status {",
];

/// Each case is answered with one short message that has its words.
async fn check(cases: Vec<Case>) {
    let mut faults = Vec::new();
    for case in cases {
        let mut command = contactd(&["find", "+16505551234"]);
        command.args(&case.args).envs(case.env.clone());
        let output = run(command).await;
        let (said, printed) = (text(&output.stderr), text(&output.stdout));
        let is_one = said.starts_with("contactd: ") && said.matches("contactd: ").count() == 1;
        let lines: Vec<&str> = said.lines().collect();
        let is_short =
            (1..=3).contains(&lines.len()) && lines.iter().all(|line| !line.trim().is_empty());
        let never: Vec<&str> = NEVER
            .into_iter()
            .filter(|word| said.contains(word))
            .collect();
        let missing: Vec<_> = case
            .words
            .iter()
            .filter(|word| !said.contains(**word))
            .collect();
        if output.status.code() != Some(case.code)
            || !is_one
            || !is_short
            || !never.is_empty()
            || !missing.is_empty()
            || !printed.is_empty()
        {
            faults.push(format!(
                "{:?} {:?} exits with {:?}, lacks {missing:?}, has {never:?}: {said}{printed}",
                case.args,
                case.env,
                output.status.code()
            ));
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

async fn crm() -> FakeCrm {
    FakeCrm::start(|seen| match seen.param("phone") {
        Some("+16505550500") => Reply::status(500),
        Some("+16505550401") => Reply::status(401),
        Some("+16505550403") => Reply::status(403),
        Some("+16505550429") => Reply::status(429).header("retry-after", "30"),
        Some("+16505550200") => Reply::html(),
        Some("+16505550000") => Reply::status(200).after(std::time::Duration::from_secs(5)),
        _ => crate::support::crm::example(seen, &[contact(17, "Ada Lovelace", "(650) 555-1234")]),
    })
    .await
}

#[tokio::test]
async fn what_the_daemon_refuses_is_said_with_its_reason_and_the_option_that_helps() {
    let crm = crm().await;
    let hash = crate::clients::sha256("token-of-the-cli");
    let tokens = format!(
        "[grpc]\ntokens = [{{ name = \"cli\", sha256 = \"{hash}\", platforms = [\"example\"] }}]\n"
    );
    let open = TestDaemon::with(
        &crm,
        "example",
        "[connectors.pipedrive]\nkind = \"pipedrive\"\n",
    )
    .await;
    let closed = TestDaemon::with(
        &crm,
        "example",
        &format!("{tokens}[connectors.pipedrive]\nkind = \"pipedrive\"\n"),
    )
    .await;
    let (open, closed) = (open.grpc.to_string(), closed.grpc.to_string());
    let file = tempfile::NamedTempFile::new().unwrap();
    let empty = file.path().to_str().unwrap();
    let ask = |args: &[&str], code, words| {
        case(&[&["--server", open.as_str()], args].concat(), code, words)
    };
    let mut cases = vec![
        ask(
            &["--platform", "pipedriv"],
            2,
            &["--platform", "INVALID_REQUEST", "example, pipedrive"],
        ),
        ask(
            &["--region", "Germany"],
            2,
            &["--region", "INVALID_REQUEST"],
        ),
        ask(
            &["--user-id", ""],
            2,
            &["--user-id is required", "INVALID_REQUEST"],
        ),
        ask(
            &["--platform", "pipedrive"],
            2,
            &["--hostname is required", "INVALID_REQUEST"],
        ),
        ask(
            &["--platform", "pipedrive", "--hostname", "evil.example"],
            2,
            &["--hostname", "allowed_hosts", "INVALID_REQUEST"],
        ),
        ask(
            &["--auth-header-file", empty],
            2,
            &["--auth-header-file", "CONTACTD_AUTH_HEADER"],
        ),
        ask(
            &["--auth-header-file", "/no/such/file"],
            1,
            &["cannot read /no/such/file"],
        ),
    ];
    cases.push(
        case(
            &["--server", &closed],
            1,
            &["--token-file", "CONTACTD_TOKEN", "CALLER_UNAUTHENTICATED"],
        )
        .with("CONTACTD_TOKEN", "another"),
    );
    cases.push(
        case(
            &[
                "--server",
                &closed,
                "--platform",
                "pipedrive",
                "--hostname",
                "acme.pipedrive.com",
            ],
            1,
            &["--platform", "grpc.tokens", "CALLER_FORBIDDEN"],
        )
        .with("CONTACTD_TOKEN", "token-of-the-cli"),
    );
    check(cases).await;
}

#[tokio::test]
async fn what_the_crm_did_is_said_with_its_reason_and_what_to_do() {
    let crm = crm().await;
    let daemon = TestDaemon::over(&crm).await;
    let server = daemon.grpc.to_string();
    for (number, more, words) in [
        (
            "+16505550500",
            &[][..],
            &["HTTP status 500", "CRM_UNAVAILABLE", "base_url"][..],
        ),
        (
            "+16505550401",
            &[],
            &[
                "CRM_UNAUTHENTICATED",
                "--auth-header-file",
                "CONTACTD_AUTH_HEADER",
            ],
        ),
        ("+16505550403", &[], &["CRM_FORBIDDEN", "permission"]),
        (
            "+16505550429",
            &[],
            &["CRM_RATE_LIMITED", "Try again after 30s"],
        ),
        ("+16505550200", &[], &["CRM_BAD_REPLY", "base_url"]),
        ("+16505550000", &["--timeout", "300ms"], &["--timeout"]),
    ] {
        let args = [
            &["find", number, "--server", &server, "--user-id", number][..],
            more,
        ]
        .concat();
        let mut command = contactd(&args);
        command.env("CONTACTD_AUTH_HEADER", format!("Bearer {number}"));
        let output = run(command).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{number}: {said}");
        for word in words {
            assert!(said.contains(word), "{number}: {word:?} in {said}");
        }
        for word in NEVER {
            assert!(!said.contains(word), "{number}: {word:?} in {said}");
        }
        assert!(
            said.lines().count() <= 3 && !said.contains("\n\n"),
            "{said}"
        );
    }
}

/// A server that completes handshakes with this certificate, and does nothing else.
async fn handshakes(pair: &Pair) -> u16 {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.cert.as_bytes())
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols.push(b"h2".to_vec());
    let (acceptor, listener) = (
        TlsAcceptor::from(Arc::new(config)),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let port = listener.local_addr().unwrap().port();
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(stream).await;
        }
    });
    port
}

/// A server that accepts connections and says nothing.
async fn silence() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// A server that says one line to everybody, as a mail server does.
async fn greets() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
            let _ = stream.read_u8().await;
        }
    });
    address
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

struct Ca(Authority, Files);

impl Ca {
    fn new() -> Self {
        let authority = Authority::new();
        let files = Files::new(&authority.issue(&["localhost"], "server"), Some(&authority));
        Self(authority, files)
    }

    fn file(&self) -> String {
        shown(&self.1.path("ca.pem"))
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.1.write(name, text);
        shown(&path)
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_said_why_and_what_to_do() {
    let ca = Ca::new();
    let day = 24 * 3600;
    let (expired, early) = (
        handshakes(&ca.0.issue_for(&["localhost"], "s", -9 * day, -day)).await,
        handshakes(&ca.0.issue_for(&["localhost"], "s", day, 9 * day)).await,
    );
    let other_name = handshakes(&ca.0.issue(&["pbx.example", "10.0.0.9"], "s")).await;
    let nameless = handshakes(&ca.0.issue(&[], "localhost")).await;
    let itself = handshakes(&ca.0.own()).await;
    let sound = handshakes(&ca.0.issue(&["localhost"], "s")).await;
    let other = Ca::new().0.pem();
    let other = ca.write("other.pem", &other);
    let nothing = ca.write("nothing.pem", "no certificate\n");
    let ask = |port: u16, file: &str, words| {
        let server = format!("https://localhost:{port}");
        case(&["--server", &server, "--ca-file", file], 1, words)
    };
    let own = ca.file();
    let not_pem = Case {
        code: 2,
        ..ask(sound, &nothing, &["nothing.pem holds no certificate"])
    };
    check(vec![
        ask(expired, &own, &["expired", "grpc.tls.cert"]),
        ask(early, &own, &["not valid yet", "clock"]),
        ask(
            other_name,
            &own,
            &["not for \"localhost\"", "pbx.example, 10.0.0.9", "--server"],
        ),
        ask(nameless, &own, &["not for \"localhost\"", "subjectAltName"]),
        ask(itself, &own, &["is a CA certificate", "contactd tls init"]),
        ask(sound, &other, &["not trusted", "other.pem", "--ca-file"]),
        case(
            &["--server", &format!("https://localhost:{sound}")],
            1,
            &["not trusted", "--ca-file", "CONTACTD_CA_FILE"],
        ),
        not_pem,
        ask(sound, "/no/such/ca.pem", &["cannot read /no/such/ca.pem"]),
    ])
    .await;
}

#[tokio::test]
async fn a_side_that_encrypts_and_one_that_does_not_are_told_apart_and_so_is_a_missing_certificate()
{
    let (crm, ca) = (crm().await, Ca::new());
    let open = Files::new(&ca.0.issue(&["localhost"], "server"), None);
    let tls = TestDaemon::with(&crm, "example", &open.toml()).await;
    let asking = TestDaemon::with(&crm, "example", &ca.1.toml()).await;
    let plain = TestDaemon::over(&crm).await;
    let stranger = Authority::new().issue(&["cli.example"], "cli");
    let (cert, key) = (
        ca.write("c.pem", &stranger.cert),
        ca.write("c.key", &stranger.key),
    );
    let at =
        |scheme: &str, daemon: &TestDaemon| format!("{scheme}localhost:{}", daemon.grpc.port());
    let own = ca.file();
    let greeting = greets().await.to_string();
    let (_open, silent) = silence().await;
    check(vec![
        case(
            &["--server", &at("http://", &tls)],
            1,
            &["expects TLS", "--server https://localhost:"],
        ),
        case(
            &["--server", &at("", &tls)],
            1,
            &["expects TLS", "--ca-file"],
        ),
        case(
            &["--server", &at("https://", &plain), "--ca-file", &own],
            1,
            &["does not speak TLS", "http://"],
        ),
        case(
            &["--server", &at("", &plain), "--ca-file", &own],
            1,
            &["does not speak TLS", "http://"],
        ),
        case(
            &["--server", &at("http://", &plain), "--ca-file", &own],
            2,
            &["--ca-file", "https://"],
        ),
        case(
            &["--server", &at("https://", &asking), "--ca-file", &own],
            1,
            &["client certificate", "--cert-file and --key-file"],
        ),
        case(
            &[
                "--server",
                &at("https://", &asking),
                "--ca-file",
                &own,
                "--cert-file",
                &cert,
                "--key-file",
                &key,
            ],
            1,
            &["c.pem", "grpc.tls.client_ca"],
        ),
        case(
            &["--server", &at("https://", &asking), "--ca-file", &own],
            2,
            &["--key-file", "CONTACTD_KEY_FILE"],
        )
        .with("CONTACTD_CERT_FILE", &cert),
        case(
            &["--server", "127.0.0.1:1"],
            1,
            &["http://127.0.0.1:1", "`contactd serve`"],
        ),
        case(
            &["--server", "no-such-host.invalid:1"],
            1,
            &["no-such-host.invalid", "no address", "--server"],
        ),
        case(
            &["--server", &greeting],
            1,
            &["broke the connection", "grpc.listen"],
        ),
        case(
            &[
                "--server",
                &format!("https://{silent}"),
                "--ca-file",
                &own,
                "--timeout",
                "300ms",
            ],
            1,
            &["does not answer", "--server"],
        ),
        case(
            &["--server", &silent, "--timeout", "300ms"],
            1,
            &["no answer within 300ms", "--timeout"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_variables_stand_in_for_the_options_and_empty_ones_for_nothing() {
    let (crm, ca) = (crm().await, Ca::new());
    let hash = crate::clients::sha256("token-of-the-cli");
    let tokens = format!("tokens = [{{ name = \"cli\", sha256 = \"{hash}  -\" }}]\n");
    let daemon = TestDaemon::with(&crm, "example", &(ca.1.toml() + &tokens)).await;
    let pair = ca.0.issue(&["cli.example"], "cli");
    let (cert, key) = (ca.write("c.pem", &pair.cert), ca.write("c.key", &pair.key));
    let token = ca.write("token", "token-of-the-cli\n");
    let address = format!("localhost:{}", daemon.grpc.port());
    let find = || contactd(&["find", "+16505551234", "--output", "name"]);
    for server in [&address, &format!("https://{address}")] {
        let mut command = find();
        command
            .env("CONTACTD_SERVER", server)
            .env("CONTACTD_CA_FILE", ca.file())
            .env("CONTACTD_TOKEN_FILE", &token)
            .env("CONTACTD_TOKEN", "stale")
            .env("CONTACTD_CERT_FILE", &cert)
            .env("CONTACTD_KEY_FILE", &key);
        let output = run(command).await;
        assert_eq!(
            text(&output.stdout),
            "Ada Lovelace\n",
            "{}",
            text(&output.stderr)
        );
    }
    // Variables that are there for another daemon do no harm, and an option is stronger.
    let plain = TestDaemon::over(&crm).await;
    for (url, variable) in [
        (format!("http://{}", plain.grpc), ca.file()),
        (plain.grpc.to_string(), String::new()),
    ] {
        let mut command = find();
        command
            .args(["--server", &url])
            .env("CONTACTD_SERVER", "http://127.0.0.1:1")
            .env("CONTACTD_CA_FILE", variable)
            .env("CONTACTD_TOKEN_FILE", "");
        let output = run(command).await;
        assert_eq!(
            text(&output.stdout),
            "Ada Lovelace\n",
            "{}",
            text(&output.stderr)
        );
    }
}

#[tokio::test]
async fn output_name_prints_a_verified_contacts_name_or_nothing() {
    let crm = FakeCrm::start(|seen| {
        let number = seen.param("phone").unwrap_or_default().to_owned();
        let contacts = match number.as_str() {
            "+16505551234" => vec![
                contact(1, "Ada Lovelace", &number),
                contact(2, "Zoe", &number),
            ],
            // No phone field: nobody can say whether it is the number.
            "+16505551235" => {
                vec![serde_json::json!({"id": 3, "kind": "person", "name": "Nobody knows"})]
            }
            _ => Vec::new(),
        };
        crate::support::crm::example(seen, &contacts)
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let server = daemon.grpc.to_string();
    for (number, more, printed, code) in [
        ("+16505551234", &[][..], "Ada Lovelace\n", 0),
        ("+16505551235", &[], "", 3),
        ("+16505551236", &[], "", 3),
        ("anonymous", &[], "", 3),
        ("+16505551237", &["--only-if-cached"], "", 3),
    ] {
        let base = ["find", number, "--server", &server, "--output", "name"];
        let output = run(contactd(&[&base[..], more].concat())).await;
        assert_eq!(
            (text(&output.stdout).as_str(), output.status.code()),
            (printed, Some(code)),
            "{number}: {}",
            text(&output.stderr)
        );
    }
}

#[tokio::test]
async fn an_answer_for_people_names_the_option_and_has_no_empty_line_where_nobody_was_found() {
    let crm = crm().await;
    let daemon = TestDaemon::over(&crm).await;
    let server = daemon.grpc.to_string();
    for (number, words) in [
        ("(650) 555-1234", "--region"),
        ("anonymous", "withheld"),
        ("1000", "--extension"),
        ("+16505551234", "Ada Lovelace"),
    ] {
        let output = run(contactd(&["find", number, "--server", &server])).await;
        let shown = text(&output.stdout);
        assert!(
            shown.contains(words) && !shown.contains("user."),
            "{number}: {shown}"
        );
        let is_blank = |line: &str| line.trim().is_empty() && !line.is_empty();
        assert!(!shown.lines().any(is_blank), "{number}: {shown:?}");
        let found = words == "Ada Lovelace";
        assert!(
            found || shown.lines().all(|line| !line.is_empty()),
            "{number}: {shown:?}"
        );
    }
}
