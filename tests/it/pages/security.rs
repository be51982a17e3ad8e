//! The page of security: each row of its tables has a test, in the row or below the table, and each
//! test that it names is there.

use std::collections::BTreeSet;
use std::fs;

use super::files;
use crate::deploy::repo;

/// What stands between backquotes and can be the name of a test: no path, no setting.
fn tests_in(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_name = |name: &&str| {
        let long = name.matches('_').count() > 2;
        long && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    quoted.filter(is_name).collect()
}

/// The rows of the tables of one chapter that have no test.
fn rows_without_a_test(chapter: &str) -> Vec<&str> {
    let below = chapter.split("\n\n").any(|paragraph| {
        paragraph.trim_start().starts_with("Test") && !tests_in(paragraph).is_empty()
    });
    let is_row = |line: &&str| line.starts_with("| ");
    let rows: Vec<&str> = chapter.lines().filter(is_row).collect();
    let Some((head, rows)) = rows.split_first() else {
        return Vec::new();
    };
    let in_rows = head.ends_with("| test |");
    let is_tested = |row: &str| {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next();
        let cell = cell.unwrap_or_default();
        cell.starts_with("the same") || !tests_in(cell).is_empty()
    };
    let is_missing = |row: &&str| if in_rows { !is_tested(row) } else { !below };
    rows.iter().copied().filter(is_missing).collect()
}

/// The names of all tests.
fn all_tests() -> BTreeSet<String> {
    let sources = ["src", "tests"].iter();
    let mut tests = BTreeSet::new();
    for file in sources.flat_map(|folder| files(folder, &["rs"])) {
        let code = fs::read_to_string(file).unwrap();
        for after in code.split("fn ").skip(1) {
            tests.extend(after.split_once('(').map(|(name, _)| name.to_owned()));
        }
    }
    tests
}

#[test]
fn every_row_of_the_security_page_has_a_test_that_is_there() {
    let page = fs::read_to_string(repo("deploy/SECURITY.md")).unwrap();
    let without: Vec<&str> = page.split("\n#").flat_map(rows_without_a_test).collect();
    assert!(without.is_empty(), "{without:#?}");
    let (tests, named) = (all_tests(), tests_in(&page));
    assert!(named.len() > 80, "{} names", named.len());
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !tests.contains(**name))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_row_without_a_test_is_seen() {
    let rows = "| a | test |\n|---|---|\n| x | `one_two_three_four` |\n| y | `a.b_c` |\n";
    assert_eq!(rows_without_a_test(rows), ["| y | `a.b_c` |"]);
    let below = "| a |\n|---|\n| x |\n\nTests: `one_two_three_four`.\n";
    assert!(rows_without_a_test(below).is_empty());
    let folder = "| a |\n|---|\n| x |\n\nTests: `tests/it/x.rs`.\n";
    assert_eq!(rows_without_a_test(folder), ["| x |"]);
}
