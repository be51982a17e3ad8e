//! `contactd connector try`: look-ups with a connector, and everything that happened.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use secrecy::SecretString;
use serde_json::{Map, Value, json};
use url::Url;

use super::{Failure, Output, say, show, silent_path, story};
use crate::trial::{
    Caller, LookUp, NumberFormat, OtherEnd, Region, Replay, Sheet, Subject, Trial, TrialError,
    read_recordings, record, unread,
};

#[derive(Debug, clap::Args)]
pub(super) struct TryArgs {
    /// A connector file (TOML, or the JSON of App Connect's proxy), or the name of a built-in
    /// connector.
    #[arg(value_name = "FILE|NAME")]
    subject: String,
    /// The telephone numbers, preferably in E.164 (+16505551234).
    #[arg(required = true, value_name = "NUMBER")]
    numbers: Vec<String>,
    /// The CRM's host, if users name it.
    #[arg(long, default_value = "", hide_default_value = true)]
    hostname: String,
    /// The country in which a number without a leading + is read, such as US.
    #[arg(long, value_name = "CC", value_parser = region)]
    region: Option<Region>,
    /// A further number format to search for, such as "(###) ###-####"; can be repeated.
    #[arg(long = "format", value_name = "PATTERN", value_parser = format)]
    formats: Vec<NumberFormat>,
    /// A user setting; can be repeated. The value is JSON; anything else is a text.
    #[arg(long = "setting", value_name = "NAME=VALUE", value_parser = pair)]
    settings: Vec<(String, String)>,
    /// A field of platform_additional_info; can be repeated. NAME may be a path such as user.key.
    #[arg(long = "info", value_name = "NAME=VALUE", value_parser = pair)]
    info: Vec<(String, String)>,
    /// A secret of the connector, from a file; can be repeated.
    #[arg(long = "secret", value_name = "NAME=FILE", value_parser = pair)]
    secrets: Vec<(String, String)>,
    /// Send the requests to the CRM.
    #[arg(long, conflicts_with = "replies")]
    send: bool,
    /// The address to call instead of the CRM's, such as http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", requires = "send")]
    base_url: Option<Url>,
    /// Answer from the recordings of this directory, without network.
    #[arg(long, value_name = "DIR")]
    replies: Option<PathBuf>,
    /// Write what the CRM replied into this directory, as recordings without personal data, and
    /// expect.toml beside them.
    #[arg(long, value_name = "DIR", requires = "send")]
    record: Option<PathBuf>,
    /// How to print what happened.
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

fn region(text: &str) -> Result<Region, String> {
    Region::parse(text).ok_or_else(|| "expected a region such as US".to_owned())
}

fn format(text: &str) -> Result<NumberFormat, String> {
    NumberFormat::parse(text).ok_or_else(|| "expected a pattern such as (###) ###-####".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn run(args: TryArgs) -> Result<ExitCode, Failure> {
    let try_run = TryRun::prepare(&args).await?;
    let tried = try_run.look_ups().await?;
    let is_known = try_run.whoami().await?;
    try_run.conclude(&tried)?;
    if let Some(directory) = &args.record {
        try_run.record(&tried, directory).await?;
    }
    let failed = !is_known || tried.iter().any(Tried::has_failed);
    Ok(ExitCode::from(u8::from(failed)))
}

/// A trial that can begin.
struct TryRun<'a> {
    args: &'a TryArgs,
    sheet: Sheet,
    replay: Option<Replay>,
    trial: Trial,
}

impl<'a> TryRun<'a> {
    async fn prepare(args: &'a TryArgs) -> Result<Self, Failure> {
        let secrets = secrets(&args.secrets)?;
        // A dry run sends no credential, so it does without secrets.
        let needs_secrets = args.send || args.replies.is_some() || !secrets.is_empty();
        let given = needs_secrets.then_some(&secrets);
        let subject = Subject::load(&args.subject, given).map_err(misused)?;
        let (sheet, replay) = (subject.sheet(), replay(args).await?);
        let other_end = other_end(args, replay.as_ref());
        let trial = Trial::new(subject, caller(args)?, other_end).map_err(misused)?;
        if let Some(replay) = &replay {
            let address = trial.address();
            replay.stand_for(address.map_err(|error| refused(&error, &sheet))?);
        }
        Ok(Self {
            args,
            sheet,
            replay,
            trial,
        })
    }

    /// Looks the numbers up. A person sees each answer at once.
    async fn look_ups(&self) -> Result<Vec<Tried>, Failure> {
        let mut all = Vec::with_capacity(self.args.numbers.len());
        for number in &self.args.numbers {
            let look_up = self.trial.look_up(number).await;
            let look_up = look_up.map_err(|error| refused(&error, &self.sheet))?;
            let replay = self.replay.as_ref();
            let unmatched = replay.map_or_else(Vec::new, Replay::take_unmatched);
            if self.args.output == Output::Human {
                show(story::human(&look_up, &unmatched))?;
            }
            all.push(Tried { look_up, unmatched });
        }
        Ok(all)
    }

    /// Asks the CRM whose credential it is, if the connector can and requests are sent. Prints
    /// what is known, and no id. Returns whether nothing failed.
    async fn whoami(&self) -> Result<bool, Failure> {
        if !self.args.send || !self.trial.names_users() {
            return Ok(true);
        }
        let asked = self.trial.whoami().await;
        let (who, _) = asked.map_err(|error| refused(&error, &self.sheet))?;
        let words = format!("whoami: {}\n", story::whoami(&who));
        match self.args.output {
            Output::Human => show(words)?,
            Output::Json => say(words.trim_end()),
        }
        Ok(matches!(who, Ok(Some(_))))
    }

    /// What is printed after the last look-up.
    fn conclude(&self, tried: &[Tried]) -> Result<(), Failure> {
        match self.args.output {
            Output::Json => {
                let stories: Value = tried.iter().map(Tried::to_json).collect();
                show(format_args!("{stories:#}\n"))?;
            }
            Output::Human if !self.args.send && self.replay.is_none() => {
                say(story::after_a_dry_run(&self.sheet));
            }
            Output::Human => {}
        }
        self.warn_of_phones(tried);
        Ok(())
    }

    /// Warns of paths in `phones` at which no record has a value.
    fn warn_of_phones(&self, tried: &[Tried]) {
        let look_ups = tried.iter().map(|tried| &tried.look_up);
        let phones = self.trial.phones_seen(look_ups);
        if !phones.has_records {
            return;
        }
        let silent = phones.paths.iter().filter(|(_, is_met)| !is_met);
        silent.for_each(|(path, _)| say(silent_path(&phones.connector, "the replies", path)));
    }

    async fn record(&self, tried: &[Tried], directory: &Path) -> Result<(), Failure> {
        let look_ups: Vec<&LookUp> = tried.iter().map(|tried| &tried.look_up).collect();
        let files = record(&self.trial, &look_ups, directory).await;
        let files = files.map_err(anyhow::Error::from)?;
        let (directory, files) = (directory.display(), files.join(", "));
        say(format_args!("{directory}: recorded {files}"));
        Ok(())
    }
}

/// A look-up, and the requests that no recording answered.
struct Tried {
    look_up: LookUp,
    unmatched: Vec<String>,
}

impl Tried {
    fn has_failed(&self) -> bool {
        self.look_up.found.is_err() || !self.unmatched.is_empty()
    }

    fn to_json(&self) -> Value {
        story::to_json(&self.look_up, &self.unmatched)
    }
}

fn other_end(args: &TryArgs, replay: Option<&Replay>) -> OtherEnd {
    match replay {
        Some(replay) => OtherEnd::Replay(replay.origin().clone()),
        None if args.send => OtherEnd::Crm(args.base_url.clone()),
        None => OtherEnd::Nobody,
    }
}

fn misused(error: impl std::fmt::Display) -> Failure {
    Failure::Misused(error.to_string())
}

/// Why the trial cannot begin, and what to add to the command.
fn refused(error: &TrialError, sheet: &Sheet) -> Failure {
    if !error.is_about_host() {
        return misused(error);
    }
    let hosts = sheet.hosts.join(", ");
    misused(format!(
        "{error}; name it with --hostname; this connector calls {hosts}"
    ))
}

async fn replay(args: &TryArgs) -> Result<Option<Replay>, Failure> {
    let Some(directory) = &args.replies else {
        return Ok(None);
    };
    let recordings = read_recordings(directory).map_err(misused)?;
    let replay = Replay::start(recordings).await;
    Ok(Some(replay.map_err(anyhow::Error::from)?))
}

fn secrets(pairs: &[(String, String)]) -> Result<BTreeMap<String, SecretString>, Failure> {
    let mut secrets = BTreeMap::new();
    for (name, file) in pairs {
        let text = fs::read_to_string(file)
            .map_err(|error| misused(format!("{file}: {}", unread(&error))))?;
        secrets.insert(name.clone(), text.trim().into());
    }
    Ok(secrets)
}

fn caller(args: &TryArgs) -> Result<Caller, Failure> {
    Ok(Caller {
        hostname: args.hostname.clone(),
        region: args.region,
        formats: args.formats.clone(),
        settings: args
            .settings
            .iter()
            .map(|(name, value)| (name.clone(), value_of(value)))
            .collect(),
        info: nested(&args.info),
        auth_header: credential(args.send)?,
    })
}

/// The credential. It is needed if requests are sent.
fn credential(is_needed: bool) -> Result<Option<String>, Failure> {
    let credential = std::env::var_os("CONTACTD_AUTH_HEADER");
    let credential = credential.and_then(|text| text.into_string().ok());
    match credential.map(|text| text.trim().to_owned()) {
        None if is_needed => Err(Failure::Misused(
            "the CRM's credential is missing: set CONTACTD_AUTH_HEADER".to_owned(),
        )),
        credential => Ok(credential),
    }
}

/// JSON, or else a text.
fn value_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// Fields whose names are paths.
fn nested(pairs: &[(String, String)]) -> Map<String, Value> {
    let mut root = json!({});
    for (path, value) in pairs {
        let mut place = &mut root;
        for key in path.split('.') {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[key];
        }
        *place = value_of(value);
    }
    match root {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
