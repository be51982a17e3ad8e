//! What a connector is and what it costs, as text and as JSON.

use serde_json::{Value, json};

use crate::trial::{CallCount, RequestSheet, Sheet};

/// Calls for a person.
pub(super) fn calls(calls: CallCount) -> String {
    if calls.least == calls.most {
        calls.most.to_string()
    } else {
        format!("{} to {}", calls.least, calls.most)
    }
}

/// The same with its noun.
fn counted(count: CallCount, noun: &str) -> String {
    let plural = if count.most == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", calls(count))
}

/// The calls of one look-up, which are counted without the user's own formats.
pub(super) fn with_formats(sheet: &Sheet, calls: String) -> String {
    if sheet.grows_with_formats() {
        calls + ", and more if the user has formats"
    } else {
        calls
    }
}

/// To whom stored answers belong.
pub(super) fn whose(sheet: &Sheet) -> &'static str {
    if sheet.names_users {
        "belong to the user whom the CRM names"
    } else {
        "belong to the token, because the CRM is not asked for the token's user: a new token starts without stored \
         answers"
    }
}

/// What the caller's credential must be.
pub(super) fn auth_header(sheet: &Sheet) -> String {
    let said = &sheet.about.auth_header;
    if said.is_empty() {
        "as the CRM wants it: the file does not say".to_owned()
    } else {
        said.clone()
    }
}

/// Whether the user names the CRM's host.
pub(super) fn hostname(sheet: &Sheet) -> &'static str {
    if sheet.needs_host {
        "required: one of the hosts below"
    } else {
        "not needed"
    }
}

/// The cost sheet for a person.
pub(super) fn human(sheet: &Sheet) -> String {
    let mut text = String::new();
    if !sheet.about.searches.is_empty() {
        text += &format!("{}\n\n", sheet.about.searches);
    }
    let requests = sheet.requests.iter().map(request);
    text += &requests.collect::<String>();
    for (label, value) in facts(sheet) {
        if !value.is_empty() {
            text += &format!("{label:<20} {value}\n");
        }
    }
    for (title, lines) in remarks(sheet) {
        if !lines.is_empty() {
            text += &format!("\n{title}:\n");
        }
        for line in lines {
            text += &format!("  - {line}\n");
        }
    }
    text
}

fn facts(sheet: &Sheet) -> [(&'static str, String); 12] {
    let many = counted(sheet.many, "search call");
    [
        (
            "one look-up",
            with_formats(sheet, counted(sheet.one, "call")),
        ),
        (
            "250 numbers",
            format!("{many}, if each list fits on one page"),
        ),
        ("values in one call", sheet.numbers_at_once.to_string()),
        ("spellings", sheet.spellings.join(", ")),
        ("search ends", sheet.stop.to_owned()),
        ("quota", sheet.quota.join("; ")),
        ("auth_header", auth_header(sheet)),
        ("user.hostname", hostname(sheet).to_owned()),
        (
            "hosts",
            or_none(&sheet.hosts, "only those that the settings name"),
        ),
        ("stored answers", whose(sheet).to_owned()),
        ("the key contains", key(sheet)),
        ("secrets", or_none(&sheet.secrets, "")),
    ]
}

fn remarks(sheet: &Sheet) -> [(&'static str, &[String]); 4] {
    let about = &sheet.about;
    [
        ("The token needs", &about.scopes),
        ("Not verified", &about.unverified),
        ("Missing or different", &about.gaps),
        ("Built from", &about.built_from),
    ]
}

fn request(request: &RequestSheet) -> String {
    let mut text = format!(
        "{:<20} {}\n{:<20} {}",
        request.purpose,
        request.title,
        "",
        counted(request.calls, "call")
    );
    for note in &request.notes {
        text += &format!(", {note}");
    }
    text + "\n"
}

fn or_none(values: &[String], none: &str) -> String {
    if values.is_empty() {
        none.to_owned()
    } else {
        values.join(", ")
    }
}

/// Everything that can change an answer.
fn key(sheet: &Sheet) -> String {
    let mut key =
        "CRM address, owner of the credential, account, user, number, regions, formats".to_owned();
    for (what, names) in [("settings", &sheet.settings), ("info", &sheet.info)] {
        if !names.is_empty() {
            key += &format!("; {what}: {}", names.join(", "));
        }
    }
    key
}

/// The cost sheet for scripts.
pub(super) fn to_json(sheet: &Sheet) -> Value {
    let count = |calls: CallCount| json!({"least": calls.least, "most": calls.most});
    let request = |request: &RequestSheet| {
        json!({
            "purpose": request.purpose,
            "request": request.title,
            "calls": count(request.calls),
            "notes": request.notes,
        })
    };
    json!({
        "name": sheet.about.name,
        "searches": sheet.about.searches,
        "auth_header": sheet.about.auth_header,
        "needs_hostname": sheet.needs_host,
        "built_from": sheet.about.built_from,
        "scopes": sheet.about.scopes,
        "unverified": sheet.about.unverified,
        "gaps": sheet.about.gaps,
        "tried_with_the_crm": sheet.is_tried,
        "spellings": sheet.spellings,
        "stop": sheet.stop,
        "requests": sheet.requests.iter().map(request).collect::<Vec<_>>(),
        "calls": count(sheet.one),
        "search_calls_of_250_numbers": count(sheet.many),
        "numbers_in_one_call": sheet.numbers_at_once,
        "quota": sheet.quota,
        "hosts": sheet.hosts,
        "settings": sheet.settings,
        "info": sheet.info,
        "secrets": sheet.secrets,
        "answers_belong_to": if sheet.names_users { "user" } else { "token" },
    })
}
