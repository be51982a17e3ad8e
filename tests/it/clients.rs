//! Who may call: tokens, lists, limits of one client, and the port that is not opened to everybody
//! by accident.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use contactd::config;
use contactd::pb::v1::{FindContactRequest, InvalidateContactsRequest, PrefetchContactsRequest};
use ring::digest;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::daemon::{Changed as _, details};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find};

pub(crate) fn sha256(token: &str) -> String {
    digest::digest(&digest::SHA256, token.as_bytes())
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
}

pub(crate) fn with_token<T>(header: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", header.parse().unwrap());
    request
}

async fn daemon(crm: &FakeCrm, clients: &[(&str, &str, &str)]) -> TestDaemon {
    let entries: Vec<String> = clients
        .iter()
        .map(|(name, token, more)| {
            format!(
                "{{ name = \"{name}\", sha256 = \"{}\"{more} }}",
                sha256(token)
            )
        })
        .collect();
    TestDaemon::with(
        crm,
        "example",
        &format!("[grpc]\ntokens = [{}]\n", entries.join(", ")),
    )
    .await
}

async fn ada() -> FakeCrm {
    FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await
}

async fn channel(daemon: &TestDaemon) -> Channel {
    Channel::from_shared(format!("http://{}", daemon.grpc))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn only_the_tokens_of_the_list_get_an_answer() {
    let crm = ada().await;
    let daemon = daemon(&crm, &[("pbx", "token-a", ""), ("dialler", "token-b", "")]).await;
    for (header, let_in) in [
        ("Bearer token-a", true),
        ("bearer token-b", true),
        ("Bearer token-c", false),
        ("Bearer token-", false),
        ("Bearer token-aa", false),
        ("Bearer ", false),
        ("Basic token-a", false),
        ("token-a", false),
    ] {
        let answer = daemon.find(with_token(header, find())).await;
        assert_eq!(answer.is_ok(), let_in, "{header}: {answer:?}");
    }
    let status = daemon.find(find()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let details = details(&status);
    assert_eq!(
        (details.reason.as_str(), details.domain.as_str()),
        ("CALLER_UNAUTHENTICATED", "contactd")
    );
    assert!(details.message.is_some() && !status.message().contains("token-c"));
    assert_eq!(
        daemon
            .metric("contactd_calls_refused_total{reason=\"caller_unauthenticated\"}")
            .await,
        Some(7.0)
    );
}

#[tokio::test]
async fn all_methods_and_reflection_want_the_token_and_health_does_not() {
    let crm = ada().await;
    let daemon = daemon(&crm, &[("pbx", "token-a", "")]).await;
    let mut client = daemon.client.clone();
    let user = find().user;
    let prefetch = PrefetchContactsRequest {
        user: user.clone(),
        ..Default::default()
    };
    assert_eq!(
        client.prefetch_contacts(prefetch).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let forget = InvalidateContactsRequest { user, scope: None };
    assert_eq!(
        client.invalidate_contacts(forget).await.unwrap_err().code(),
        Code::Unauthenticated
    );

    let list = || {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        tokio_stream::once(ServerReflectionRequest {
            message_request,
            ..Default::default()
        })
    };
    let mut reflection = ServerReflectionClient::new(channel(&daemon).await);
    assert_eq!(
        reflection
            .server_reflection_info(list())
            .await
            .unwrap_err()
            .code(),
        Code::Unauthenticated
    );
    assert!(
        reflection
            .server_reflection_info(with_token("Bearer token-a", list()))
            .await
            .is_ok()
    );
    let mut health = HealthClient::new(channel(&daemon).await);
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
}

#[tokio::test]
async fn reflection_describes_the_details_of_failures() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    for name in ["ErrorInfo", "BadRequest", "RetryInfo", "Status"] {
        let symbol = MessageRequest::FileContainingSymbol(format!("google.rpc.{name}"));
        let request = tokio_stream::once(ServerReflectionRequest {
            message_request: Some(symbol),
            ..Default::default()
        });
        let mut reflection = ServerReflectionClient::new(channel(&daemon).await);
        let answers = reflection.server_reflection_info(request).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        let files = answer.message_response.unwrap();
        assert!(
            matches!(files, MessageResponse::FileDescriptorResponse(_)),
            "{name}: {files:?}"
        );
    }
}

#[tokio::test]
async fn a_client_is_kept_to_its_platforms_and_accounts() {
    let crm = ada().await;
    let more = ", platforms = [\"example\"], accounts = [\"acme\"]";
    let daemon = daemon(&crm, &[("pbx", "token-a", more), ("all", "token-b", "")]).await;
    let ask = |account: &str| {
        let mut request = find();
        request.user.as_mut().unwrap().account_id = account.to_owned();
        request
    };
    assert!(
        daemon
            .find(with_token("Bearer token-a", ask("acme")))
            .await
            .is_ok()
    );
    assert!(
        daemon
            .find(with_token("Bearer token-b", ask("other")))
            .await
            .is_ok()
    );
    for account in ["other", "", "ACME"] {
        let status = daemon
            .find(with_token("Bearer token-a", ask(account)))
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), details(&status).reason.as_str()),
            (Code::PermissionDenied, "CALLER_FORBIDDEN")
        );
    }
    let forget = InvalidateContactsRequest {
        user: find().user,
        scope: None,
    };
    let mut client = daemon.client.clone();
    let status = client
        .invalidate_contacts(with_token("Bearer token-a", forget))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

fn overloaded(answer: Result<impl std::fmt::Debug, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let details = details(&status);
    assert_eq!(details.reason, "OVERLOADED");
    assert!(details.retry_after.is_some());
}

#[tokio::test]
async fn a_clients_rate_and_calls_in_hand_bind_that_client_only() {
    let slow = Reply::json(serde_json::json!({"contacts": [], "next_page": null}))
        .after(Duration::from_secs(3));
    let crm = FakeCrm::start(move |_| slow.clone()).await;
    // The CRM takes three seconds, so that the first call is still running when the second one
    // comes.
    let daemon = daemon(
        &crm,
        &[
            ("few", "token-a", ", max_in_flight = 1"),
            ("free", "token-b", ""),
        ],
    )
    .await;
    let request =
        |token: &str, number: &str| with_token(token, FindContactRequest::number(find(), number));
    let first = daemon.find(request("Bearer token-a", "+16505550001"));
    let others = async {
        eventually("the first call is in hand", || crm.searches() == 1).await;
        overloaded(daemon.find(request("Bearer token-a", "+16505550002")).await);
        assert!(
            daemon
                .find(request("Bearer token-b", "+16505550003"))
                .await
                .is_ok()
        );
    };
    let (first, ()) = tokio::join!(first, others);
    assert!(first.is_ok());
    assert!(
        daemon
            .find(request("Bearer token-a", "+16505550004"))
            .await
            .is_ok(),
        "the place is given back"
    );
}

#[tokio::test]
async fn a_clients_rate_is_refused_beyond_its_burst() {
    let crm = ada().await;
    let daemon = daemon(
        &crm,
        &[("rare", "token-a", ", rate = 5"), ("free", "token-b", "")],
    )
    .await;
    daemon
        .find(with_token("Bearer token-b", find()))
        .await
        .unwrap();
    let calls =
        (0..200).map(|_| daemon.find(with_token("Bearer token-a", find().auth("Bearer token-1"))));
    let refused: Vec<_> = futures_util::future::join_all(calls)
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert!(refused.len() > 20, "{} of 200 refused", refused.len());
    refused
        .into_iter()
        .for_each(|status| overloaded(Err::<(), _>(status)));
    assert!(
        daemon
            .find(with_token("Bearer token-b", find()))
            .await
            .is_ok()
    );
}

fn read(text: &str) -> Result<config::Effective, Vec<String>> {
    let text = format!(
        "{text}\n[connectors.example]\nkind = \"example\"\nbase_url = \"http://127.0.0.1:1\"\n"
    );
    config::read(&text, []).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn a_port_that_others_can_reach_needs_clients_that_prove_themselves_or_an_explicit_word() {
    let token = format!(
        "tokens = [{{ name = \"a\", sha256 = \"{}\" }}]",
        sha256("x")
    );
    for listen in [
        "0.0.0.0:50051",
        "[::]:50051",
        "192.168.1.2:1",
        "[::ffff:10.0.0.1]:1",
    ] {
        let faults = read(&format!("[grpc]\nlisten = \"{listen}\"")).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].starts_with("grpc.listen: "),
            "{faults:?}"
        );
        for hint in [
            "grpc.tokens",
            "grpc.tls.client_ca",
            "grpc.insecure = true",
            "127.0.0.1",
        ] {
            assert!(faults[0].contains(hint), "{hint} in {faults:?}");
        }
        let insecure = read(&format!("[grpc]\nlisten = \"{listen}\"\ninsecure = true")).unwrap();
        assert!(insecure.config.grpc.warnings()[0].contains("everybody"));
        let clear = read(&format!("[grpc]\nlisten = \"{listen}\"\n{token}")).unwrap();
        assert!(clear.config.grpc.warnings()[0].contains("unencrypted"));
    }
    for listen in [
        "127.0.0.1:1",
        "[::1]:1",
        "127.9.9.9:1",
        "[::ffff:127.0.0.1]:1",
    ] {
        assert!(
            read(&format!("[grpc]\nlisten = \"{listen}\""))
                .unwrap()
                .config
                .grpc
                .warnings()
                .is_empty(),
            "{listen}"
        );
    }
}

#[test]
fn check_config_refuses_an_open_port_and_warns_of_tokens_in_the_clear() {
    let check = |grpc: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("[grpc]\n{grpc}\n[connectors.pipedrive]\nkind = \"pipedrive\"\n");
        std::fs::write(file.path(), text).unwrap();
        let program = env!("CARGO_BIN_EXE_contactd");
        Command::new(program)
            .args(["check-config", "--config"])
            .arg(file.path())
            .output()
            .unwrap()
    };
    let open = check("listen = \"0.0.0.0:50051\"");
    assert_eq!(open.status.code(), Some(2));
    assert!(
        String::from_utf8(open.stderr)
            .unwrap()
            .contains("grpc.insecure = true")
    );
    let clear = check("listen = \"0.0.0.0:50051\"\ninsecure = true");
    assert_eq!(clear.status.code(), Some(0));
    assert!(
        String::from_utf8(clear.stderr)
            .unwrap()
            .contains("warning: grpc.insecure")
    );
}

#[test]
fn faults_of_the_list_are_told_without_repeating_a_token() {
    let hash = sha256("x");
    for (tokens, path) in [
        (
            "[{ sha256 = \"my-real-token\" }]".to_owned(),
            "grpc.tokens[0].sha256: ",
        ),
        (
            format!("[{{ sha256 = \"{hash}\" }}]"),
            "grpc.tokens[0].name: ",
        ),
        ("[{ name = \"a\" }]".to_owned(), "grpc.tokens[0].sha256: "),
        (
            "[{ name = \"a\", sha256 = [] }]".to_owned(),
            "grpc.tokens[0].sha256: ",
        ),
        (
            "[{ name = \"a\", certificate = \"a\" }]".to_owned(),
            "grpc.tokens: ",
        ),
        (
            format!("[{{ name = \"a\", sha256 = \"{hash}\", rate = 0 }}]"),
            "grpc.tokens[0].rate: ",
        ),
        (
            format!("[{{ name = \"a\", sha256 = \"{hash}\", platform = \"x\" }}]"),
            "grpc.tokens[0].platform: ",
        ),
        (
            format!("[{{ name = \"a\", sha256 = \"{hash}\", platforms = [\"x\"] }}]"),
            "grpc.tokens[0].platforms: ",
        ),
        (
            format!(
                "[{{ name = \"a\", sha256 = \"{hash}\" }}, {{ name = \"b\", sha256 = \"{hash}\" }}]"
            ),
            "grpc.tokens: ",
        ),
        (
            format!(
                "[{{ name = \"a\", sha256 = \"{hash}\" }}, {{ name = \"a\", sha256 = \"{}\" }}]",
                sha256("y")
            ),
            "grpc.tokens: ",
        ),
        ("5".to_owned(), "grpc.tokens: "),
    ] {
        let faults = read(&format!("[grpc]\ntokens = {tokens}")).unwrap_err();
        assert!(
            faults.iter().any(|fault| fault.starts_with(path)),
            "{tokens}: {faults:?}"
        );
        assert!(
            !faults.iter().any(|fault| fault.contains("my-real-token")),
            "{faults:?}"
        );
    }
    for (tls, path) in [
        (
            "{ cert = \"/nowhere.pem\", key = \"/nowhere.key\" }",
            "grpc.tls.cert: /nowhere.pem cannot be read",
        ),
        ("{ cert = \"/dev/null\" }", "grpc.tls.key: is required"),
        (
            "{ cert = \"/dev/null\", key = \"/dev/null\" }",
            "grpc.tls.cert: /dev/null holds no certificate",
        ),
    ] {
        let faults = read(&format!("[grpc]\ntls = {tls}")).unwrap_err();
        assert!(
            faults.iter().any(|fault| fault.starts_with(path)),
            "{tls}: {faults:?}"
        );
    }
    let printed = read(&format!(
        "[grpc]\ntokens = [{{ name = \"a\", sha256 = \"{hash}\" }}]"
    ))
    .unwrap()
    .toml;
    let again = config::read(&printed, []).unwrap();
    assert_eq!(
        again.toml, printed,
        "what is printed is itself a settings file"
    );
}
