//! The runbook has a chapter for each alert, and each alert points to it.

use super::alerts::names;
use super::text;

#[test]
fn every_alert_points_to_its_chapter_of_the_runbook() {
    let (rules, runbook) = (
        text("deploy/prometheus/rules/alerts.yml"),
        text("deploy/RUNBOOK.md"),
    );
    for name in names() {
        let rule = rules
            .split("- alert: ")
            .find(|rule| rule.starts_with(&format!("{name}\n")))
            .unwrap();
        let anchor = format!("runbook: deploy/RUNBOOK.md#{}\n", name.to_ascii_lowercase());
        assert!(rule.contains(&anchor), "{name} says {anchor}");
        assert!(
            runbook.contains(&format!("\n### {name}\n")),
            "RUNBOOK.md has a chapter {name}"
        );
    }
    let chapters = runbook
        .lines()
        .filter(|line| line.starts_with("### Contactd"))
        .count();
    assert_eq!(chapters, names().len(), "no chapter without its alert");
}
