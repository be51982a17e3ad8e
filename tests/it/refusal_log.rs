//! Who was refused is in the log at info: once a minute, with the reason and the kind of network.

use contactd::grpc::client::ContactServiceClient;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use crate::clients::{sha256, with_token};
use crate::support::daemon::Changed as _;
use crate::support::pki::{Authority, Files, connect};
use crate::support::program::Program;
use crate::support::{FakeCrm, contact, eventually, find};

async fn program(more: &str) -> Program {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let url = crm.url();
    let example = format!("[connectors.example]\nkind = \"example\"\nbase_url = \"{url}\"\n");
    Program::start_with(&format!("{more}{example}"), "info", &[]).await
}

fn lines(program: &Program, message: &str) -> Vec<Value> {
    let log = program.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

async fn client(program: &Program) -> ContactServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(program.grpc.clone()).unwrap();
    ContactServiceClient::new(endpoint.connect().await.unwrap())
}

#[tokio::test]
async fn an_unknown_client_is_logged_once_a_minute_for_each_reason() {
    let token = sha256("right");
    let program = program(&format!(
        "[grpc]\ntokens = [{{ name = \"pbx\", sha256 = \"{token}\", platforms = [\"other\"] }}]\n\
         [connectors.other]\nkind = \"example\"\nbase_url = \"http://127.0.0.1:1\"\n"
    ))
    .await;
    let mut client = client(&program).await;
    for _ in 0..3 {
        let wrong = with_token("Bearer wrong-token-41f7", find());
        client.find_contact(wrong).await.unwrap_err();
        client.find_contact(find()).await.unwrap_err();
        let right = with_token("Bearer right", find());
        client.find_contact(right).await.unwrap_err();
    }
    let stranger = "a call from an unknown client was refused";
    eventually("both reasons are told", || {
        lines(&program, stranger).len() == 2
    })
    .await;
    let reasons: Vec<Value> = lines(&program, stranger)
        .iter()
        .map(|line| line["reason"].clone())
        .collect();
    assert_eq!(
        reasons,
        [
            "its token is not in grpc.tokens",
            "it sent neither a token nor a certificate with a name"
        ]
    );
    let known = "a call from a known client was refused";
    eventually("the third is told", || !lines(&program, known).is_empty()).await;
    let known = lines(&program, known);
    assert_eq!(known.len(), 1, "{known:?}");
    assert_eq!(known[0]["client"], "pbx");
    assert_eq!(
        known[0]["reason"],
        "this client may not use this user.platform"
    );
    for line in lines(&program, stranger) {
        assert_eq!(
            (&line["level"], &line["network"]),
            (&"INFO".into(), &"loopback".into())
        );
    }
    let log = program.log();
    assert!(!log.contains("41f7") && !log.contains("user-1"), "{log}");
}

#[tokio::test]
async fn a_failed_handshake_is_logged_with_its_reason() {
    let (authority, other) = (Authority::new(), Authority::new());
    let files = Files::new(&authority.issue(&["localhost"], "server"), Some(&authority));
    let program = program(&files.toml()).await;
    let address = program.grpc.strip_prefix("http://").unwrap();
    let strange = other.issue(&["marked.example"], "marked-name");
    let good = authority.issue(&["pbx.example"], "pbx");
    for (authority, identity) in [
        (&authority, None),
        (&authority, Some(&strange)),
        (&other, Some(&good)),
    ] {
        for _ in 0..2 {
            // TLS 1.3 tells a client only after its handshake.
            if let Ok(mut client) = connect(address.parse().unwrap(), authority, identity).await {
                client.find_contact(find()).await.unwrap_err();
            }
        }
    }
    if let Ok(client) = Endpoint::from_shared(program.grpc.clone())
        .unwrap()
        .connect()
        .await
    {
        let call = find().number("+16505559999");
        ContactServiceClient::new(client)
            .find_contact(call)
            .await
            .unwrap_err();
    }
    let failed = || lines(&program, "a TLS handshake failed");
    eventually("all four are told", || failed().len() == 4).await;
    let mut reasons: Vec<String> = failed()
        .iter()
        .map(|line| line["reason"].as_str().unwrap().to_owned())
        .collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            "the client does not accept the server's certificate",
            "the client does not speak TLS",
            "the client sent no certificate",
            "the client's certificate comes from no authority in grpc.tls.client_ca",
        ]
    );
    assert!(!program.log().contains("marked"), "{}", program.log());
}
