//! CRMs, one connector each.
//!
//! A CRM is a file that [`mod@file`] carries out, or Rust like `example.rs`. `CONTRIBUTING.md` says
//! how to add one. Rust states the CRM's facts in a [`Profile`] and implements [`Connector`]:
//!
//! - [`Connector::search`]: one search in, records out, each with the phone fields that the CRM
//!   shows. It does not judge matches: [`search()`] verifies every record against the number.
//! - It calls the CRM through [`CrmSession`] only. The session brings the credential, the time and
//!   size limits, the host check and the error of each status. Every `Request` is a GET, or a POST
//!   that the profile declares to be a read.
//! - It states the form of a successful reply (`success.rs`, `pages.rs`): an empty list in any
//!   other form is a failure, not "nobody".
//! - [`Connector::whoami`] names the user of a credential. Without it stored answers live only as
//!   long as a token does.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::phone::Sought;
use crate::domain::{
    Contact, E164, Extension, LookupError, NumberFormat, Variant, Variants, WhoAmI,
};

mod addresses;
mod base;
mod body;
mod bounds;
mod built_in;
mod calls;
mod causes;
mod cpu_share;
mod credential;
mod crm_client;
mod details;
mod dns;
mod example;
mod exchange;
#[cfg(any(test, fuzzing))]
mod exercise;
mod failures;
mod file;
mod find;
mod group;
mod headers;
mod heads;
mod hosts;
mod http_client;
mod judge;
mod log_throttle;
mod mend;
mod outbound;
mod outlook;
mod pages;
mod part;
mod path;
mod platform;
mod profile;
mod reach;
mod readers;
mod record;
mod redirect;
mod refusals;
mod repeat;
mod reply;
mod reply_class;
mod request;
mod session;
mod settings;
mod shared_login;
mod sheet;
mod spelling_order;
mod spent;
mod success;
mod tally;
#[cfg(test)]
mod tests;
mod token;
mod wanted;
mod witness;

pub(crate) use base::{BaseError, BaseForm};
pub(crate) use built_in::built_in;
pub(crate) use built_in::embedded;
pub use built_in::kinds;
pub(crate) use crm_client::{CallLimits, CrmClient};
pub(crate) use details::Details;
pub use dns::Dns;
#[cfg(any(test, fuzzing))]
pub(crate) use exercise::{paths_are_sound, read_by_embedded_file, read_reply};
pub(crate) use file::{Secrets, SpecFault, SpecKind, read_spec, schema, secret_names};
pub(crate) use find::{Found, SearchPlan, search};
use group::GroupResult;
pub(crate) use hosts::HostPattern;
pub(crate) use judge::{DropReason, RecordVerdict};
pub(crate) use outbound::HttpClients;
pub(crate) use platform::Platform;
pub(crate) use profile::Profile;
pub(crate) use reach::{ReachStep, Reached, Role};
pub(crate) use record::Record;
use record::{Enrichment, List};
pub(crate) use refusals::is_for_all;
pub(crate) use session::CrmSession;
pub(crate) use settings::{ConnectorConfig, IdentitySource};
pub(crate) use shared_login::SharedLogin;
pub(crate) use sheet::{CallCount, RequestSheet, Sheet, UsualCalls};
pub(crate) use witness::{CallSeen, Ending, Event, Witness};

/// What one CRM can do. Stateless: everything a call needs comes with the session.
#[async_trait]
pub(crate) trait Connector: Send + Sync + fmt::Debug {
    /// The CRM's properties.
    fn profile(&self) -> &Arc<Profile>;

    /// What the connector is and what it costs, for people.
    fn sheet(&self) -> Sheet {
        Sheet::of(self.profile())
    }

    /// Every place of a reply that the connector reads. None if that is not known.
    fn reached(&self) -> Vec<Reached> {
        Vec::new()
    }

    /// Asks the CRM, in one call, which user the session's credential belongs to. `None` if the
    /// reply names no user. Only called if [`Profile::names_users`].
    async fn whoami(&self, _: &CrmSession) -> Result<Option<WhoAmI>, LookupError> {
        Ok(None)
    }

    /// Searches for a party. Records may be wrong, because CRM search is fuzzy.
    async fn search(
        &self,
        crm: &CrmSession,
        search: &Search<'_>,
    ) -> Result<List<Record>, LookupError>;

    /// Searches for many numbers at once, each in all its spellings. Returns one result for each
    /// number, in their order. Only used if [`Profile::numbers_at_once`] is more than 1.
    async fn search_many(
        &self,
        _: &CrmSession,
        searches: &[NumberSearch<'_>],
    ) -> Result<Vec<GroupResult>, LookupError> {
        Ok(searches.iter().map(|_| GroupResult::Alone).collect())
    }

    /// Loads the details that the call form offers for these contacts of one answer. There are at
    /// most [`Profile::contacts_at_once`] contacts. Returns one [`Enrichment`] for each, in their
    /// order. A failure makes an enrichment incomplete and is not an error: a contact without its
    /// deals is better than none.
    async fn enrich(&self, _: &CrmSession, contacts: &[Contact]) -> Vec<Enrichment> {
        contacts.iter().map(|_| Enrichment::default()).collect()
    }
}

/// What one call of [`Connector::search`] asks for.
#[derive(Clone, Copy)]
pub(crate) enum Search<'a> {
    /// A number, in one of its spellings.
    Number(NumberSearch<'a>),
    /// An internal extension. Only used if [`Profile::finds_extensions`].
    Extension(Extension),
}

/// A search for a number in one of its spellings.
#[derive(Clone, Copy)]
pub(crate) struct NumberSearch<'a> {
    variants: &'a Variants,
    sought: &'a Sought<'a>,
    at: usize,
    /// The positions that were asked for before.
    earlier: &'a [usize],
    formats: &'a [NumberFormat],
}

impl<'a> NumberSearch<'a> {
    /// The search for the spelling at the last of these positions. The others were asked for
    /// before.
    pub(crate) fn new(variants: &'a Variants, sought: &'a Sought<'a>, asked: &'a [usize]) -> Self {
        let (at, earlier) = asked
            .split_last()
            .map_or((0, asked), |(at, rest)| (*at, rest));
        Self {
            variants,
            sought,
            at,
            earlier,
            formats: &[],
        }
    }

    /// The same search, with the user's formats.
    pub(crate) fn with_formats(self, formats: &'a [NumberFormat]) -> Self {
        Self { formats, ..self }
    }

    /// The user's formats.
    fn formats(&self) -> &'a [NumberFormat] {
        self.formats
    }

    /// The spelling.
    pub(crate) fn text(&self) -> &'a str {
        self.variants
            .all()
            .get(self.at)
            .map_or("", |variant| &variant.text)
    }

    /// All spellings of the number.
    fn variants(&self) -> &'a Variants {
        self.variants
    }

    /// Whether nothing was asked for before.
    fn is_first(&self) -> bool {
        self.earlier.is_empty()
    }

    /// Whether this form of the number was not asked for before.
    fn is_new_form(&self) -> bool {
        let own = self.form(self.at);
        self.earlier.iter().all(|at| self.form(*at) != own)
    }

    /// The form of the number that a spelling spells.
    fn form(&self, at: usize) -> Option<E164> {
        let variant = self.variants.all().get(at);
        variant.map(|variant| variant.number)
    }

    /// The spelling, and the form of the number that it spells.
    fn variant(&self) -> Option<&'a Variant> {
        self.variants.all().get(self.at)
    }

    /// Whether one of these phone fields is the number.
    fn is_in(&self, phones: &[String]) -> bool {
        phones
            .iter()
            .any(|phone| self.sought.find_in(phone).is_some())
    }
}

impl fmt::Debug for Search<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number(_) => "Number(…)",
            Self::Extension(_) => "Extension(…)",
        })
    }
}
