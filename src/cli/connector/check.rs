//! `contactd connector check`: every fault of connector files, or what they cost.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Failure, Output, say, sheet, show};
use crate::trial::{FaultText, Subject, SubjectError};

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Connector files (TOML, or the JSON of App Connect's proxy), or names of built-in connectors.
    #[arg(required = true, value_name = "FILE|NAME")]
    subjects: Vec<String>,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

/// A file is faulty.
const FAULTY: u8 = 2;

pub(super) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let mut reports = Vec::new();
    let (mut faulty, several) = (0, args.subjects.len() > 1);
    for name in &args.subjects {
        let subject = Subject::load(name, None).and_then(Subject::with_search);
        faulty += usize::from(subject.is_err());
        match args.output {
            Output::Human => human(name, subject, several)?,
            Output::Json => reports.push(to_json(name, subject)),
        }
    }
    if args.output == Output::Json {
        show(format_args!("{:#}\n", Value::from(reports)))?;
    }
    Ok(ExitCode::from(if faulty > 0 { FAULTY } else { 0 }))
}

fn human(name: &str, subject: Result<Subject, SubjectError>, several: bool) -> Result<(), Failure> {
    match subject {
        Ok(subject) => {
            let found = subject.sheet();
            let sheet = sheet::human(&found);
            let end = if several { "\n" } else { "" };
            show(format_args!(
                "{name}: valid  ({})\n\n{sheet}{end}",
                found.about.name
            ))
        }
        Err(error) => {
            say(&error);
            if let SubjectError::Faulty(faults) = &error {
                let count = match faults.len() {
                    1 => "1 fault".to_owned(),
                    count => format!("{count} faults"),
                };
                say(format_args!("\n{name}: {count}"));
            }
            Ok(())
        }
    }
}

fn to_json(name: &str, subject: Result<Subject, SubjectError>) -> Value {
    let fault = |fault: &FaultText| {
        let (line, column) = fault.position.unzip();
        json!({"key": fault.key, "line": line, "column": column, "message": fault.message})
    };
    let faults = match subject {
        Ok(subject) => {
            let sheet = sheet::to_json(&subject.sheet());
            return json!({"subject": name, "faults": [], "sheet": sheet});
        }
        Err(SubjectError::Faulty(faults)) => faults.iter().map(fault).collect(),
        Err(error) => vec![json!({"key": "", "message": error.to_string()})],
    };
    json!({"subject": name, "faults": faults})
}
