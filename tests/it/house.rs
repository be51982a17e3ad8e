//! The house rules that a compiler does not check: modules use only modules below them
//! (`src/ARCHITECTURE.md`), some crates stay out of some modules, the files of a module import each
//! other in no circle, every file says what it is for, and none outgrows its reader.
//!
//! What counts is code: comments, strings, items for tests and fuzzing, files named `tests.rs` and
//! folders named `tests` are free.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use circles::{Imports, circles, imports, module};
use scan::{bare, branches, depth, roots, sources, test_items, top_of, without_tests};

mod circles;
mod scan;

const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
const LONGEST: usize = 400;
const LONGEST_FUNCTION: usize = 60;

struct TopModule {
    name: &'static str,
    /// A module may use modules with a lower number; modules with the same number are blind to each
    /// other.
    floor: u8,
    /// Modules that it never uses although their numbers allow it.
    never: &'static [&'static str],
    /// Crates that it never uses, their families (`tokio_util`) included.
    never_crates: &'static [&'static str],
}

const fn top(
    floor: u8,
    name: &'static str,
    never: &'static [&'static str],
    never_crates: &'static [&'static str],
) -> TopModule {
    TopModule {
        name,
        floor,
        never,
        never_crates,
    }
}

const BEHIND_THE_RESOLVER: &[&str] = &[
    "cache",
    "flight",
    "budget",
    "admission",
    "lease",
    "connector",
];
const BEHIND_THE_API: &[&str] = &[
    "cache",
    "flight",
    "budget",
    "admission",
    "lease",
    "connector",
    "resolver",
];
const BEHIND_THE_FRONTS: &[&str] = &[
    "cache",
    "flight",
    "budget",
    "admission",
    "lease",
    "connector",
    "resolver",
    "api",
];
const ALL_BUT_CLOCK: &[&str] = ALL.split_at(1).1;
/// Every module with a number below 7.
const ALL: &[&str] = &[
    "clock",
    "pb",
    "domain",
    "frames",
    "metrics",
    "proto_json",
    "redis_link",
    "share",
    "trace",
    "urgency",
    "admission",
    "budget",
    "cache",
    "clients",
    "flight",
    "lease",
    "connector",
    "resolver",
    "api",
    "plan",
    "trial",
    "grpc",
    "http",
    "ops",
];

#[rustfmt::skip]
const TOP_MODULES: [TopModule; 33] = [
    top(0, "pb", &[], &[]),
    top(0, "domain", &[], &["tokio", "tonic", "reqwest", "redis", "moka"]),
    top(1, "clock", &["pb"], &[]),
    top(1, "frames", &["pb", "domain"], &["tokio", "tonic"]),
    top(1, "metrics", &["pb", "domain"], &[]),
    top(1, "proto_json", &["domain"], &["tokio", "tonic"]),
    top(1, "share", &["pb"], &["tokio", "tonic"]),
    top(1, "trace", &["pb", "domain"], &["reqwest", "redis"]),
    top(1, "redis_link", &["pb"], &["reqwest", "tonic"]),
    top(1, "urgency", &["pb"], &["reqwest", "tonic", "redis"]),
    top(2, "cache", &[], &["reqwest", "tonic"]),
    top(2, "clients", &[], &["reqwest", "tonic", "rustls", "redis"]),
    top(2, "flight", &[], &["reqwest", "tonic"]),
    top(2, "budget", &[], &["reqwest", "tonic"]),
    top(2, "admission", &[], &["reqwest", "tonic"]),
    top(2, "lease", &[], &["reqwest", "tonic"]),
    top(3, "connector", &["cache", "flight"], &["tonic", "redis", "moka"]),
    top(4, "resolver", &[], &["reqwest", "redis", "moka", "governor", "tonic"]),
    top(5, "api", BEHIND_THE_RESOLVER, &["tonic", "axum", "hyper", "http", "tower"]),
    top(5, "plan", &["flight", "lease", "redis_link", "clients"], &["tonic", "tokio", "redis", "moka"]),
    top(5, "trial", &["cache", "flight", "admission", "lease", "redis_link", "clients", "resolver"], &["tonic", "redis", "moka"]),
    top(6, "grpc", BEHIND_THE_API, &["axum"]),
    top(6, "http", BEHIND_THE_API, &["axum", "tonic"]),
    top(6, "ops", BEHIND_THE_RESOLVER, &["tonic"]),
    top(7, "app", &[], &[]),
    top(7, "config", &["grpc", "app"], &[]),
    top(7, "lifecycle", ALL, &[]),
    top(7, "telemetry", ALL, &[]),
    top(7, "tls", &["grpc"], &[]),
    top(7, "example_crm", ALL_BUT_CLOCK, &[]),
    top(8, "cli", BEHIND_THE_FRONTS, &[]),
    top(9, "fuzz", &[], &[]),
    top(9, "main", BEHIND_THE_FRONTS, &[]),
];

/// Modules with the same number that may use each other. `domain` reads values from messages of
/// `pb`, several modules need `clock`, and the modules with number 7 build the daemon together.
const OPEN_DOORS: [(&[&str], &[&str]); 3] = [
    (&["frames", "redis_link", "urgency"], &["clock"]),
    (&["domain"], &["pb"]),
    (
        &["app", "config", "tls"],
        &["app", "config", "lifecycle", "telemetry", "tls"],
    ),
];

/// Single names that a module may use although it may not use the module that defines them: `api`
/// needs `Platform` for its questions to the resolver.
const EXCEPTIONS: [(&str, &str); 1] = [("api", "connector::Platform")];

#[test]
fn every_module_uses_only_what_lies_below_it() {
    let mut faults = Vec::new();
    for file in sources() {
        let top = top_of(&file);
        if top == "lib" {
            continue;
        }
        let code = without_tests(&bare(&fs::read_to_string(&file).unwrap()));
        let shown = file.strip_prefix(SRC).unwrap().display().to_string();
        faults.extend(
            faults_in(&top, depth(&file), &code)
                .into_iter()
                .map(|fault| format!("src/{shown}:{fault}")),
        );
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn who_asks_is_shared_by_all_questions_of_a_batch_and_cannot_be_cloned() {
    for (file, item) in [
        ("resolver/asker.rs", "struct Asker {"),
        ("domain/user.rs", "struct User {"),
        ("domain/user.rs", "struct AuthHeader("),
    ] {
        let code = bare(&fs::read_to_string(Path::new(SRC).join(file)).unwrap());
        let (before, _) = code.split_once(item).unwrap_or_else(|| panic!("{item}"));
        let attributes = before.rsplit(['}', ';']).next().unwrap();
        let by_hand = item.replace("struct ", "Clone for ").replace('(', " {");
        assert!(
            !attributes.contains("Clone") && !code.contains(&by_hand),
            "{file}: {item}"
        );
    }
}

#[test]
fn the_files_of_a_module_import_each_other_in_no_circle() {
    let code = |file: &Path| without_tests(&bare(&fs::read_to_string(file).unwrap()));
    let files: Vec<_> = sources()
        .into_iter()
        .filter_map(|file| Some((module(&file)?, file)))
        .collect();
    let modules = files.iter().map(|(module, _)| module.clone()).collect();
    let of = |module: &str, file: &Path| imports(module, &code(file), &modules);
    let all: Imports = files
        .iter()
        .map(|(module, file)| (module.clone(), of(module, file)))
        .collect();
    assert!(
        all.values().any(|used| !used.is_empty()),
        "no file uses another: the rule reads nothing"
    );
    let found = circles(&all);
    assert!(found.is_empty(), "\n{}\n", Vec::from_iter(found).join("\n"));
}

#[test]
fn circles_are_seen_through_groups_and_from_far_below() {
    let modules: BTreeSet<_> = ["a::b", "a::c", "a::c::d", "z::b"]
        .map(str::to_owned)
        .into();
    for (module, code, used) in [
        ("a::b", "use super::{c::X, d};", &["a::c"][..]),
        ("a::b", "fn f(_: crate::a::c::d::X) {}", &["a::c"]),
        (
            "a::c::d",
            "use super::super::b;\nuse super::Y;",
            &["a::b", "a::c"],
        ),
        ("a::c", "use self::d::X; use crate::z::b::X;", &["a::c::d"]),
        ("a::b", "use super::Front;", &[]),
    ] {
        assert_eq!(
            Vec::from_iter(imports(module, code, &modules)),
            used,
            "{module}: {code}"
        );
    }
    let edges = [
        ("a::c", "a::d"),
        ("a::d", "a::b"),
        ("a::b", "a::c"),
        ("a::e", "a::b"),
    ];
    let all: Imports = edges
        .map(|(from, to)| (from.to_owned(), [to.to_owned()].into()))
        .into();
    assert_eq!(
        Vec::from_iter(circles(&all)),
        ["a::b -> a::c -> a::d -> a::b"]
    );
    let tree: Imports = all.into_iter().filter(|(from, _)| from != "a::d").collect();
    assert!(circles(&tree).is_empty());
}

#[test]
fn the_crate_lists_its_modules_from_the_ground_up() {
    let lib = fs::read_to_string(Path::new(SRC).join("lib.rs")).unwrap();
    let names: Vec<_> = lib.lines().filter_map(declared).collect();
    let floors: Vec<_> = names
        .iter()
        .map(|name| known(name).expect(name).floor)
        .collect();
    assert!(
        floors.is_sorted(),
        "{names:?} stand on the floors {floors:?}"
    );
}

/// A function that is longer than a page is not seen at once.
#[test]
fn no_function_is_longer_than_a_page() {
    let mut long = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let code = without_tests(&bare(&text));
        for (name, lines) in functions(&code) {
            if lines > LONGEST_FUNCTION {
                long.push(format!("{}: {name} has {lines} lines", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
    let code = "impl A {\n    async fn b() {\n        c();\n    }\n}\nfn d() {}\n";
    assert_eq!(functions(code), [("b", 3), ("d", 1)]);
}

/// rustfmt does not wrap comments and strings.
#[test]
fn lines_of_code_and_comments_fit() {
    let mut long = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for (n, line) in text.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            let most = if is_comment { 100 } else { 120 };
            if line.chars().count() > most {
                long.push(format!(
                    "{}:{}: more than {most} columns",
                    file.display(),
                    n + 1
                ));
            }
        }
    }
    assert!(long.is_empty(), "\n{}\n", long.join("\n"));
}

/// The functions in bare code, each with its lines.
fn functions(code: &str) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let (head, name) = (&code[..at], &code[at + 3..]);
        let is_item = head.is_empty() || head.ends_with([' ', '\n']);
        let name = name.split(['(', '<']).next().unwrap_or_default();
        let body = code[at..].find(['{', ';']).map(|open| at + open);
        if let Some(open) = body.filter(|open| is_item && code[*open..].starts_with('{')) {
            let lines = code[at..closing(code, open)].lines().count();
            found.push((name, lines));
        }
    }
    found
}

/// The place behind the brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return open + at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn every_file_begins_with_what_it_is_for_and_is_short_enough_to_read() {
    let mut faults = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let shown = file.strip_prefix(SRC).unwrap().display();
        if !text.starts_with("//! ") && !text.starts_with("#![doc = include_str!(") {
            faults.push(format!("src/{shown}: begins with no //! header"));
        }
        let code = bare(&text);
        let tests: usize = test_items(&code)
            .into_iter()
            .map(|item| code[item].lines().count())
            .sum();
        let length = text.lines().count() - tests;
        if length > LONGEST {
            faults.push(format!(
                "src/{shown}: {length} lines without tests, {LONGEST} are the most"
            ));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_rules_see_through_groups_comments_strings_and_test_code() {
    let faults = |top: &str, text: &str| faults_in(top, 2, &without_tests(&bare(text)));
    for (top, text) in [
        (
            "cache",
            "use crate::{\n    domain::{Entry, key},\n    connector::Door,\n};",
        ),
        ("cache", "fn f(_: crate::flight::Flights) {}"),
        ("domain", "use tokio_util::sync::CancellationToken;"),
        ("domain", "use redis as store;"),
        ("api", "use crate::connector::{CrmClient, Platform};"),
        ("api", "use tonic::Status;"),
        ("grpc", "use crate::connector::Platform;"),
        ("grpc", "use crate::resolver::Resolver;"),
        ("http", "use crate::grpc::CallGate;"),
        ("http", "use tonic::Status;"),
        ("config", "use crate::cli;"),
        ("example_crm", "use crate::app::App;"),
        ("clock", "use super::super::metrics::Metrics;"),
    ] {
        assert_eq!(
            faults(top, text).len(),
            1,
            "{top}: {text} gives {:?}",
            faults(top, text)
        );
    }
    for (top, text) in [
        (
            "domain",
            "// use tokio::spawn\n/* crate::cache */ const A: &str = \"crate::app::\\\"\"; const B: char = '\"';",
        ),
        (
            "domain",
            "#[cfg(test)]\nmod tests {\n    use crate::cache::Tier;\n    fn f() { if true {} }\n}",
        ),
        (
            "domain",
            "#[cfg(test)]\nuse tokio::time;\nuse crate::pb::v1;",
        ),
        (
            "api",
            "use crate::connector::Platform;\nuse crate::resolver::Resolver;",
        ),
        ("config", "use crate::telemetry::LogFormat;"),
        (
            "cache",
            "use super::Tier; fn f<'a>(x: &'a str) -> &'a str { x }",
        ),
    ] {
        assert_eq!(faults(top, text), Vec::<String>::new(), "{top}: {text}");
    }
}

/// `cache` for `mod cache;` and `pub mod cache;`.
fn declared(line: &str) -> Option<&str> {
    line.trim_start_matches("pub ")
        .strip_prefix("mod ")?
        .strip_suffix(';')
}

/// What is wrong with the paths in `code`, each with its line.
fn faults_in(name: &str, depth: usize, code: &str) -> Vec<String> {
    let Some(top) = known(name) else {
        return vec![format!(
            "1: {name} has no place in the table of tests/it/house.rs"
        )];
    };
    let mut faults = Vec::new();
    for (at, root) in roots(code) {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + root.len()..];
        if matches!(root, "crate" | "contactd") {
            for path in branches(rest) {
                faults.extend(denied(top, &path).map(|rule| format!("{line}: {rule}")));
            }
        } else if root == "super" {
            let supers = 1 + rest
                .split("::")
                .skip(1)
                .take_while(|part| part.trim() == "super")
                .count();
            if supers >= depth {
                faults.push(format!("{line}: super leaves the module; write crate::"));
            }
        } else if top.never_crates.iter().any(|never| is_family(root, never)) {
            faults.push(format!("{line}: {name} never uses {root}"));
        }
    }
    faults
}

fn is_family(root: &str, never: &str) -> bool {
    root.strip_prefix(never)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// The rule that `path`, for example `connector::Platform`, breaks in `module`.
fn denied(top: &TopModule, path: &str) -> Option<String> {
    let used = path.split("::").next().unwrap_or(path);
    let (name, floor) = (top.name, top.floor);
    let is_open = OPEN_DOORS
        .iter()
        .any(|(from, to)| from.contains(&name) && to.contains(&used));
    if used == name || is_open || EXCEPTIONS.contains(&(name, path)) {
        return None;
    }
    match known(used) {
        None => Some(format!(
            "{used} has no place in the table of tests/it/house.rs"
        )),
        Some(other) if other.floor >= floor => Some(format!(
            "{name} (floor {floor}) uses {used} (floor {}): only lower floors",
            other.floor
        )),
        Some(_) if top.never.contains(&used) => {
            Some(format!("{name} never uses {used} itself, here {path}"))
        }
        Some(_) => None,
    }
}

fn known(name: &str) -> Option<&'static TopModule> {
    TOP_MODULES.iter().find(|top| top.name == name)
}
