//! Every setting that the example file shows as a comment works once its `#` is removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use toml::{Table, Value};

use super::page::rows;
use super::read;
use crate::deploy::{succeed, text};

/// The file with every setting on a line of its own in use: `# key = value`, `# [section]`, and
/// the lines of a list up to its bracket. Sentences stay comments.
fn uncommented() -> String {
    let mut is_in_list = false;
    let example = text("deploy/config.example.toml");
    let lines = example.lines().map(|line| {
        let Some(setting) = line.strip_prefix("# ") else {
            return line;
        };
        let is_shown = is_in_list || is_setting(setting);
        is_in_list = is_shown && (is_in_list || setting.ends_with('[')) && setting != "]";
        if is_shown { setting } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_setting(text: &str) -> bool {
    let is_key = |key: &str| {
        !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_lowercase() || "_.".contains(c))
    };
    let is_section = text.starts_with('[') && text.ends_with(']');
    is_section || text.split_once(" = ").is_some_and(|(key, _)| is_key(key))
}

/// The files that the settings name, in a folder.
fn write_files(folder: &Path) {
    let tls = folder.join("made");
    succeed(
        Command::new(env!("CARGO_BIN_EXE_contactd"))
            .args(["tls", "init", "--client-certificate"])
            .arg(&tls),
    );
    for (from, to) in [
        ("server.pem", "tls.pem"),
        ("server-key.pem", "tls.key"),
        ("ca.pem", "clients.pem"),
        ("ca.pem", "redis-ca.pem"),
    ] {
        fs::copy(tls.join(from), folder.join(to)).unwrap();
    }
    for (name, content) in [
        ("redis-key", "0123456789abcdef0123456789abcdef".to_owned()),
        ("redis-keys", format!("k1:{}=\n", "A".repeat(43))),
        ("clio.header", "Bearer made-up\n".to_owned()),
        ("api_key", "made-up\n".to_owned()),
        ("my-crm.toml", MY_CRM.to_owned()),
    ] {
        fs::write(folder.join(name), content).unwrap();
    }
}

/// A connector file that names the secrets of the example.
const MY_CRM: &str = r#"
format = 1
name = "My CRM"
spellings = ["digits"]
[crm]
base = "https://api.crm.example"
quota = { rate = 10, per = "1s" }
[auth]
headers = { x-id = "{{secret.api_id}}", x-key = "{{secret.api_key}}" }
[[search]]
get = "/contacts"
query = { phone = "{{text}}" }
list = "data"
phones = ["phone"]
record = { id = "{{id}}", name = "{{name}}" }
"#;

/// All paths of a table, with the names of connectors and secrets as the reference has them.
fn paths(above: &str, table: &Table, into: &mut BTreeSet<String>) {
    for (key, value) in table {
        let key = match above {
            "connectors" => "NAME",
            "connectors.NAME.secrets" => "KEY",
            _ => key,
        };
        let path = [above, key].join(".").trim_start_matches('.').to_owned();
        if let Value::Table(table) = value {
            paths(&path, table, into);
        }
        into.insert(path);
    }
}

#[test]
fn every_setting_that_the_example_file_shows_as_a_comment_works_once_it_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    let at = folder.path().display();
    let settings = uncommented()
        .replace("/etc/contactd", &at.to_string())
        .replace("\"my-crm.toml\"", &format!("\"{at}/my-crm.toml\""))
        .replace('…', &"0".repeat(64));
    // Every machine has this variable.
    let settings = settings.replace("MY_CRM_API_ID", "PATH");
    let shown: Table = settings.parse().unwrap();
    let mut keys = BTreeSet::new();
    paths("", &shown, &mut keys);
    let missing: Vec<_> = rows()
        .into_iter()
        .filter(|key| !keys.contains(key))
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "the example file lacks them");
    let faults = read(&settings, &[]).err();
    assert_eq!(
        faults, None,
        "each key is known and has a value of its type"
    );
}
