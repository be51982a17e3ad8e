//! A CRM's properties, as data.
//!
//! A connector provides a [`Profile`], and the rest of the module reads it. A profile may be a
//! literal of this program or come from a file at run time, so nothing in it is `'static`. A
//! setting or an info field that the profile does not name reaches no request ([`Inputs`]). So
//! every field that can change an answer is part of its key.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::base::BaseForm;
use super::credential::CredentialForm;
use super::headers::RateSignals;
use super::hosts::HostPattern;
use super::reply_class::ReplyRule;
use super::request::{ReadByPost, Request};
use super::token::TokenRequest;
use crate::budget::{Quota, Quotas, Scope};
use crate::domain::Spelling;

/// A CRM's properties.
#[derive(Debug)]
pub(crate) struct Profile {
    /// The spellings that are searched, in their order.
    pub(crate) spellings: Vec<Spelling>,
    /// When the search of further spellings ends.
    pub(crate) stop: StopRule,
    /// What can change an answer besides the question.
    pub(crate) inputs: Inputs,
    /// Where the CRM is.
    pub(crate) base: BaseForm,
    /// Hosts that the CRM may have, unless the settings say otherwise.
    pub(crate) hosts: Vec<HostPattern>,
    /// The CRM's documented limit, unless the settings say otherwise.
    pub(crate) quotas: Quotas,
    /// How many numbers one search may ask for.
    pub(crate) numbers_at_once: NonZeroUsize,
    /// How many contacts one `Connector::enrich` serves. A group's details arrive together, so this
    /// is 1 unless some call loads the details of several of them.
    pub(crate) contacts_at_once: NonZeroUsize,
    /// Whether the same calls load the details of all contacts of an answer.
    pub(crate) shares_details: bool,
    /// How the caller's credential is put into headers.
    pub(crate) credential: CredentialForm,
    /// How the connector fetches a token, if it does.
    pub(crate) token: Option<TokenRequest>,
    /// The POSTs that only read. No other POST is ever sent.
    pub(crate) reads_by_post: Vec<ReadByPost>,
    /// How replies are classified if the common table is wrong for them. These rules come first.
    pub(crate) replies: Vec<ReplyRule>,
    /// The headers in which the CRM reports its quota, if they are not the usual ones.
    pub(crate) rate: RateSignals,
    /// Whether `Connector::whoami` can name a user.
    pub(crate) names_users: bool,
    /// Whether `Connector::search` can find an extension.
    pub(crate) finds_extensions: bool,
}

/// When the search of further spellings ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopRule {
    /// At the first spelling that finds a contact.
    AtFirstContact,
    /// Never: other spellings may find further contacts.
    Never,
    /// After the first search, which asks for all spellings at once.
    AfterOneSearch,
}

/// The names of a connector's inputs besides the question. No other input reaches it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    /// User settings.
    pub(crate) settings: Vec<String>,
    /// Fields of `platform_additional_info`.
    pub(crate) info: Vec<String>,
    /// Fields without which nothing can be searched.
    pub(crate) required_info: Vec<String>,
    /// Fields that requests read, besides the credential: they decide who answers.
    pub(crate) asked_info: Vec<String>,
    /// Settings that requests read, likewise.
    pub(crate) asked_settings: Vec<String>,
    /// Whether requests read the host that the user names.
    pub(crate) host: bool,
    /// Whether nothing can be searched without that host.
    pub(crate) required_host: bool,
    /// Settings without which nothing can be searched.
    pub(crate) required_settings: Vec<String>,
}

impl Profile {
    /// The profile of a typical CRM: it is searched for one spelling after the other, takes the
    /// caller's `Authorization` header, and needs no rules of its own.
    pub(super) fn new(spelling: Spelling, quotas: Quotas) -> Self {
        Self {
            spellings: vec![spelling, Spelling::Formats],
            stop: StopRule::AtFirstContact,
            inputs: Inputs::default(),
            base: BaseForm::Host,
            hosts: Vec::new(),
            quotas,
            numbers_at_once: NonZeroUsize::MIN,
            contacts_at_once: NonZeroUsize::MIN,
            shares_details: false,
            credential: CredentialForm::authorization(),
            token: None,
            reads_by_post: Vec::new(),
            replies: Vec::new(),
            rate: RateSignals::default(),
            names_users: false,
            finds_extensions: false,
        }
    }

    /// Whether its credential is made of the caller's `auth_header`.
    #[must_use]
    pub(crate) fn reads_auth_header(&self) -> bool {
        self.credential.reads_header()
    }

    /// Returns whether this profile declares that the request only reads.
    pub(super) fn permits(&self, request: &Request) -> bool {
        match request.read_by_post_path() {
            None => true,
            Some(path) => self.reads_by_post.iter().any(|read| read.is(path)),
        }
    }
}

/// A limit of calls per user, as a CRM documents it. Prefetch may use half of it.
#[expect(
    clippy::expect_used,
    reason = "literals of this program, read by every test"
)]
pub(super) fn documented_quota(calls: u32, seconds: u64, burst: u32) -> Quota {
    let per = Duration::from_secs(seconds);
    Quota::new(calls, per, burst, Scope::User, 0.5).expect("a documented quota is valid")
}
