//! `expect.toml`: who asks, and what the answers to recorded look-ups must be.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::caller::Caller;
use crate::domain::{NumberFormat, Region};

/// What is expected of one case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectations {
    #[serde(default)]
    hostname: String,
    region: Option<String>,
    #[serde(default)]
    formats: Vec<String>,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(default)]
    info: Map<String, Value>,
    /// Values for tests.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    auth_header: Option<String>,
    #[serde(default)]
    pub(super) look_up: Vec<ExpectedLookUp>,
    #[serde(default)]
    pub(super) batch: Vec<ExpectedBatch>,
    #[serde(default)]
    pub(super) whoami: Vec<ExpectedIdentity>,
}

/// One look-up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedLookUp {
    pub(super) number: String,
    /// CRM calls, without the one that asks whose credential it is. If the look-up fails for a
    /// reason that concerns all searches, this is the maximum.
    pub(super) calls: Option<u32>,
    #[serde(default = "yes")]
    pub(super) complete: bool,
    #[serde(default)]
    pub(super) contacts: Vec<ExpectedContact>,
    /// The reason of a failure, in lower case; "invalid_argument" if the request itself is refused.
    pub(super) error: Option<String>,
}

fn yes() -> bool {
    true
}

/// A contact. A field that is not written is empty.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectedContact {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) quality: String,
    pub(super) title: String,
    pub(super) company: String,
    pub(super) email: String,
    pub(super) created: String,
    pub(super) last_activity: String,
    pub(super) info: Map<String, Value>,
}

/// Look-ups of many numbers at once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedBatch {
    pub(super) numbers: Vec<String>,
    /// The ids of the contacts of each number.
    pub(super) ids: Option<Vec<Vec<String>>>,
    pub(super) calls: Option<u32>,
}

/// Whose credential it is. An empty user: the CRM does not say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedIdentity {
    pub(super) user: String,
    #[serde(default)]
    pub(super) account: String,
}

impl Expectations {
    /// Reads the file.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Who asks.
    ///
    /// # Errors
    /// If the region or a format is not valid.
    pub(super) fn caller(&self) -> Result<Caller, String> {
        let region = self.region.as_deref().map(region).transpose()?;
        let formats = self.formats.iter().map(|text| format_of(text));
        Ok(Caller {
            hostname: self.hostname.clone(),
            region,
            formats: formats.collect::<Result<_, String>>()?,
            settings: self.settings.clone(),
            info: self.info.clone(),
            auth_header: self.auth_header.clone(),
        })
    }

    pub(super) fn secrets(&self) -> BTreeMap<String, SecretString> {
        let secrets = self.secrets.clone().into_iter();
        secrets.map(|(name, value)| (name, value.into())).collect()
    }
}

fn region(text: &str) -> Result<Region, String> {
    Region::parse(text).ok_or_else(|| format!("region: \"{text}\" is not a region"))
}

fn format_of(text: &str) -> Result<NumberFormat, String> {
    NumberFormat::parse(text).ok_or_else(|| format!("formats: \"{text}\" is not a number format"))
}
