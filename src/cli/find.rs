//! `contactd find`: one look-up through the daemon.

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use prost::{Message, Name};
use prost_types::value::Kind;
use tonic::{Code, Request, Status};

use super::client::{ClientArgs, with_options};
use super::{Failure, say, show};
use crate::pb::v1 as pb;
use crate::pb::v1::watch_contact_response::Event;
use crate::proto_json;

/// Nobody has the number.
pub(super) const NOT_FOUND: u8 = 3;

/// Up to this many digits may be an internal extension that somebody forgot to mark with
/// --extension.
const SHORT: usize = 6;

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
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
    /// Print each answer as it comes: first what is stored, then the CRM's answer, if it differs or
    /// has more.
    #[arg(long)]
    watch: bool,
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
    let request = args.client.request(request(&args)?)?;
    let found = if args.watch {
        watch(&args, request).await
    } else {
        find(&args, request).await
    };
    match found {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::from(NOT_FOUND)),
        Err(NoAnswer::Failure(failure)) => Err(failure),
        Err(NoAnswer::Status(status)) if status.code() == Code::NotFound => {
            say("contactd: this credential cannot see a stored answer for this number now");
            Ok(ExitCode::from(NOT_FOUND))
        }
        Err(NoAnswer::Status(status)) => Err(args.client.explain(&status)),
    }
}

/// Why there is no answer.
enum NoAnswer {
    Status(Status),
    Failure(Failure),
}

impl From<Status> for NoAnswer {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Prints the answer. Returns whether it has a contact.
async fn find(args: &FindArgs, request: Request<pb::FindContactRequest>) -> Result<bool, NoAnswer> {
    let mut client = args.client.connect().await?;
    let response = client.find_contact(request).await?.into_inner();
    match args.output {
        FindOutput::Json => show_json(&response)?,
        FindOutput::Human => show(human(&response) + args.hint(&response))?,
        FindOutput::Name => show_name(&response)?,
    }
    Ok(args.is_found(&response))
}

fn show_name(response: &pb::FindContactResponse) -> Result<(), Failure> {
    match first_name(response) {
        Some(name) => show(format_args!("{name}\n")),
        None => Ok(()),
    }
}

impl FindArgs {
    /// What to do if a few digits are not read as a number.
    fn hint(&self, response: &pb::FindContactResponse) -> &'static str {
        let digits = self.number.trim();
        let is_short = (1..=SHORT).contains(&digits.len());
        let may_be_extension = is_short && digits.bytes().all(|digit| digit.is_ascii_digit());
        let lookup = response.lookup.as_ref();
        let is_unread = lookup.is_none_or(|lookup| lookup.phone_number.is_empty());
        if may_be_extension && is_unread && !self.extension {
            "  Is it an internal extension? Add --extension.\n"
        } else {
            ""
        }
    }

    /// Whether the answer has what is printed: a contact, or one whose name may be shown alone.
    fn is_found(&self, response: &pb::FindContactResponse) -> bool {
        match self.output {
            FindOutput::Name => first_name(response).is_some(),
            FindOutput::Human | FindOutput::Json => found(response).next().is_some(),
        }
    }
}

/// Prints each event. Returns whether the last answer has a contact.
async fn watch(
    args: &FindArgs,
    request: Request<pb::FindContactRequest>,
) -> Result<bool, NoAnswer> {
    let mut client = args.client.connect().await?;
    let mut events = client.watch_contact(request).await?.into_inner();
    let mut is_found = false;
    let mut has_answer = false;
    while let Some(response) = events.message().await? {
        if let Some(Event::Answer(answer)) = &response.event {
            is_found = args.is_found(answer);
        }
        match (args.output, &response.event) {
            (FindOutput::Json, _) => show_json(&response)?,
            (FindOutput::Human, Some(Event::Answer(answer))) => {
                let gap = if has_answer { "\n" } else { "" };
                show(format_args!("{gap}{}", human(answer)))?;
                has_answer = true;
            }
            (FindOutput::Human, Some(Event::Asking(_))) => show("Asking the CRM\n")?,
            (FindOutput::Name, Some(Event::Answer(answer))) => show_name(answer)?,
            (FindOutput::Name, Some(Event::Asking(_))) | (_, None) => {}
        }
    }
    Ok(is_found)
}

fn show_json<M: Message + Name>(message: &M) -> Result<(), Failure> {
    let json = proto_json::to_json(message).map_err(anyhow::Error::from)?;
    show(format_args!("{json:#}\n"))
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
        ..Default::default()
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
