//! Everything that happened during one look-up, as text and as JSON.

use serde_json::{Value, json};

use crate::trial::{
    CallEnding, Contact, LookUp, LookupError, Seen, SeenCall, SeenRecord, Sheet, WhoAmI,
};

const HIDDEN: &str = "[REDACTED]";

/// What happened, for a person.
pub(super) fn human(look_up: &LookUp, unmatched: &[String]) -> String {
    let mut text = format!("{}\n", look_up.number);
    let mut calls = 0;
    for seen in &look_up.seen {
        match seen {
            Seen::Call(call) => {
                calls += 1;
                text += &indented(&format!("{calls}. {}", request(call)));
                text += &indented(&format!("   {}", ending(call)));
                if let Some(keys) = call.reply_keys().filter(|_| look_up.lacks_list()) {
                    text += &indented(&format!("   {}", keys_words(&keys)));
                }
            }
            Seen::NotAsked { request, empty } => {
                text += &indented(&format!("-  not sent: {request}"));
                text += &indented(&format!("   because this is empty: {}", empty.join(", ")));
            }
            Seen::Judged(record) => text += &indented(&format!("   {}", judged(record))),
        }
    }
    for missing in unmatched {
        text += &indented(missing);
    }
    text + &indented(&answer(look_up)) + "\n"
}

fn indented(text: &str) -> String {
    super::indented(text, "  ")
}

/// The request, one part a line.
fn request(call: &SeenCall) -> String {
    let mut bare = call.url.clone();
    bare.set_query(None);
    let mut lines = vec![format!("{} {bare}", call.method)];
    let query = call.url.query_pairs();
    lines.extend(query.map(|(name, value)| format!("   ? {name} = {value}")));
    let hidden = call
        .credential
        .iter()
        .map(|name| format!("   {name}: {HIDDEN}"));
    lines.extend(hidden);
    lines.extend(
        call.headers
            .iter()
            .map(|(name, value)| format!("   {name}: {value}")),
    );
    if !call.body.is_empty() {
        lines.extend(body(call).lines().map(|line| format!("   {line}")));
    }
    lines.join("\n")
}

fn body(call: &SeenCall) -> String {
    if let Ok(body) = serde_json::from_slice::<Value>(&call.body) {
        return format!("{body:#}");
    }
    let fields = url::form_urlencoded::parse(&call.body);
    let fields = fields.map(|(name, value)| format!("{name} = {value}\n"));
    fields.collect()
}

fn ending(call: &SeenCall) -> String {
    match &call.ending {
        CallEnding::Dry => "would be sent".to_owned(),
        CallEnding::Failed(error) => format!("no reply: {error}"),
        CallEnding::Reply {
            status,
            bytes,
            failure,
            ..
        } => match failure {
            None => format!("HTTP {status}, {bytes} bytes"),
            Some(failure) => format!("HTTP {status}, {bytes} bytes: {failure}"),
        },
    }
}

/// Where the list may be instead.
fn keys_words(keys: &[String]) -> String {
    let keys = keys.iter().map(|key| format!("{key:?}"));
    let keys: Vec<String> = keys.collect();
    format!("the reply's keys: {}", keys.join(", "))
}

fn judged(record: &SeenRecord) -> String {
    format!(
        "record {} {} \"{}\": {}",
        record.kind,
        record.id,
        record.name,
        record.words()
    )
}

fn answer(look_up: &LookUp) -> String {
    let calls = match look_up.calls {
        1 => "1 call".to_owned(),
        calls => format!("{calls} calls"),
    };
    let found = match &look_up.found {
        Err(error) => return format!("failed after {calls}: {error}"),
        Ok(found) => found,
    };
    if look_up.is_dry() {
        return "nothing was sent".to_owned();
    }
    let complete = if found.complete { "" } else { ", incomplete" };
    let mut text = match found.contacts.as_slice() {
        [] => format!("nobody ({calls}{complete})"),
        [_] => format!("1 contact ({calls}{complete})"),
        contacts => format!("{} contacts ({calls}{complete})", contacts.len()),
    };
    for contact in &found.contacts {
        text += &format!("\n{:#}", contact_json(contact));
    }
    text
}

/// What is known about whose credential it is, without an id.
pub(super) fn whoami(who: &Result<Option<WhoAmI>, LookupError>) -> String {
    match who {
        Ok(Some(who)) => {
            let account = who.account().map_or("unknown", |_| "known");
            format!("user known, account {account}")
        }
        Ok(None) => "failed: the reply does not have one value at each path of `id`".to_owned(),
        Err(error) => format!("failed: {error}"),
    }
}

/// What a dry run cannot show.
pub(super) fn after_a_dry_run(sheet: &Sheet) -> String {
    let details = sheet.requests.iter();
    let details: Vec<String> = details
        .filter(|request| request.purpose.starts_with("details"))
        .map(|request| format!("\n  {}: {}", request.purpose, request.title))
        .collect();
    let mut words =
        "Nothing was sent. Use --send to call the CRM, or --replies to answer from recordings."
            .to_owned();
    if !details.is_empty() {
        words += &format!(
            "\nIf contacts are found, these requests are sent too:{}",
            details.concat()
        );
    }
    words
}

fn contact_json(contact: &Contact) -> Value {
    json!({
        "id": contact.id,
        "kind": contact.kind,
        "name": contact.name,
        "title": contact.title,
        "company": contact.company,
        "email": contact.email,
        "created": contact.created,
        "last_activity": contact.last_activity,
        "quality": contact.quality.label(),
        "info": contact.additional_info,
    })
}

/// What happened, for scripts.
pub(super) fn to_json(look_up: &LookUp, unmatched: &[String]) -> Value {
    let lacks_list = look_up.lacks_list();
    let events = look_up.seen.iter().map(|seen| event(seen, lacks_list));
    let mut story = json!({
        "number": look_up.number.to_string(),
        "calls": look_up.calls,
        "dry": look_up.is_dry(),
        "events": events.collect::<Vec<_>>(),
    });
    match &look_up.found {
        Ok(found) => {
            let contacts = found.contacts.iter().map(contact_json);
            story["complete"] = found.complete.into();
            story["contacts"] = contacts.collect();
        }
        Err(error) => {
            story["error"] = error.reason().to_lowercase().into();
            story["message"] = error.to_string().into();
        }
    }
    if !unmatched.is_empty() {
        story["without_recording"] = unmatched.into();
    }
    story
}

fn event(seen: &Seen, lacks_list: bool) -> Value {
    match seen {
        Seen::Call(call) => {
            let mut event = call_event(call);
            if let Some(keys) = call.reply_keys().filter(|_| lacks_list) {
                event["reply_keys"] = keys.into();
            }
            event
        }
        Seen::NotAsked { request, empty } => {
            json!({"event": "not asked", "request": request, "empty": empty})
        }
        Seen::Judged(record) => json!({
            "event": "record",
            "id": record.id,
            "kind": record.kind,
            "name": record.name,
            "phones": record.phones,
            "kept": record.is_kept(),
            "verdict": record.words(),
        }),
    }
}

fn call_event(call: &SeenCall) -> Value {
    let mut bare = call.url.clone();
    bare.set_query(None);
    let query = call.url.query_pairs();
    let query: Value = query.map(|(name, value)| json!([name, value])).collect();
    let body = serde_json::from_slice::<Value>(&call.body).ok();
    let (status, bytes) = match &call.ending {
        CallEnding::Reply { status, bytes, .. } => (Some(*status), Some(*bytes)),
        _ => (None, None),
    };
    json!({
        "event": "call",
        "purpose": if call.is_search { "search" } else { "details" },
        "method": call.method,
        "url": bare.as_str(),
        "query": query,
        "headers": call.headers,
        "credential_headers": call.credential,
        "body": body,
        "status": status,
        "bytes": bytes,
        "ending": ending(call),
    })
}
