//! The rules, by promtool: their syntax, and their unit tests in deploy/prometheus/tests.

use std::io::{Seek as _, Write as _};

use super::{repo, succeed, text};
use crate::support::outside::program;
use crate::support::pki::{Authority, Files};
use crate::support::{FakeCrm, TestDaemon, contact, find};

#[test]
#[ignore = "needs promtool: tests/run gets it"]
fn promtool_accepts_the_scrape_configuration_and_the_rules() {
    let said = succeed(
        program("promtool")
            .args(["check", "config"])
            .arg(repo("deploy/prometheus/prometheus.yml")),
    );
    assert!(said.contains("2 rule files found"), "{said}");
    let files =
        ["recording", "alerts"].map(|name| repo(&format!("deploy/prometheus/rules/{name}.yml")));
    succeed(program("promtool").args(["check", "rules"]).args(files));
}

#[test]
#[ignore = "needs promtool: tests/run gets it"]
fn every_alert_fires_in_a_unit_test_and_is_silent_in_another_moment() {
    succeed(
        program("promtool")
            .args(["test", "rules"])
            .arg(repo("deploy/prometheus/tests/alerts.yml")),
    );
    let tests = text("deploy/prometheus/tests/alerts.yml");
    for name in names() {
        assert!(
            tests.contains(&format!("alertname: {name}\n        exp_alerts:\n")),
            "{name} never fires in a test"
        );
    }
}

#[tokio::test]
#[ignore = "needs promtool: tests/run gets it"]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let files = Files::new(&Authority::new().issue(&["localhost"], "server"), None);
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    // The other has series that only TLS brings.
    for daemon in [
        daemon,
        TestDaemon::with(&crm, "example", &files.toml()).await,
    ] {
        let mut page = tempfile::tempfile().unwrap();
        page.write_all(daemon.page("/metrics").await.1.as_bytes())
            .unwrap();
        page.rewind().unwrap();
        let mut promtool = program("promtool");
        promtool.args(["check", "metrics"]).stdin(page);
        assert_eq!(succeed(&mut promtool), "");
    }
}

/// The names of all alerts.
pub(crate) fn names() -> Vec<String> {
    let rules = text("deploy/prometheus/rules/alerts.yml");
    let names: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 10, "{names:?}");
    names
}
