//! `contactd connector list`: the built-in connectors.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::sheet::{calls, to_json, whose};
use super::{Failure, Output, show};
use crate::trial::{Sheet, Subject};

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// How to print the list.
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

pub(super) fn run(args: &ListArgs) -> Result<ExitCode, Failure> {
    let mut sheets = Vec::new();
    for name in Subject::built_in() {
        let subject = Subject::load(name, None).map_err(anyhow::Error::from)?;
        sheets.push((name, subject.sheet()));
    }
    match args.output {
        Output::Human => show(human(&sheets))?,
        Output::Json => {
            let list: Vec<Value> = sheets
                .iter()
                .map(|(name, sheet)| entry(name, sheet))
                .collect();
            show(format_args!("{:#}\n", Value::from(list)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn entry(name: &str, sheet: &Sheet) -> Value {
    let mut entry = json!({"kind": name});
    if let (Some(entry), Value::Object(sheet)) = (entry.as_object_mut(), to_json(sheet)) {
        entry.extend(sheet);
    }
    entry
}

fn human(sheets: &[(&str, Sheet)]) -> String {
    let mut text: String = sheets
        .iter()
        .map(|(name, sheet)| block(name, sheet))
        .collect();
    text += "`calls` is how many calls one look-up makes, at least and at most. `contactd connector check NAME` \
             shows what they are made of,\nwhat the token needs and what could not be verified.\n";
    text
}

fn block(name: &str, sheet: &Sheet) -> String {
    let batch = match sheet.numbers_at_once {
        1 => "one number in a call".to_owned(),
        most => format!("up to {most} values in a call"),
    };
    let lines = [
        ("searches", sheet.about.searches.clone()),
        ("calls", calls(sheet.one)),
        ("quota", sheet.quota.join("; ")),
        ("batch", batch),
        ("answers", whose(sheet).to_owned()),
        ("tried", tried(sheet).to_owned()),
    ];
    let mut text = format!("{name}  ({})\n", sheet.about.name);
    for (label, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text += &format!("  {label:<9} {value}\n");
    }
    text + "\n"
}

fn tried(sheet: &Sheet) -> &'static str {
    if sheet.is_tried {
        "with the CRM itself"
    } else {
        "not with a live account"
    }
}
