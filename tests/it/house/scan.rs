//! Reads source text as far as the house rules need it: where code is, and which paths it names.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::SRC;

/// All source files, sorted.
pub(super) fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(SRC)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("tests") || path.ends_with("tests.rs") {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// `cache` for `src/cache/memory.rs`, `flight` for `src/flight.rs`.
pub(super) fn top_of(file: &Path) -> String {
    let first = file.strip_prefix(SRC).unwrap().components().next().unwrap();
    first
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

/// How many `super` lead from the file's module to the crate's root.
pub(super) fn depth(file: &Path) -> usize {
    file.strip_prefix(SRC).unwrap().components().count() - usize::from(file.ends_with("mod.rs"))
}

/// The text with comments and the insides of literals blanked; lines stay where they are.
pub(super) fn bare(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let in_word = code.ends_with(is_word) && !code.ends_with(['b', 'c']);
        let hashes = rest
            .bytes()
            .skip(1)
            .take_while(|byte| *byte == b'#')
            .count();
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if c == 'r' && !in_word && rest[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            rest[hashes + 2..]
                .find(&end)
                .map_or(rest.len(), |at| hashes + 2 + at + end.len())
        } else if c == '"' {
            quoted(rest, '"').unwrap_or(rest.len())
        } else if c == '\'' && is_char_literal(rest) {
            quoted(rest, '\'').unwrap_or(rest.len())
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.extend(
            rest[..skipped]
                .chars()
                .map(|c| if c == '\n' { c } else { ' ' }),
        );
        rest = &rest[skipped..];
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut open, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        match rest {
            [b'/', b'*', ..] => (open, at) = (open + 1, at + 2),
            [b'*', b'/', ..] => (open, at) = (open - 1, at + 2),
            _ => at += 1,
        }
        if open == 0 {
            break;
        }
    }
    at
}

/// The length of a literal that begins and ends with `quote`.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return Some(at + 1);
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// `'x'` and `'\n'`, but not the lifetime `'a`.
fn is_char_literal(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

/// What does not ship.
const FOR_TESTS: [&str; 2] = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"];

/// Where the items for tests are.
pub(super) fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    let attributes = FOR_TESTS
        .into_iter()
        .flat_map(|attribute| code.match_indices(attribute));
    let mut attributes: Vec<_> = attributes.collect();
    attributes.sort_unstable();
    for (start, attribute) in attributes {
        if items.last().is_some_and(|item| item.contains(&start)) {
            continue;
        }
        let mut open = 0_usize;
        let body = start + attribute.len();
        let end = code[body..].char_indices().find(|(_, c)| {
            match c {
                '{' | '(' | '[' => open += 1,
                '}' | ')' | ']' => open = open.saturating_sub(1),
                _ => {}
            }
            open == 0 && matches!(c, '}' | ';')
        });
        items.push(start..end.map_or(code.len(), |(at, _)| body + at + 1));
    }
    items
}

pub(super) fn without_tests(code: &str) -> String {
    let mut kept = code.to_owned();
    for item in test_items(code).into_iter().rev() {
        let lines = "\n".repeat(code[item.clone()].matches('\n').count());
        kept.replace_range(item, &lines);
    }
    kept
}

/// The first names of all paths, with their places: `crate`, `super`, crates, and what else has a
/// `::` behind it.
pub(super) fn roots(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut before = "";
    let mut at = 0;
    while let Some(start) = code[at..].find(is_word).map(|next| at + next) {
        let end = code[start..]
            .find(|c| !is_word(c))
            .map_or(code.len(), |length| start + length);
        let inside = code[..start].trim_end().ends_with("::");
        if !inside && (code[end..].trim_start().starts_with("::") || before == "use") {
            found.push((start, &code[start..end]));
        }
        (before, at) = (&code[start..end], end);
    }
    found
}

/// The paths behind a root, groups taken apart, two names of each: `::{a::b::c, d}` is `a::b` and
/// `d`.
pub(super) fn branches(rest: &str) -> Vec<String> {
    let Some(rest) = rest.trim_start().strip_prefix("::") else {
        return Vec::new();
    };
    let two = |path: String| path.split("::").take(2).collect::<Vec<_>>().join("::");
    let mut paths: Vec<_> = tree(rest).0.into_iter().map(two).collect();
    paths.dedup();
    paths
}

fn tree(text: &str) -> (Vec<String>, &str) {
    let text = text.trim_start();
    if let Some(mut inside) = text.strip_prefix('{') {
        let mut all = Vec::new();
        loop {
            inside = inside.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if inside.is_empty() || inside.starts_with('}') {
                return (all, inside.get(1..).unwrap_or_default());
            }
            let (paths, after) = tree(inside);
            all.extend(paths);
            // What is left of `name as other`.
            inside = after.trim_start_matches(|c| c != ',' && c != '}');
        }
    }
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    match after.trim_start().strip_prefix("::") {
        Some(more) if end > 0 => {
            let (paths, after) = tree(more);
            (
                paths
                    .into_iter()
                    .map(|path| format!("{name}::{path}"))
                    .collect(),
                after,
            )
        }
        _ => (vec![name.to_owned()], after),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
