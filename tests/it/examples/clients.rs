//! The clients in shell, Python and JavaScript, and the job for a first login.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contactd::clock;
use futures_util::future::join_all;
use serde_json::json;

use super::{Example, words};
use crate::clients::sha256;
use crate::deploy::repo;
use crate::support::outside::program;
use crate::support::pki::{Authority, Files};
use crate::support::program::Program;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, crm};

/// The clients, ready to run: each with the line that runs it.
async fn clients() -> Vec<(Example, String)> {
    for name in ["curl", "jq", "node", "python3"] {
        let _ = program(name);
    }
    let mut ready = Vec::new();
    for name in ["curl", "python", "node"] {
        let example = Example::new(name);
        let blocks = example.blocks("sh");
        if name == "python" {
            let packages = repo("target/tools/grpc");
            assert!(packages.exists(), "tests/run gets the packages of Python");
            symlink(packages, example.path().join("venv")).unwrap();
            // The first line installs what is linked.
            let (_, stubs) = blocks[0].split_once('\n').unwrap();
            let output = example.run(stubs, &[]).await;
            assert!(output.status.success(), "{}", words(&output));
        }
        ready.push((example, blocks.last().unwrap().clone()));
    }
    ready
}

/// Runs all clients at once, on other numbers than on their pages if there are any, and as another
/// user of the CRM.
async fn run_all(
    clients: &[(Example, String)],
    server: &str,
    changes: &[(&str, &str)],
) -> Vec<(Option<i32>, String)> {
    let runs = clients.iter().map(|(example, run)| {
        let run = changes
            .iter()
            .fold(run.clone(), |run, (from, to)| run.replace(from, to));
        async move {
            let output = example.run(&run, &[("CONTACTD_SERVER", server)]).await;
            (output.status.code(), words(&output))
        }
    });
    join_all(runs).await
}

#[tokio::test]
#[ignore = "needs curl, jq, node and grpcio: tests/run gets them"]
async fn clients_print_what_their_pages_say() {
    let daemon = Program::on_defaults(&[]).await;
    let clients = clients().await;
    let printed = run_all(&clients, &daemon.grpc, &[]).await;
    for ((example, _), (code, said)) in clients.iter().zip(printed) {
        let expected = &example.blocks("text")[0];
        assert_eq!((code, &said), (Some(1), expected), "{}", example.name);
        assert!(said.contains("4 contacts: Radia Keller; "), "{said}");
        assert!(!said.contains("Create new contact"), "{said}");
    }
}

#[tokio::test]
#[ignore = "needs curl, jq, node and grpcio: tests/run gets them"]
async fn clients_say_why_a_look_up_failed() {
    let crm = FakeCrm::start(|_| Reply::status(401)).await;
    let daemon = TestDaemon::over(&crm).await;
    let clients = clients().await;
    let server = format!("http://{}", daemon.grpc);
    for (code, said) in run_all(&clients, &server, &[]).await {
        assert_eq!(code, Some(1));
        let reason =
            "+15125373573: failed: CRM_UNAUTHENTICATED: example did not accept your sign-in";
        assert!(said.contains(reason), "{said}");
    }
    // Nobody listens there.
    for (code, said) in run_all(&clients, "http://127.0.0.1:65533", &[]).await {
        assert_eq!(code, Some(1));
        assert!(
            said.contains("connect") || said.contains("ECONNREFUSED"),
            "{said}"
        );
    }
}

#[tokio::test]
#[ignore = "needs curl, jq, node and grpcio: tests/run gets them"]
async fn clients_say_to_their_programmer_what_the_request_lacks() {
    let daemon = Program::on_defaults(&[]).await;
    let clients = clients().await;
    let without = [("export CONTACTD_AUTH_HEADER=\"Bearer demo\"", "")];
    for (code, said) in run_all(&clients, &daemon.grpc, &without).await {
        assert_eq!(code, Some(1));
        let words = "+15125373573: failed: INVALID_REQUEST: auth_header is required";
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
#[ignore = "needs curl, jq, node and grpcio: tests/run gets them"]
async fn clients_read_the_variables_of_the_command() {
    let crm = FakeCrm::start(|seen| crm::example(seen, &[contact(1, "Ada", "+15125373573")])).await;
    let authority = Authority::new();
    let files = Files::new(&authority.issue(&["localhost"], "contactd"), None);
    let hash = sha256("token-of-the-client");
    let tokens = format!("tokens = [{{ name = \"client\", sha256 = \"{hash}  -\" }}]\n");
    let daemon = TestDaemon::with(&crm, "example", &(files.toml() + &tokens)).await;
    let token = files.write("token", "token-of-the-client\n");
    let ca = files.write("authority.pem", &authority.pem());
    let exported = format!(
        "export CONTACTD_CA_FILE={ca} NODE_EXTRA_CA_CERTS={ca} CONTACTD_AUTH_HEADER",
        ca = ca.display()
    );
    let trusting = ("export CONTACTD_AUTH_HEADER", exported.as_str());
    let exported = format!("export CONTACTD_TOKEN_FILE={} ", token.display());
    let server = format!("localhost:{}", daemon.grpc.port());
    let clients = clients().await;
    for (_, said) in run_all(&clients, &server, &[trusting]).await {
        let words = "+15125373573: failed: CALLER_UNAUTHENTICATED: ";
        assert!(said.contains(words), "{said}");
        assert!(!said.contains("could not be looked up"), "{said}");
    }
    for server in [format!("https://{server}"), server] {
        let with_token = [trusting, ("export ", &exported)];
        for (_, said) in run_all(&clients, &server, &with_token).await {
            assert!(said.contains("+15125373573: Ada"), "{said}");
        }
    }
    // An address without a scheme is plain HTTP if there is no authority.
    let plain = TestDaemon::over(&crm).await;
    for (_, said) in run_all(&clients, &plain.grpc.to_string(), &[]).await {
        assert!(said.contains("+15125373573: Ada"), "{said}");
    }
}

#[tokio::test]
#[ignore = "needs curl, jq, node and grpcio: tests/run gets them"]
async fn clients_wait_no_longer_than_a_phone_rings() {
    let slow = |_: &crm::Seen| Reply::json(json!({"contacts": []})).after(Duration::from_secs(20));
    let crm = FakeCrm::start(slow).await;
    let daemon = TestDaemon::over(&crm).await;
    let clients = clients().await;
    let one = [(" +16176850366 +12067931283 anonymous 'no digits'", "")];
    let started = clock::now();
    let server = format!("http://{}", daemon.grpc);
    for (code, said) in run_all(&clients, &server, &one).await {
        assert_eq!(code, Some(1));
        // On a busy machine a client may end the call before the daemon's answer is read.
        let words = ["DEADLINE_EXCEEDED: ", "TimeoutError: "];
        let is_told = |words| said.contains(&format!("+15125373573: failed: {words}"));
        assert!(words.into_iter().any(is_told), "{said}");
    }
    let took = clock::now().duration_since(started);
    assert!(
        (Duration::from_millis(1900)..Duration::from_secs(8)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_first_login_stores_the_answers_for_a_call_log() {
    let daemon = Program::on_defaults(&[]).await;
    let example = Example::new("first-login");
    let run = &example.blocks("sh")[0];
    let output = example.run(run, &[("CONTACTD_SERVER", &daemon.grpc)]).await;
    let said = words(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let page = &example.blocks("text")[0];
    // The line begins with how fast it was.
    let (_, summary) = page.trim_end().rsplit_once("s: ").unwrap();
    assert!(said.contains(summary), "{summary} in {said}");
    let find = "contactd find +15125373573 --user-id agent-7 --region US --only-if-cached --server $CONTACTD_SERVER";
    let env = [
        ("CONTACTD_SERVER", daemon.grpc.as_str()),
        ("CONTACTD_AUTH_HEADER", "Bearer demo"),
    ];
    let found = words(&example.run(find, &env).await);
    assert!(
        found.contains("from memory") && found.contains("Margaret Ricci"),
        "{found}"
    );
}

/// Runs the job for a first login as its page says, with short pauses.
async fn first_login(daemon: &TestDaemon) -> (Option<i32>, String) {
    let example = Example::new("first-login");
    let run = &example.blocks("sh")[0];
    let server = format!("http://{}", daemon.grpc);
    let env = [("CONTACTD_SERVER", server.as_str()), ("PAUSES", "0 0")];
    let output = example.run(run, &env).await;
    (output.status.code(), words(&output))
}

#[tokio::test]
async fn a_first_login_tries_again_what_failed() {
    let is_first = AtomicBool::new(true);
    let crm = FakeCrm::start(move |seen| {
        let is_one = seen.raw_query.contains("2067931283") && !seen.asks_who();
        if is_one && is_first.swap(false, Ordering::Relaxed) {
            return Reply::text("application/json", "{".to_owned());
        }
        crm::example(seen, &[contact(1, "Ada", "+15125373573")])
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let (code, said) = first_login(&daemon).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 failed"), "{said}");
    assert_eq!(said.matches(" of 4 numbers").count(), 2, "{said}");
}

#[tokio::test]
async fn a_first_login_ends_at_once_if_the_crm_refuses_the_credential() {
    let crm = FakeCrm::start(|_| Reply::status(401)).await;
    let daemon = TestDaemon::over(&crm).await;
    let (code, said) = first_login(&daemon).await;
    assert_eq!(code, Some(1), "{said}");
    let refusals = said.matches("does not accept the credential").count();
    assert_eq!(refusals, 1, "{said}");
}
