//! The pages (`*.md`): each link leads somewhere, each page that a text names exists, no page has
//! lines that do not fit, and the README is short and leads to all pages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::deploy::repo;

mod commands;
mod security;
mod walkthroughs;

const README_LINES: usize = 200;
const COLUMNS: usize = 120;

/// The files below `folder` with one of these extensions; what is built, and what is hidden, is not
/// looked into.
fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![repo(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repo(""))
        .unwrap_or(path)
        .display()
        .to_string()
}

/// The lines of a page that are prose, not code; fences are left out.
fn prose(page: &str) -> Vec<&str> {
    let mut in_code = false;
    let is_prose = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    };
    page.lines().filter(is_prose).collect()
}

/// The targets of all links of a page, those that go over a line's end included.
fn links(page: &str) -> Vec<String> {
    let lines = prose(page).join(" ");
    // Between backquotes is code, but code may be the words of a link.
    lines
        .split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}

/// The anchors that a page has, made of its headings as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for heading in prose(page).into_iter().filter(|line| line.starts_with('#')) {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let times = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *times == 0 {
            anchor
        } else {
            format!("{anchor}-{times}")
        });
        *times += 1;
    }
    anchors
}

/// What is wrong with a link from a page in `folder`.
fn fault(folder: &Path, page: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() {
        page.to_owned()
    } else {
        folder.join(path)
    };
    if !file.exists() {
        return Some("is not there".to_owned());
    }
    let leads_out = !plain(&file).starts_with(plain(&repo("")));
    if leads_out {
        return Some("leads out of the repository".to_owned());
    }
    if anchor.is_empty() {
        return None;
    }
    let is_there = anchors(&fs::read_to_string(&file).unwrap()).contains(anchor);
    (!is_there).then(|| format!("has no heading for #{anchor}"))
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading_that_are_there() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for page in files("", &["md"]) {
        for target in links(&fs::read_to_string(&page).unwrap()) {
            count += 1;
            let fault = fault(page.parent().unwrap(), &page, &target);
            faults.extend(fault.map(|fault| format!("{}: {target} {fault}", shown(&page))));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
    assert!(count > 100, "{count} links were found");
}

#[test]
fn every_page_that_code_and_configuration_name_is_there() {
    let (mut faults, mut count) = (Vec::new(), 0);
    let extensions = [
        "rs", "toml", "yml", "yaml", "proto", "service", "acl", "json", "md",
    ];
    let named = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '#');
    for file in ["src", "deploy", "proto"]
        .iter()
        .flat_map(|folder| files(folder, &extensions))
    {
        let text = fs::read_to_string(&file).unwrap();
        let names = text
            .split(|c| !named(c))
            .filter(|name| name.contains(".md") && !name.starts_with('/'));
        for name in names {
            count += 1;
            let name = name.trim_end_matches('.');
            // A comment may name a page from the top, or from any folder above the file. The page
            // of settings, which is written in the code, has links from its own folder.
            let above = file.ancestors().skip(1).map(Path::to_owned);
            let is_there = above
                .chain([repo("deploy")])
                .any(|folder| fault(&folder, &file, name).is_none());
            if !is_there {
                faults.push(format!("{}: {name} is not there", shown(&file)));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
    assert!(count > 50, "{count} names were found");
}

#[test]
fn the_readme_is_short_and_leads_to_every_page() {
    let readme = fs::read_to_string(repo("README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(
        lines <= README_LINES,
        "README.md has {lines} lines, {README_LINES} are the most"
    );
    // The pages of CRMs, and those of examples, are listed by the page of their folder.
    let folders = ["deploy/connectors/", "deploy/examples/"];
    let lists = folders.map(|folder| {
        let list = fs::read_to_string(repo(&format!("{folder}README.md"))).unwrap();
        (folder, links(&list))
    });
    let linked = links(&readme);
    for page in files("", &["md"])
        .iter()
        .map(|page| shown(page))
        .filter(|page| page != "README.md")
    {
        let in_folder = lists.iter().find_map(|(folder, list)| {
            let name = page
                .strip_prefix(folder)
                .filter(|name| *name != "README.md");
            Some((list, name?))
        });
        let (list, name) = in_folder.unwrap_or((&linked, page.as_str()));
        assert!(
            list.iter().any(|link| link == name),
            "no page leads to {page}"
        );
    }
}

#[test]
fn lines_of_pages_fit() {
    let mut faults = Vec::new();
    for page in files("", &["md"]) {
        for (index, line) in fs::read_to_string(&page).unwrap().lines().enumerate() {
            let is_row = line.trim_start().starts_with('|');
            if !is_row && line.chars().count() > COLUMNS {
                faults.push(format!(
                    "{}:{}: more than {COLUMNS} columns",
                    shown(&page),
                    index + 1
                ));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn links_and_headings_are_found_as_people_write_them() {
    let page = "# One `x`: of *two*?\n[a](b.md) and [c\nd](#e)\n```sh\n# no heading [f](g)\n```\n## One\n## One\n";
    assert_eq!(links(page), ["b.md", "#e"]);
    assert_eq!(
        anchors(page),
        ["one", "one-1", "one-x-of-two"].map(str::to_owned).into()
    );
    let top = repo("");
    for wrong in ["deploy/NONE.md", "README.md#none", "#none", "../"] {
        assert!(fault(&top, &repo("README.md"), wrong).is_some(), "{wrong}");
    }
    for right in [
        "README.md#try-it",
        "#try-it",
        "deploy",
        "https://example.com/x#y",
    ] {
        assert_eq!(fault(&top, &repo("README.md"), right), None, "{right}");
    }
}

/// What stands between quotes right behind `before` in a file of Rust, if it is a name in one case
/// only.
fn literals(file: &str, before: &str, is_name: fn(char) -> bool) -> BTreeSet<String> {
    let source = fs::read_to_string(repo(file)).unwrap();
    let rests = source
        .match_indices(before)
        .filter_map(|(at, _)| source[at + before.len()..].trim_start().strip_prefix('"'));
    let names = rests.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
    names
        .filter(|name| name.len() > 2 && name.chars().all(is_name))
        .collect()
}

/// The names in backquotes that stand in column `column` of the tables below a heading.
fn column(page: &str, heading: &str, column: usize) -> BTreeSet<String> {
    let page = fs::read_to_string(repo(page)).unwrap();
    let chapter = page
        .split(&format!("\n## {heading}\n"))
        .nth(1)
        .expect(heading);
    let chapter = chapter.split("\n## ").next().unwrap();
    let rows = chapter.lines().filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| {
        row.split(" | ")
            .nth(column)
            .map(|cell| cell.trim_matches(['|', ' ']))
    });
    cells
        .filter_map(|cell| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned()))
        .collect()
}

#[test]
fn the_callers_guide_has_every_reason_of_a_failure_and_no_other() {
    let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
    let mut reasons = literals("src/domain/error.rs", "=> ", is_name);
    reasons.extend(literals("src/api/error.rs", "", is_name));
    assert_eq!(column("proto/README.md", "Failures", 1), reasons);
}

#[test]
fn the_page_of_operation_has_every_metric_and_no_other() {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut metrics = literals("src/metrics.rs", "register(", is_name);
    metrics.extend(literals("src/metrics.rs", "Optional::new(", is_name));
    let on_page = column("deploy/OPERATIONS.md", "Metrics", 0)
        .into_iter()
        .map(|name| {
            let name = name
                .strip_prefix("contactd_")
                .expect("the prefix of all")
                .to_owned();
            name.strip_suffix("_total")
                .map_or(name.clone(), str::to_owned)
        });
    assert_eq!(on_page.collect::<BTreeSet<_>>(), metrics);
}

#[test]
fn the_page_of_each_crm_is_what_the_command_prints() {
    for kind in contactd::connector::kinds().filter(|kind| *kind != "example") {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_contactd"));
        let output = command.args(["connector", "page", kind]).output().unwrap();
        let page = fs::read(repo(&format!("deploy/connectors/{kind}.md"))).unwrap();
        assert!(
            output.stdout == page,
            "write it anew: cargo run -- connector page {kind} > deploy/connectors/{kind}.md"
        );
    }
}
