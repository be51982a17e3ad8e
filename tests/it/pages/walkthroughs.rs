//! The walk-throughs, each run as one shell session: every block as it stands, with free ports for
//! the ones that it names, and with a scripted Pipedrive.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;
use tokio::task::spawn_blocking;

use super::commands::{blocks, words};
use crate::deploy::text;
use crate::support::crm::{Seen, themselves};
use crate::support::outside::program;
use crate::support::ports::{free_address, free_port};
use crate::support::{FakeCrm, Reply, person};

/// `contactd` for a reader whose daemon and CRM are elsewhere.
const CONTACTD: &str = r#"#!/bin/sh
case "$*" in
find*--server* | invalidate*--server*) ;;
find* | invalidate*) set -- "$@" --server "http://$CONTACTD__GRPC__LISTEN" ;;
"connector try"*) set -- "$@" --base-url "$CRM" ;;
esac
exec "$CONTACTD" "$@"
"#;

/// What runs until it is stopped, each line in a terminal of its own.
const SERVERS: [&str; 3] = ["redis-server", "contactd example-crm", "contactd serve"];

/// The session of a chapter: servers in the background, the rest in order.
fn session(chapter: &str) -> String {
    let mut script = "set -eu\nservers=\ntrap 'kill $servers && wait' EXIT\n".to_owned();
    for block in blocks(chapter) {
        let is_server = |line: &str| SERVERS.iter().any(|server| line.contains(server));
        if !block.lines().all(is_server) {
            script += &block;
            continue;
        }
        for line in block.lines() {
            script += &format!("{line} >>servers.log 2>&1 &\nservers=\"$servers $!\"\n");
            if line.contains("contactd serve") {
                let own = line.split("OPS__LISTEN=").nth(1);
                let address = own.and_then(|rest| rest.split(' ').next());
                let address = address.unwrap_or("$CONTACTD__OPS__LISTEN");
                script += &format!(
                    "until curl --silent http://{address}/metrics | grep -q \"^contactd_redis_up $REDIS\"; do\n\
                     sleep 0.05\ndone\n"
                );
            }
        }
    }
    script
}

/// Runs a chapter of the page; what it printed.
async fn run(heading: &str, changes: &[(&str, String)], env: &[(&str, String)]) -> String {
    let page = text("deploy/WALKTHROUGHS.md");
    let chapter = page
        .split(&format!("\n## {heading}\n"))
        .nth(1)
        .expect(heading);
    let chapter = chapter.split("\n## ").next().unwrap();
    let mut script = session(chapter);
    for (written, here) in changes {
        assert!(script.contains(written), "{written} is not in {script}");
        script = script.replace(written, here);
    }
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("contactd");
    fs::write(&wrapper, CONTACTD).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let mut shell = program("sh");
    shell.arg("-c").arg(script).current_dir(folder.path());
    shell.env("PATH", path_with(folder.path()));
    shell.env("CONTACTD", env!("CARGO_BIN_EXE_contactd"));
    for place in ["GRPC", "OPS"] {
        let address = free_address().to_string();
        shell.env(format!("CONTACTD__{place}__LISTEN"), address);
    }
    shell.envs(env.iter().map(|(name, value)| (*name, value)));
    let output = spawn_blocking(move || shell.output())
        .await
        .unwrap()
        .unwrap();
    let log = fs::read_to_string(folder.path().join("servers.log")).unwrap_or_default();
    assert!(output.status.success(), "{}\n{log}", words(&output));
    words(&output)
}

fn path_with(folder: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let redis = program("redis-server").get_program().to_owned();
    let redis = Path::new(&redis).parent().unwrap().to_owned();
    let folders = [folder.to_owned(), redis].into_iter();
    std::env::join_paths(folders.chain(std::env::split_paths(&path))).unwrap()
}

/// Where the texts stand, in their order.
fn in_order(said: &str, texts: &[&str]) -> bool {
    let mut rest = said;
    texts.iter().all(|text| match rest.split_once(text) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[tokio::test]
#[ignore = "needs redis-server and curl: tests/run gets them"]
async fn two_replicas_share_an_answer_and_an_invalidation_as_the_walk_through_says() {
    let ports = ["6390", "8080", "50052", "9465"].map(|port| (port, free_port().to_string()));
    let said = run(
        "Two replicas in two terminals",
        &ports,
        &[("REDIS", "1".to_owned())],
    )
    .await;
    let steps = ["from the CRM", "from Redis", "from the CRM"];
    assert!(in_order(&said, &steps), "{said}");
}

fn pipedrive(seen: &Seen) -> Reply {
    match seen.path.as_str() {
        "/oauth/token" => {
            let sent = "grant_type=authorization_code&code=a+code&redirect_uri=https%3A%2F%2Facme.example%2Fdone";
            // curl's versions write the same in several ways.
            let text = seen.text.replace("%20", "+").replace("%3a", "%3A");
            let sent = text.replace("%2f", "%2F") == sent;
            let basic = seen.authorization.as_deref() == Some("Basic YXBwOmhpZGRlbg==");
            assert!(sent && basic && seen.method == "POST", "{seen:?}");
            Reply::json(json!({
                "access_token": "token-1", "expires_in": 3599, "api_domain": "https://acme.pipedrive.com",
            }))
        }
        "/api/v2/persons/search" => Reply::json(json!({
            "success": true, "data": {"items": [person(1, "Ada", &["(650) 555-1234"])]},
            "additional_data": {"next_cursor": null},
        })),
        "/api/v2/deals" | "/v1/leads" => Reply::json(json!({"success": true, "data": null})),
        _ if seen.asks_who() => themselves(seen),
        other => panic!("unexpected path {other}"),
    }
}

#[tokio::test]
#[ignore = "needs curl: tests/run gets it"]
async fn a_pipedrive_is_connected_as_the_walk_through_says() {
    let crm = FakeCrm::start(pipedrive).await;
    let changes = [("https://oauth.pipedrive.com", crm.url())];
    let env = [
        ("CRM", crm.url()),
        ("CONTACTD__CONNECTORS__PIPEDRIVE__BASE_URL", crm.url()),
        ("REDIS", "0".to_owned()),
        ("CLIENT_ID", "app".to_owned()),
        ("CLIENT_SECRET", "hidden".to_owned()),
        ("CODE", "a code".to_owned()),
        ("CALLBACK", "https://acme.example/done".to_owned()),
    ];
    let said = run("Your Pipedrive in ten minutes", &changes, &env).await;
    let steps = [
        "https://acme.pipedrive.com 3599 s",
        "Ada",
        "from the CRM",
        "from memory",
    ];
    assert!(in_order(&said, &steps), "{said}");
    let keys = crm.seen();
    let searches = keys
        .iter()
        .filter(|seen| seen.path == "/api/v2/persons/search");
    assert!(
        searches
            .clone()
            .all(|seen| seen.authorization.as_deref() == Some("Bearer token-1")),
        "{keys:?}"
    );
    assert_eq!(searches.count(), 2, "one by try, one by the daemon");
}
