//! `contactd connector page`: the page of a CRM for the documentation, made from its file.

use std::path::Path;
use std::process::ExitCode;

use super::sheet::{auth_header, calls, hostname, whose, with_formats};
use super::{Failure, show};
use crate::trial::{RequestSheet, Sheet, Subject};

#[derive(Debug, clap::Args)]
pub(super) struct PageArgs {
    /// A connector file, or the name of a built-in connector.
    #[arg(value_name = "FILE|NAME")]
    subject: String,
}

/// Columns of a line of a page.
const COLUMNS: usize = 118;

pub(super) fn run(args: &PageArgs) -> Result<ExitCode, Failure> {
    let subject = Subject::load(&args.subject, None).map_err(anyhow::Error::from)?;
    show(page(&args.subject, &subject.sheet()))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn page(kind: &str, sheet: &Sheet) -> String {
    let mut text = format!("# {}\n\n", sheet.about.name);
    text += &paragraph(&sheet.about.searches);
    text += &paragraph(&format!("`kind = \"{kind}\"`. {}", origin(sheet)));
    text += "| | |\n|---|---|\n";
    for (label, value) in facts(sheet) {
        if !value.is_empty() {
            text += &format!("| {label} | {} |\n", value.replace('|', "\\|"));
        }
    }
    text += &settings(kind, sheet);
    text += "\n## Calls\n\n| for | request | calls of one look-up |\n|---|---|---|\n";
    text += &sheet.requests.iter().map(request).collect::<String>();
    for (title, lines) in [
        ("What the token needs", &sheet.about.scopes),
        ("Not verified", &sheet.about.unverified),
        ("Missing or different", &sheet.about.gaps),
        ("Built from", &sheet.about.built_from),
    ] {
        if !lines.is_empty() {
            text += &format!("\n## {title}\n\n");
            for line in lines {
                text += &item(line);
            }
        }
    }
    text
}

/// How far the connector can be relied on.
fn origin(sheet: &Sheet) -> &'static str {
    if sheet.is_tried {
        "This connector is tried with the CRM itself."
    } else {
        "This connector was built from the sources below. Nobody has tried it with a live account."
    }
}

/// A section of the settings, to paste.
fn settings(kind: &str, sheet: &Sheet) -> String {
    let name = Path::new(kind).file_stem().unwrap_or_default();
    let name = name.to_string_lossy();
    let mut lines = vec![format!("[connectors.{name}]")];
    if let Some(file_kind) = Subject::file_kind(kind) {
        lines.push(format!("kind = \"{file_kind}\""));
        lines.push(format!("spec = \"{kind}\""));
    } else {
        lines.push(format!("kind = \"{kind}\""));
    }
    lines.push(
        "region = \"US\"   # the country in which numbers without a plus were typed".to_owned(),
    );
    lines.extend(hosts(sheet));
    for secret in &sheet.secrets {
        lines.push(format!(
            "secrets.{secret} = {{ file = \"/run/secrets/{name}_{secret}\" }}"
        ));
    }
    let quota = sheet.quota_settings.iter();
    lines.extend(quota.map(|line| format!("# quota.{line}")));
    let lines = lines.join("\n");
    let words = format!(
        "A look-up names this section by `user.platform = \"{name}\"`. The lines after `#` are the defaults."
    );
    format!(
        "\n## Settings\n\n```toml\n{lines}\n```\n\n{}",
        wrapped(&words, "", "")
    )
}

/// The hosts that users may name, if they name one.
fn hosts(sheet: &Sheet) -> Option<String> {
    let hosts: Vec<String> = sheet
        .hosts
        .iter()
        .map(|host| format!("\"{host}\""))
        .collect();
    let line = format!("allowed_hosts = [{}]", hosts.join(", "));
    // `example.com` stands for a host that readers have to replace by their own.
    if line.contains("example.com") {
        Some(format!("{line}   # your own"))
    } else {
        (sheet.needs_host && line.len() < COLUMNS).then(|| format!("# {line}"))
    }
}

fn facts(sheet: &Sheet) -> Vec<(&'static str, String)> {
    let many = match sheet.numbers_at_once {
        1 => String::new(),
        most => format!(
            "up to {most} values in one call; 250 numbers take at most {} searches",
            calls(sheet.many)
        ),
    };
    vec![
        (
            "calls of one look-up",
            with_formats(sheet, calls(sheet.one)),
        ),
        ("many numbers", many),
        ("spellings", code(&sheet.spellings)),
        ("the search ends", sheet.stop.to_owned()),
        ("quota", sheet.quota.join("; ")),
        ("`auth_header`", auth_header(sheet)),
        ("`user.hostname`", hostname(sheet).to_owned()),
        ("hosts", code(&sheet.hosts)),
        ("stored answers", whose(sheet).to_owned()),
        ("user settings that it reads", code(&sheet.settings)),
        (
            "fields of `platform_additional_info` that it reads",
            code(&sheet.info),
        ),
        ("secrets of the settings", code(&sheet.secrets)),
    ]
}

fn code(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

fn request(request: &RequestSheet) -> String {
    let mut count = calls(request.calls);
    for note in &request.notes {
        count += &format!(", {note}");
    }
    format!("| {} | `{}` | {count} |\n", request.purpose, request.title)
}

fn paragraph(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        wrapped(text, "", "") + "\n"
    }
}

fn item(text: &str) -> String {
    wrapped(text, "- ", "  ")
}

/// The text in lines of at most [`COLUMNS`] columns.
fn wrapped(text: &str, first: &str, rest: &str) -> String {
    let (mut lines, mut line) = (String::new(), first.to_owned());
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines += line.trim_end();
            lines.push('\n');
            rest.clone_into(&mut line);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    lines + line.trim_end() + "\n"
}
