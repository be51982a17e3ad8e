//! `contactd explain`: explains the answer for a number.

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use super::client::{ClientArgs, with_options};
use super::find::{NOT_FOUND, found, human};
use super::{Failure, show};
use crate::pb::v1 as pb;
use crate::proto_json;

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// The telephone number, as the call brought it.
    number: String,
    #[command(flatten)]
    client: ClientArgs,
    /// The number is an internal extension.
    #[arg(long)]
    extension: bool,
    /// Ask the CRM now, and show each call and each record. The answer is stored.
    #[arg(long)]
    live: bool,
    /// How to print the explanation.
    #[arg(long, value_enum, default_value = "human")]
    output: ExplainOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExplainOutput {
    /// For people.
    Human,
    /// The response as proto3 JSON.
    Json,
}

pub(super) async fn run(args: ExplainArgs) -> Result<ExitCode, Failure> {
    let request = pb::ExplainContactRequest {
        question: Some(question(&args)?),
        live: args.live,
    };
    let mut client = args.client.connect().await?;
    let explained = client
        .explain_contact(args.client.request(request)?)
        .await
        .map_err(|status| args.client.explain(&status))?
        .into_inner();
    match args.output {
        ExplainOutput::Json => show(format_args!(
            "{:#}\n",
            proto_json::to_json(&explained).map_err(anyhow::Error::from)?
        ))?,
        ExplainOutput::Human => show(sections(&explained, args.live))?,
    }
    Ok(ExitCode::from(outcome(&explained)))
}

fn question(args: &ExplainArgs) -> Result<pb::FindContactRequest, Failure> {
    Ok(pb::FindContactRequest {
        user: Some(args.client.user()),
        auth_header: args.client.auth_header()?,
        phone_number: args.number.clone(),
        overriding_formats: args.client.formats(),
        is_extension: args.extension,
        trigger: pb::Trigger::IncomingCall.into(),
        ..Default::default()
    })
}

/// The exit code: that of `find` for the live answer, and 0 for an explanation alone.
fn outcome(explained: &pb::ExplainContactResponse) -> u8 {
    match &explained.answer {
        Some(answer) if answer.lookup.is_none() => 1,
        Some(answer) if found(answer).next().is_none() => NOT_FOUND,
        _ => 0,
    }
}

/// The explanation for a person, in short sections.
fn sections(explained: &pb::ExplainContactResponse, live: bool) -> String {
    let mut text = format!("{}\n\n", heading(explained));
    let because = with_options(&explained.because);
    text += &format!("{}\n  {because}\n", now(explained));
    if let Some(credential) = &explained.credential {
        text += &format!("\nStored\n{}", stored(explained, credential));
        text += &format!("\nCredential\n  {}\n", standing(credential));
    }
    if let Some(quota) = &explained.quota {
        text += &format!("\nQuota\n  {}\n", self::quota(quota));
    }
    if !explained.spellings.is_empty() {
        let spellings = explained.spellings.iter();
        let lines = spellings.map(|spelling| format!("  {spelling}\n"));
        text += &format!(
            "\nSearched for, in this order\n{}",
            lines.collect::<String>()
        );
    }
    match &explained.answer {
        Some(answer) => text + &happened(explained) + "\nAnswer\n" + &indented(&human(answer)),
        None if live || explained.credential.is_none() => text,
        None => text + "\nAdd --live to ask the CRM now, and to see each call and each record.\n",
    }
}

/// How the number was read.
fn heading(explained: &pb::ExplainContactResponse) -> String {
    let reading = match explained.reading.as_str() {
        "number" if explained.phone_number.is_empty() => return "Not a complete number".to_owned(),
        "number" => "a number",
        "extension" => "an internal extension",
        "withheld" => "a withheld number",
        "short_code" => "a short code, such as an emergency number",
        other => other,
    };
    if explained.phone_number.is_empty() {
        format!("Read as {reading}")
    } else {
        format!("{}, read as {reading}", explained.phone_number)
    }
}

/// What a look-up would do now.
fn now(explained: &pb::ExplainContactResponse) -> &'static str {
    match explained.decision.as_str() {
        "serve_fresh" => "Now: a look-up returns the stored answer.",
        "serve_stale" => "Now: a look-up returns the stored answer, labelled as stale.",
        "wait_for_crm" => "Now: a look-up waits for the CRM for a moment.",
        "ask_crm" => "Now: a look-up asks the CRM.",
        _ => "Now: a look-up returns no contact.",
    }
}

fn stored(explained: &pb::ExplainContactResponse, credential: &pb::CredentialState) -> String {
    if credential.standing != "proven" {
        return "  not shown: the CRM has not accepted this credential for this user recently\n"
            .to_owned();
    }
    if explained.stored.is_empty() {
        return "  nothing\n".to_owned();
    }
    explained.stored.iter().map(tier).collect()
}

/// What one tier stores, in one line.
fn tier(stored: &pb::StoredAnswer) -> String {
    let tier = match stored.tier() {
        pb::Source::Memory => "memory",
        pb::Source::Redis => "Redis",
        pb::Source::Crm | pb::Source::Unspecified => "elsewhere",
    };
    let what = match stored.match_count {
        0 => "nobody".to_owned(),
        1 => "1 contact".to_owned(),
        count => format!("{count} contacts"),
    };
    let complete = if stored.complete { "" } else { ", incomplete" };
    let fresh = if stored.freshness() == pb::Freshness::Fresh {
        format!("fresh for {}", seconds(stored.fresh_for))
    } else {
        "stale".to_owned()
    };
    let (age, served) = (seconds(stored.age), seconds(stored.served_for));
    format!(
        "  {tier:<7} {what}{complete}, {age} old, {fresh}, may be served for another {served}\n"
    )
}

fn standing(credential: &pb::CredentialState) -> String {
    let standing = match credential.standing.as_str() {
        "proven" => "proven: verified, because the CRM accepted it a short time ago",
        "lapsed" => "lapsed: the CRM accepted it, but must accept it again",
        _ => "unknown: the CRM has not accepted it for this user, or has refused it",
    };
    let owner = if credential.identity_known {
        "its owner is known"
    } else {
        "its owner is not known"
    };
    format!("{standing}; {owner}")
}

fn quota(quota: &pb::QuotaState) -> String {
    let left = quota.limit.saturating_sub(quota.used);
    let mut text = format!(
        "{} of {} calls in {} used, {left} left",
        quota.used,
        quota.limit,
        exact(quota.per)
    );
    let paused = duration(quota.paused_for);
    if !paused.is_zero() {
        text += &format!("; paused for {}", seconds(quota.paused_for));
    }
    let (pops, background) = (quota.waiting_call_pops, quota.waiting_background);
    if pops + background > 0 {
        text += &format!("; waiting: {pops} call pops, {background} in the background");
    }
    text
}

/// The calls and records of a live look-up.
fn happened(explained: &pb::ExplainContactResponse) -> String {
    let mut text = "\nCalls to the CRM\n".to_owned();
    for (n, call) in explained.exchanges.iter().enumerate() {
        text += &format!("  {}. {}\n", n + 1, exchange(call));
    }
    text += &left_out(explained.exchanges_left_out);
    if explained.exchanges.is_empty() {
        text += "  none\n";
    }
    text += "\nRecords\n";
    for record in &explained.records {
        let (id, verdict) = (&record.id, &record.verdict);
        text += &format!("  {id}: {verdict}, {}\n", record.because);
    }
    text += &left_out(explained.records_left_out);
    if explained.records.is_empty() {
        text += "  none\n";
    }
    text
}

fn exchange(call: &pb::CrmExchange) -> String {
    let took = duration(call.took).as_millis();
    let status = match call.status {
        0 => "no reply".to_owned(),
        status => format!("HTTP {status}, {} bytes", call.bytes),
    };
    format!("{} {}: {status}, {took} ms", call.method, call.path)
}

fn left_out(count: u32) -> String {
    match count {
        0 => String::new(),
        count => format!("  and {count} more\n"),
    }
}

fn indented(text: &str) -> String {
    let line = |line: &str| match line {
        "" => "\n".to_owned(),
        line => format!("  {line}\n"),
    };
    text.lines().map(line).collect()
}

fn duration(duration: Option<prost_types::Duration>) -> Duration {
    let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
    duration.unwrap_or_default()
}

/// A time in whole seconds.
fn seconds(time: Option<prost_types::Duration>) -> String {
    let whole = Duration::from_secs(duration(time).as_secs());
    humantime::format_duration(whole).to_string()
}

fn exact(time: Option<prost_types::Duration>) -> String {
    humantime::format_duration(duration(time)).to_string()
}
