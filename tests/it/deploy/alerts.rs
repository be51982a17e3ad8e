//! The rules, by promtool: their syntax, and their unit tests in deploy/prometheus/tests.

use super::{repo, succeed, text};
use crate::support::outside::program;

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
