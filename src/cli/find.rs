//! `contactd find`: one look-up through the daemon.

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use prost_types::value::Kind;
use tonic::Code;

use super::client::{ClientArgs, with_options};
use super::{Failure, say, show};
use crate::pb::v1 as pb;
use crate::proto_json;

/// Nobody has the number.
const NOT_FOUND: u8 = 3;

#[derive(Debug, clap::Args)]
pub(super) struct FindArgs {
    /// The telephone number, preferably in E.164 (+16505551234).
    number: String,
    #[command(flatten)]
    client: ClientArgs,
    /// The number is an internal extension.
    #[arg(long)]
    extension: bool,
    /// Ask the CRM even if an answer is stored, and store the new answer.
    #[arg(long, conflicts_with = "only_if_cached")]
    refresh: bool,
    /// Answer only from stored answers, without a call to the CRM.
    #[arg(long)]
    only_if_cached: bool,
    /// How to print the answer.
    #[arg(long, value_enum, default_value = "human")]
    output: FindOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FindOutput {
    /// For people.
    Human,
    /// The response as proto3 JSON.
    Json,
    /// The name of the first contact that certainly or likely has the number, and nothing else.
    Name,
}

pub(super) async fn run(args: FindArgs) -> Result<ExitCode, Failure> {
    let request = request(&args)?;
    let mut client = args.client.connect().await?;
    let response = match client.find_contact(args.client.request(request)?).await {
        Ok(response) => response.into_inner(),
        Err(status) if status.code() == Code::NotFound => {
            say("contactd: nothing is stored for this number that this credential may see now");
            return Ok(ExitCode::from(NOT_FOUND));
        }
        Err(status) => return Err(args.client.explain(&status)),
    };
    match args.output {
        FindOutput::Json => show(format_args!(
            "{:#}\n",
            proto_json::to_json(&response).map_err(anyhow::Error::from)?
        ))?,
        FindOutput::Human => show(human(&response))?,
        FindOutput::Name => {
            let name = first_name(&response);
            show(name.map(|name| format!("{name}\n")).unwrap_or_default())?;
            return Ok(ExitCode::from(if name.is_some() { 0 } else { NOT_FOUND }));
        }
    }
    let is_found = found(&response).next().is_some();
    Ok(ExitCode::from(if is_found { 0 } else { NOT_FOUND }))
}

fn request(args: &FindArgs) -> Result<pb::FindContactRequest, Failure> {
    let trigger = if args.refresh {
        pb::Trigger::ManualRefresh
    } else {
        pb::Trigger::IncomingCall
    };
    Ok(pb::FindContactRequest {
        user: Some(args.client.user()),
        auth_header: args.client.auth_header()?,
        phone_number: args.number.clone(),
        overriding_formats: args.client.formats(),
        is_extension: args.extension,
        trigger: trigger.into(),
        only_if_cached: args.only_if_cached,
    })
}

/// The contacts of an answer, without the option to create one.
pub(super) fn found(response: &pb::FindContactResponse) -> impl Iterator<Item = &pb::ContactInfo> {
    response
        .matched_contact_info
        .iter()
        .filter(|contact| !contact.is_new_contact)
}

/// The name that a telephone may show. Contacts come in the order of their quality, and no name
/// holds a line break.
fn first_name(response: &pb::FindContactResponse) -> Option<&str> {
    let is_one = |contact: &&pb::ContactInfo| {
        let quality = contact.match_quality();
        matches!(quality, pb::MatchQuality::Exact | pb::MatchQuality::Likely)
    };
    let mut names = found(response)
        .filter(is_one)
        .map(|contact| contact.name.as_str());
    names.find(|name| !name.is_empty())
}

/// The answer for a person: the message, its source, and one block for each contact.
pub(super) fn human(response: &pb::FindContactResponse) -> String {
    let mut text = String::new();
    let has_contacts = found(response).next().is_some();
    if let Some(message) = &response.return_message {
        text += &format!("{}\n", message.message);
        let hints = message.details.iter().flat_map(|detail| &detail.items);
        for hint in hints.filter(|_| !has_contacts) {
            text += &format!("  {}\n", with_options(&hint.text));
        }
    }
    let provenance = response.lookup.as_ref().map(provenance);
    if let Some(provenance) = provenance.filter(|text| !text.is_empty()) {
        text += &format!("  {provenance}\n");
    }
    text.extend(found(response).map(block));
    text
}

/// Where an answer came from, in one line.
pub(super) fn provenance(lookup: &pb::Lookup) -> String {
    let is_stored = matches!(lookup.source(), pb::Source::Memory | pb::Source::Redis);
    let is_stale = lookup.freshness() == pb::Freshness::Stale;
    let parts = [
        Some(lookup.phone_number.clone()),
        source(lookup),
        is_stored.then(|| age(lookup)),
        is_stale.then(|| "stale".to_owned()),
        lookup
            .shared
            .then(|| "shared with another call's look-up".to_owned()),
        (!lookup.complete).then(|| "incomplete".to_owned()),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(", ")
}

fn source(lookup: &pb::Lookup) -> Option<String> {
    Some(match lookup.source() {
        pb::Source::Unspecified => return None,
        pb::Source::Crm if lookup.crm_requests == 1 => "from the CRM (1 HTTP call)".to_owned(),
        pb::Source::Crm => format!("from the CRM ({} HTTP calls)", lookup.crm_requests),
        pb::Source::Memory => "from memory".to_owned(),
        pb::Source::Redis => "from Redis".to_owned(),
    })
}

fn age(lookup: &pb::Lookup) -> String {
    let age = lookup.age.and_then(|age| Duration::try_from(age).ok());
    let seconds = Duration::from_secs(age.unwrap_or_default().as_secs());
    format!("{} old", humantime::format_duration(seconds))
}

fn block(contact: &pb::ContactInfo) -> String {
    let sure = match contact.match_quality() {
        pb::MatchQuality::Exact => "",
        pb::MatchQuality::Likely => "  (likely this number)",
        pb::MatchQuality::Unverified | pb::MatchQuality::Unspecified => "  (number not verified)",
    };
    let mut lines = vec![format!("\n{}{sure}", contact.name)];
    let fields = contact.additional_info.iter().flat_map(|info| &info.fields);
    let details = fields.map(|(field, choices)| (field.as_str(), titles(choices).join("; ")));
    let facts = facts(contact)
        .into_iter()
        .filter(|(_, value)| !value.is_empty());
    lines.extend(
        facts
            .chain(details)
            .map(|(label, value)| format!("  {label:<8} {value}")),
    );
    lines.join("\n") + "\n"
}

fn facts(contact: &pb::ContactInfo) -> [(&str, String); 6] {
    let mut work = vec![contact.title.as_str(), contact.company.as_str()];
    work.retain(|part| !part.is_empty());
    [
        ("id", contact.id.clone()),
        ("type", contact.r#type.clone()),
        ("work", work.join(", ")),
        ("email", contact.email.clone()),
        ("created", contact.created_date.clone()),
        ("active", contact.most_recent_activity_date.clone()),
    ]
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
