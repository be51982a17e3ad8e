//! Other people's programs: curl, and buf as a published client of the Connect protocol.

use std::process::{Command, Output};

use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::deploy::{repo, text};
use crate::support::outside::program;
use crate::support::program::Program;

const QUESTION: &str = r#"{"user":{"id":"u","platform":"example","region":"US"},
    "authHeader":"Bearer demo","phoneNumber":"(512) 537-3573"}"#;

async fn run(mut command: Command) -> Output {
    spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap()
}

fn words(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}

/// The first block of shell in a page that begins so.
fn block(page: &str, begin: &str) -> String {
    let page = text(page);
    let mut blocks = page.split("```sh\n").skip(1);
    let found = blocks.find(|block| block.starts_with(begin));
    let found = found.unwrap_or_else(|| panic!("{begin} is on no page"));
    found.split("```").next().unwrap().to_owned()
}

#[tokio::test]
#[ignore = "needs curl: tests/run gets it"]
async fn the_look_ups_with_curl_do_what_the_pages_say() {
    let daemon = Program::on_defaults(&[]).await;
    for (page, begin, expected) in [
        ("README.md", "curl --json", "Margaret Ricci"),
        ("proto/README.md", "curl --json", "Margaret Ricci"),
        (
            "proto/README.md",
            "curl --json '{\n  \"question\"",
            "Margaret Ricci",
        ),
        ("proto/README.md", "curl --get", "Margaret Ricci"),
        ("proto/README.md", "curl --fail --get", "Margaret Ricci"),
        ("proto/README.md", "printf", "\"finished\""),
    ] {
        let server = daemon.grpc.clone();
        let block = block(page, begin).replace("http://127.0.0.1:50051", &server);
        let _ = program("curl");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(&block);
        let output = run(shell).await;
        let said = words(&output);
        assert!(
            output.status.success() && said.contains(expected),
            "{block}\n{said}"
        );
    }
}

#[tokio::test]
#[ignore = "needs curl: tests/run gets it"]
async fn curl_speaks_both_versions_and_reads_why_a_call_failed() {
    let daemon = Program::on_defaults(&[]).await;
    let url = format!("{}/contactd.v1.ContactService/FindContact", daemon.grpc);
    for (flags, version) in [
        (&["--http1.1"][..], "1.1"),
        (&["--http2-prior-knowledge"], "2"),
    ] {
        let ask = async |body: &'static str| {
            let mut curl = program("curl");
            curl.args([
                "-sS",
                "--json",
                body,
                "-w",
                "\n%{http_version} %{http_code}",
            ]);
            curl.args(flags).arg(&url);
            let said = words(&run(curl).await);
            let (body, code) = said
                .rsplit_once('\n')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .unwrap();
            (serde_json::from_str::<Value>(&body).expect(&said), code)
        };
        let (answer, code) = ask(QUESTION).await;
        assert_eq!(code, format!("{version} 200"));
        assert_eq!(answer["matchedContactInfo"][0]["name"], "Margaret Ricci");
        let (answer, code) = ask("{}").await;
        assert_eq!(code, format!("{version} 400"));
        assert_eq!(answer["details"][0]["debug"]["reason"], "INVALID_REQUEST");
    }
}

/// buf is a client of connect-go, the reference.
#[tokio::test]
#[ignore = "needs buf: tests/run gets it"]
async fn a_published_client_of_the_connect_protocol_is_served() {
    let daemon = Program::on_defaults(&[]).await;
    let call = async |flags: &[&str], method: &str, message: &str| {
        let mut buf = program("buf");
        buf.args(["curl", "--protocol", "connect", "--schema"])
            .arg(repo("proto"));
        buf.args(flags).args(["-d", message]);
        buf.arg(format!(
            "{}/contactd.v1.ContactService/{method}",
            daemon.grpc
        ));
        let output = run(buf).await;
        (output.status.code(), words(&output))
    };
    let plain: &[&str] = &[];
    for flags in [plain, &["--http2-prior-knowledge"]] {
        let (code, said) = call(flags, "FindContact", QUESTION).await;
        assert!(code == Some(0) && said.contains("Margaret Ricci"), "{said}");
        let batch = QUESTION
            .replace("\"phoneNumber\":", "\"phoneNumbers\":[")
            .replace("73\"}", "73\"]}");
        let (code, said) = call(flags, "PrefetchContacts", &batch).await;
        assert!(code == Some(0) && said.contains("finished"), "{said}");
        let forget = r#"{"user":{"id":"u","platform":"example"},"everything":true}"#;
        let (code, said) = call(flags, "InvalidateContacts", forget).await;
        assert!(code == Some(0) && said.trim() == "{}", "{said}");
        let (code, said) = call(flags, "FindContact", "{}").await;
        assert!(
            code != Some(0) && said.contains("invalid_argument"),
            "{said}"
        );
        assert!(
            said.contains("INVALID_REQUEST"),
            "the details are read: {said}"
        );
    }
}
