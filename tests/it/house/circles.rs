//! Which files of one module import each other, and whether that goes round in circles.
//!
//! If a file imports a name through the module's front (`mod.rs`), that counts as an import of the
//! front, wherever the name is defined. Fronts are no part of a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::SRC;
use super::scan::{branches, roots};

/// The files that each file uses, by their module paths (`budget::shared`).
pub(super) type Imports = BTreeMap<String, BTreeSet<String>>;

/// `budget::shared` for `src/budget/shared.rs`; `None` for a module's front.
pub(super) fn module(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(SRC).unwrap().with_extension("");
    let names: Vec<_> = inside
        .iter()
        .map(|name| name.to_str().unwrap())
        .filter(|name| *name != "mod")
        .collect();
    (names.len() > 1).then(|| names.join("::"))
}

/// Which of `modules`, all of one crate, the code of `module` names.
pub(super) fn imports(module: &str, code: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let top = module.split("::").next().unwrap();
    let mut used = BTreeSet::new();
    for (at, root) in roots(code) {
        let mut rest = &code[at + root.len()..];
        let mut base: Vec<_> = module.split("::").collect();
        match root {
            "crate" => base.clear(),
            "super" => _ = base.pop(),
            "self" => {}
            _ => continue,
        }
        while let Some(further) = rest.strip_prefix("::super") {
            _ = base.pop();
            rest = further;
        }
        for branch in branches(rest) {
            let path: Vec<_> = base.iter().copied().chain(branch.split("::")).collect();
            let known = (2..=path.len())
                .rev()
                .map(|length| path[..length].join("::"))
                .find(|path| modules.contains(path));
            used.extend(
                known.filter(|known| known != module && known.split("::").next() == Some(top)),
            );
        }
    }
    used
}

/// One circle for each module that can be reached from itself, written from its alphabetically
/// first module on.
pub(super) fn circles(imports: &Imports) -> BTreeSet<String> {
    imports
        .keys()
        .filter_map(|start| circle(start, imports))
        .map(from_first)
        .collect()
}

fn circle<'a>(start: &'a String, imports: &'a Imports) -> Option<Vec<&'a String>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in imports.get(way[way.len() - 1]).into_iter().flatten() {
            if next == start {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

fn from_first(mut way: Vec<&String>) -> String {
    let first = (0..way.len()).min_by_key(|at| way[*at]).unwrap_or_default();
    way.rotate_left(first);
    way.push(way[0]);
    way.into_iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" -> ")
}
