//! `contactd find`: one look-up through the daemon.

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use prost_types::value::Kind;
use tonic::Code;

use super::client::ClientArgs;
use super::{Failure, json, say, show};
use crate::pb::v1 as pb;

/// Nobody has the number.
const NOT_FOUND: u8 = 3;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The telephone number, best in E.164 (+16505551234).
    number: String,
    #[command(flatten)]
    client: ClientArgs,
    /// The number is an internal extension.
    #[arg(long)]
    extension: bool,
    /// Ask the CRM even if the answer is stored, and store what it says.
    #[arg(long, conflicts_with = "only_if_cached")]
    refresh: bool,
    /// Make no CRM call.
    #[arg(long)]
    only_if_cached: bool,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Human,
    /// The response as proto3 JSON.
    Json,
}

pub(super) async fn run(args: Args) -> Result<ExitCode, Failure> {
    let trigger = if args.refresh {
        pb::Trigger::ManualRefresh
    } else {
        pb::Trigger::IncomingCall
    };
    let request = pb::FindContactRequest {
        user: Some(args.client.user()),
        auth_header: args.client.auth_header()?,
        phone_number: args.number.clone(),
        overriding_formats: args.client.formats(),
        is_extension: args.extension,
        trigger: trigger.into(),
        only_if_cached: args.only_if_cached,
    };
    let mut client = args.client.connect().await?;
    let response = match client.find_contact(args.client.request(request)?).await {
        Ok(response) => response.into_inner(),
        Err(status) if status.code() == Code::NotFound => {
            say("contactd: nothing is stored for this number that this credential may have now");
            return Ok(ExitCode::from(NOT_FOUND));
        }
        Err(status) => return Err(args.client.explain(&status)),
    };
    match args.output {
        Output::Json => show(format_args!("{:#}\n", json::to_json(&response)?))?,
        Output::Human => show(human(&response))?,
    }
    let found = response
        .matched_contact_info
        .iter()
        .any(|contact| !contact.is_new_contact);
    Ok(if found {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_FOUND)
    })
}

/// The answer for a person: the message, where it came from, one block a contact.
pub(super) fn human(response: &pb::FindContactResponse) -> String {
    let mut text = String::new();
    let has_contacts = response
        .matched_contact_info
        .iter()
        .any(|contact| !contact.is_new_contact);
    if let Some(message) = &response.return_message {
        text += &format!("{}\n", message.message);
        let details = message.details.iter().flat_map(|detail| &detail.items);
        text.extend(
            details
                .filter(|_| !has_contacts)
                .map(|item| format!("  {}\n", item.text)),
        );
    }
    if let Some(lookup) = &response.lookup {
        let provenance = provenance(lookup);
        if !provenance.is_empty() {
            text += &format!("  {provenance}\n");
        }
    }
    for contact in response
        .matched_contact_info
        .iter()
        .filter(|contact| !contact.is_new_contact)
    {
        text += &block(contact);
    }
    text
}

/// Where an answer came from, in one line.
pub(super) fn provenance(lookup: &pb::Lookup) -> String {
    let mut parts = vec![lookup.phone_number.clone()];
    let age = lookup
        .age
        .and_then(|age| Duration::try_from(age).ok())
        .unwrap_or_default();
    match lookup.source() {
        pb::Source::Unspecified => {}
        pb::Source::Crm => parts.push(match lookup.crm_requests {
            1 => "from the CRM (1 HTTP call)".to_owned(),
            calls => format!("from the CRM ({calls} HTTP calls)"),
        }),
        pb::Source::Memory => parts.push("from memory".to_owned()),
        pb::Source::Redis => parts.push("from Redis".to_owned()),
    }
    if lookup.source() != pb::Source::Unspecified && lookup.source() != pb::Source::Crm {
        parts.push(format!(
            "{} old",
            humantime::format_duration(Duration::from_secs(age.as_secs()))
        ));
    }
    if lookup.freshness() == pb::Freshness::Stale {
        parts.push("stale".to_owned());
    }
    if lookup.shared {
        parts.push("shared with another call's look-up".to_owned());
    }
    if !lookup.complete {
        parts.push("incomplete".to_owned());
    }
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

fn block(contact: &pb::ContactInfo) -> String {
    let sure = match contact.match_quality() {
        pb::MatchQuality::Exact => "",
        pb::MatchQuality::Likely => "  (likely this number)",
        pb::MatchQuality::Unverified | pb::MatchQuality::Unspecified => "  (number not verified)",
    };
    let mut lines = vec![format!("\n{}{sure}", contact.name)];
    let work = [contact.title.as_str(), contact.company.as_str()];
    let work: Vec<&str> = work.into_iter().filter(|part| !part.is_empty()).collect();
    for (label, value) in [
        ("id", contact.id.as_str()),
        ("type", &contact.r#type),
        ("work", &work.join(", ")),
        ("email", &contact.email),
        ("created", &contact.created_date),
        ("active", &contact.most_recent_activity_date),
    ] {
        if !value.is_empty() {
            lines.push(format!("  {label:<8} {value}"));
        }
    }
    for (field, choices) in contact.additional_info.iter().flat_map(|info| &info.fields) {
        lines.push(format!("  {field:<8} {}", titles(choices).join("; ")));
    }
    lines.join("\n") + "\n"
}

/// The titles of a field's choices.
fn titles(choices: &prost_types::Value) -> Vec<&str> {
    let Some(Kind::ListValue(list)) = &choices.kind else {
        return Vec::new();
    };
    list.values.iter().filter_map(title_of).collect()
}

fn title_of(choice: &prost_types::Value) -> Option<&str> {
    let Some(Kind::StructValue(fields)) = &choice.kind else {
        return None;
    };
    match fields.fields.get("title")?.kind.as_ref()? {
        Kind::StringValue(title) => Some(title),
        _ => None,
    }
}
