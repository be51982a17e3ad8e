//! The commands of the pages: those that need nothing but contactd and a shell run here, each block
//! as it stands, against a daemon on its defaults. The others are listed with who runs them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use tokio::task::spawn_blocking;

use super::{files, shown};
use crate::deploy::{repo, text};
use crate::support::program::Program;

/// What stands between a page's words and this machine: `cargo run` and `contactd` are the program
/// that was built, its calls go to the daemon of the test, and what would serve for ever is checked
/// instead.
const PRELUDE: &str = r#"
set -eu
cargo() { while [ "$1" != -- ]; do shift; done; shift; contactd "$@"; }
contactd() {
    command=$1; shift
    case $command in
    find | explain | prefetch | invalidate) "$CONTACTD" "$command" --server "$SERVER" "$@" ;;
    serve) if [ $# -gt 0 ]; then "$CONTACTD" check-config "$@"; fi ;;
    *) "$CONTACTD" "$command" "$@" ;;
    esac
}
"#;

const WALKED_THROUGH: &str = "run by the test of the walk-throughs";

/// Who runs the programs in `deploy/examples`.
const EXAMPLES: &str = "run by the tests of examples";

/// Blocks that are not run here, by how they begin.
const ELSEWHERE: [(&str, &str); 43] = [
    (
        "sudo apt-get update",
        "installs; tried on a fresh Debian 12",
    ),
    (
        "cargo run --release -- demo",
        "run by the test of the image",
    ),
    ("tests/run", "runs this test"),
    ("PROPTEST_CASES", "runs this test for long"),
    ("cargo bench", "by hand: takes minutes"),
    (
        "curl -i http://127.0.0.1:9464",
        "asked by the tests of operations",
    ),
    ("(umask 077; echo \"k1:", "by hand: needs openssl"),
    (
        "export CONTACTD_AUTH_HEADER=\"Bearer demo\"\ncontactd find +15125373573 --server https",
        "by hand: needs its certificates",
    ),
    ("contactd example-crm", "runs until it is stopped; by hand"),
    (
        "contactd plan generate",
        "by hand: takes minutes; the tests of plans run it with less",
    ),
    ("docker build", "never: needs an engine"),
    ("cat > two.toml", WALKED_THROUGH),
    ("redis-server --port 6390", WALKED_THROUGH),
    ("contactd serve --config two.toml", WALKED_THROUGH),
    (
        "export CONTACTD_AUTH_HEADER=\"Bearer demo\"\ncontactd find +15125373573\ncontactd find",
        WALKED_THROUGH,
    ),
    ("contactd invalidate +15125373573\nsleep", WALKED_THROUGH),
    ("umask 077\ncurl", WALKED_THROUGH),
    ("cat > pipedrive.toml", WALKED_THROUGH),
    ("contactd connector try pipedrive", WALKED_THROUGH),
    ("contactd serve --config pipedrive.toml", WALKED_THROUGH),
    (
        "contactd find +16505551234 --platform pipedrive",
        WALKED_THROUGH,
    ),
    ("kubectl create namespace", "never: needs a cluster"),
    (
        "cargo build --locked --profile dist",
        "never as a whole: starts a service",
    ),
    (
        "cargo deb",
        "never as a whole: installs; the test of the package builds and installs one",
    ),
    (
        "{ printf 'apiVersion",
        "never: needs a cluster with the operator",
    ),
    ("curl --json", "run by the tests of HTTP"),
    ("curl --get", "run by the tests of HTTP"),
    ("curl --fail --get", "run by the tests of HTTP"),
    ("printf '\\0", "run by the tests of HTTP"),
    (
        "cargo run --release -- example-crm",
        "runs until it is stopped; the test of the commands for connectors runs it",
    ),
    (
        "cargo run --release -- connector check my-crm.toml",
        "needs the page's own file; run by the test of the commands for connectors",
    ),
    (
        "CONTACTD_AUTH_HEADER=\"Bearer demo\" cargo run --release -- connector try",
        "needs the Example CRM; run by the test of the commands for connectors",
    ),
    ("grpcurl", "by hand: needs the network"),
    ("npx", "by hand: needs the network"),
    (
        "python3 -m venv",
        "run by the tests of examples, with packages that tests/run gets",
    ),
    ("sudo apt-get install", "installs; tests/run does the same"),
    ("export CONTACTD_AUTH_HEADER=\"Bearer demo\"\n./", EXAMPLES),
    (
        "export CONTACTD_AUTH_HEADER=\"Bearer demo\"\nnode",
        EXAMPLES,
    ),
    (
        "export CONTACTD_AUTH_HEADER=\"Bearer demo\"\nvenv",
        EXAMPLES,
    ),
    (
        "export CONTACTD_AUTH_HEADER=\"Bearer demo\"\nkamailio",
        EXAMPLES,
    ),
    ("sipp -sf", EXAMPLES),
    ("grep -E -m 2", EXAMPLES),
    ("go mod init", "by hand: needs the network"),
];

/// The blocks of shell in a page.
pub(super) fn blocks(page: &str) -> Vec<String> {
    let opened = page.split("```sh\n").skip(1);
    opened
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

fn is_elsewhere(block: &str) -> bool {
    ELSEWHERE.iter().any(|(begin, _)| block.starts_with(begin))
}

/// Runs a block in `folder`, as a person would at the top of the repository.
async fn run(block: &str, folder: &Path, server: &str) -> Output {
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("{PRELUDE}{block}"))
        .current_dir(folder)
        .env("CONTACTD", env!("CARGO_BIN_EXE_contactd"))
        .env("SERVER", server);
    let output = spawn_blocking(move || shell.output()).await;
    output.unwrap().unwrap()
}

pub(super) fn words(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}

#[tokio::test]
async fn every_block_of_shell_runs_or_is_listed_with_who_runs_it() {
    let daemon = Program::on_defaults(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    symlink(repo("deploy"), folder.path().join("deploy")).unwrap();
    let (mut faults, mut count) = (Vec::new(), 0);
    for page in files("", &["md"]) {
        let page_text = std::fs::read_to_string(&page).unwrap();
        for block in blocks(&page_text)
            .iter()
            .filter(|block| !is_elsewhere(block))
        {
            count += 1;
            let output = run(block, folder.path(), &daemon.grpc).await;
            if !output.status.success() {
                faults.push(format!("{}:\n{block}{}", shown(&page), words(&output)));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
    assert!(count >= 7, "{count} blocks ran");
}

#[tokio::test]
async fn the_look_ups_to_try_find_what_the_callers_guide_says() {
    let daemon = Program::on_defaults(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let guide = text("proto/README.md");
    let rows = guide.lines().filter_map(|line| {
        let (command, meaning) = line.strip_prefix("| `find ")?.split_once("` | ")?;
        Some((command, meaning))
    });
    let mut count = 0;
    for (arguments, meaning) in rows {
        let block = format!("export CONTACTD_AUTH_HEADER='Bearer demo'\ncontactd find {arguments}");
        let output = run(&block, folder.path(), &daemon.grpc).await;
        let expected = if meaning.contains("exit code 3") {
            3
        } else {
            0
        };
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{arguments}: {}",
            words(&output)
        );
        count += 1;
    }
    assert!(count >= 6, "{count} rows");
}

#[test]
fn blocks_that_are_listed_as_run_elsewhere_are_there() {
    let pages: Vec<_> = files("", &["md"])
        .iter()
        .map(|page| std::fs::read_to_string(page).unwrap())
        .collect();
    let blocks: Vec<String> = pages.iter().flat_map(|page| blocks(page)).collect();
    for (begin, _) in ELSEWHERE {
        assert!(
            blocks.iter().any(|block| block.starts_with(begin)),
            "no page has a block that begins with {begin}"
        );
    }
}
