//! The systemd unit, by systemd-analyze. No service is started: that needs a running systemd.

use super::{run, succeed, text};
use crate::support::outside::program;

#[test]
#[ignore = "needs systemd-analyze: tests/run gets it"]
fn the_unit_is_sound_and_leaves_little_exposed() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("contactd.service");
    let content = text("deploy/systemd/contactd.service");
    let here = content.replace(
        "ExecStart=contactd",
        concat!("ExecStart=", env!("CARGO_BIN_EXE_contactd")),
    );
    assert_ne!(content, here);
    std::fs::write(&unit, here).unwrap();
    // Says what it thinks of other units of this machine too, and of unknown keys without failing.
    let (success, said) = run(program("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&unit));
    assert!(success && !said.contains("contactd.service"), "{said}");
    succeed(
        program("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=15"])
            .arg(&unit),
    );
}

#[test]
fn the_documentation_of_the_unit_is_installed_with_it() {
    let unit = text("deploy/systemd/contactd.service");
    let named = unit
        .lines()
        .find_map(|line| line.strip_prefix("Documentation=file:"));
    let named = named.unwrap();
    let page = text("deploy/README.md");
    assert!(
        page.contains(&format!("README.md {named}\n")),
        "{named} is installed by hand"
    );
    let folder = named
        .strip_suffix("README.md")
        .unwrap()
        .trim_start_matches('/');
    let asset = format!("[\"README.md\", \"{folder}\", \"644\"]");
    assert!(
        text("Cargo.toml").contains(&asset),
        "{asset} is a part of the package"
    );
}

#[test]
fn the_unit_reloads_and_reads_from_paths_that_can_change() {
    let unit = text("deploy/systemd/contactd.service");
    let lines: Vec<&str> = unit.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(lines.contains(&"ExecReload=/bin/kill -HUP $MAINPID"));
    let start = lines
        .iter()
        .find(|line| line.starts_with("ExecStart="))
        .unwrap();
    assert!(
        start.ends_with("--config /etc/contactd/contactd.toml"),
        "{start}"
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("LoadCredential")),
        "its copies are frozen at the start"
    );
}
