//! `contactd connector test`: recordings against expectations, for people's CI.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Failure, Output, say, show, silent_path};
use crate::trial::{CaseReport, Outcome, PhonesSeen, case_directories, run_case};

#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Directories of cases, or directories with such directories.
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// The connector: a file, or the name of a built-in one.
    #[arg(long, value_name = "FILE|NAME")]
    connector: Option<String>,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

/// Cases by what became of them.
#[derive(Default)]
struct Totals {
    passed: usize,
    failed: usize,
    broken: usize,
}

pub(super) async fn run(args: TestArgs) -> Result<ExitCode, Failure> {
    let mut reports = Vec::new();
    let (mut totals, mut phones) = (Totals::default(), AllPhones::default());
    for directory in cases(&args.directories)? {
        let report = run_case(&directory, args.connector.as_deref()).await;
        totals.count(&report);
        phones.add(&report.phones);
        if args.output == Output::Human {
            show(human(&report))?;
        } else {
            reports.push(to_json(&report));
        }
    }
    if args.output == Output::Json {
        let Totals {
            passed,
            failed,
            broken,
        } = totals;
        let summary = json!({
            "passed": passed, "failed": failed, "broken": broken, "cases": reports,
            "warnings": phones.warnings(),
        });
        show(format_args!("{summary:#}\n"))?;
    } else {
        phones.warnings().iter().for_each(say);
        say(totals.words());
    }
    Ok(totals.exit_code())
}

fn cases(directories: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut cases = Vec::new();
    for directory in directories {
        if directory.is_file() {
            let words = format!(
                "{}: is a file; give the directory of recordings",
                directory.display()
            );
            return Err(Failure::Misused(words));
        }
        let unreadable = |error| Failure::Misused(format!("{}: {error}", directory.display()));
        let found = case_directories(directory).map_err(unreadable)?;
        if found.is_empty() {
            let words = format!("{}: has no case: no expect.toml", directory.display());
            return Err(Failure::Misused(words));
        }
        cases.extend(found);
    }
    Ok(cases)
}

/// The last two names of a path: connector and case.
fn short(directory: &Path) -> String {
    let names: Vec<_> = directory
        .iter()
        .map(|name| name.to_string_lossy())
        .collect();
    names[names.len().saturating_sub(2)..].join("/")
}

fn human(report: &CaseReport) -> String {
    let name = short(&report.directory);
    match &report.outcome {
        Outcome::Passed { unused } if unused.is_empty() => format!("ok      {name}\n"),
        Outcome::Passed { unused } => {
            format!(
                "ok      {name}  (unused recordings: {})\n",
                unused.join(", ")
            )
        }
        Outcome::Failed(failures) => format!("FAILED  {name}\n{}", indented(&failures.join("\n"))),
        Outcome::Broken(why) => format!("BROKEN  {name}\n{}", indented(why)),
    }
}

fn indented(text: &str) -> String {
    super::indented(text, "        ")
}

fn to_json(report: &CaseReport) -> Value {
    let case = report.directory.display().to_string();
    match &report.outcome {
        Outcome::Passed { unused } => {
            json!({"case": case, "outcome": "passed", "unused_recordings": unused})
        }
        Outcome::Failed(failures) => {
            json!({"case": case, "outcome": "failed", "failures": failures})
        }
        Outcome::Broken(why) => json!({"case": case, "outcome": "broken", "reason": why}),
    }
}

/// The phone fields of all cases, by connector.
#[derive(Default)]
struct AllPhones(BTreeMap<String, BTreeMap<String, bool>>);

impl AllPhones {
    fn add(&mut self, of_case: &PhonesSeen) {
        if !of_case.has_records {
            return;
        }
        let paths = self.0.entry(of_case.connector.clone()).or_default();
        for (path, is_met) in &of_case.paths {
            *paths.entry(path.clone()).or_default() |= is_met;
        }
    }

    /// The fields that no record has: with a misspelt path contacts are missed or not verified, and
    /// nothing else shows it.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (connector, paths) in &self.0 {
            let silent = paths.iter().filter(|(_, is_met)| !**is_met);
            let warning =
                |(path, _): (&String, _)| silent_path(connector, "these recordings", path);
            warnings.extend(silent.map(warning));
        }
        warnings
    }
}

impl Totals {
    fn count(&mut self, report: &CaseReport) {
        match report.outcome {
            Outcome::Passed { .. } => self.passed += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Broken(_) => self.broken += 1,
        }
    }

    fn words(&self) -> String {
        let mut words = format!("{} passed, {} failed", self.passed, self.failed);
        if self.broken > 0 {
            words += &format!(", {} could not run", self.broken);
        }
        words
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match (self.broken, self.failed) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        })
    }
}
