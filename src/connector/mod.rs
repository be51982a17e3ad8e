//! CRMs, one connector each.
//!
//! # Adding a CRM
//! 1. Copy `example.rs`. Implement [`Connector::search`]: one search text in, records out, each
//!    with the phone fields that the CRM shows. Do not judge matches; [`find::search`] verifies
//!    every record against the number.
//! 2. If the call form needs data of the contact (deals, matters), implement [`Connector::enrich`].
//! 3. State the form of a successful reply with its source, and read lists by it (`success.rs`): an
//!    empty list in any other form is a failure, not "nobody". Call the CRM through [`CrmSession`]
//!    only, details by its `part`. It brings the credential, the time and size limits, the host
//!    check and the error of each status; a connector never sees an HTTP client. If the CRM says a
//!    limit, a fault or a missing permission in a way that the common table of replies
//!    (`reply_class.rs`) does not know, state its rows in [`Connector::replies`].
//! 4. Name in [`Connector::settings`] every user setting that can change the answer: it becomes a
//!    part of the key.
//! 5. Implement [`Connector::whoami`] if the CRM has an endpoint that names the user of a
//!    credential. Without it stored answers live only as long as a token does.
//! 6. Add the kind to [`Kind`] with the hosts that its users may name, then its wire facts to
//!    `tests/it`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use url::Url;

use crate::budget::{CallKind, Quota, Quotas, Scope, Scopes};
use crate::domain::user::Settings;
use crate::domain::{
    AuthHeader, AuthTag, Contact, Crm, Extension, Host, Identity, KeyMaker, LookupError, Region,
    ScopeTag, Spelling, User, WhoAmI,
};
use crate::trace::Span;
use crate::urgency::Urgency;

mod addresses;
mod bounds;
mod calls;
mod client;
mod clio;
mod dns;
mod example;
mod find;
mod headers;
mod heads;
mod hosts;
mod log_throttle;
mod mend;
mod outbound;
mod part;
mod pipedrive;
mod refusals;
mod repeat;
#[cfg(test)]
mod replies;
mod reply;
mod reply_class;
mod session;
mod spent;
mod success;
mod tally;
mod turn;

pub use dns::Dns;
pub(crate) use find::{Details, Found, Question, search};
pub(crate) use hosts::{HostError, HostPattern};
pub(crate) use log_throttle::LogThrottle;
pub(crate) use outbound::HttpClients;
pub(crate) use reply_class::Row;
pub(crate) use session::{CrmClient, CrmSession, Limits};

/// What one CRM can do. Stateless: everything a call needs comes with the session.
#[async_trait]
pub(crate) trait Connector: Send + Sync + fmt::Debug {
    /// The spellings to search for in any case, before the user's formats.
    fn spellings(&self) -> &'static [Spelling];

    /// The user settings that can change an answer.
    fn settings(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether [`Connector::search_extension`] can find anything.
    fn finds_extensions(&self) -> bool {
        false
    }

    /// Whether [`Connector::whoami`] can say anything.
    fn names_users(&self) -> bool {
        false
    }

    /// Asks who the session's credential is, in one call. `None` if the CRM's reply names no user.
    async fn whoami(&self, _: &CrmSession) -> Result<Option<WhoAmI>, LookupError> {
        Ok(None)
    }

    /// How this CRM's replies are to be read where that is not as the common table has it: these
    /// rows come first. Each with its source.
    fn replies(&self) -> &'static [Row] {
        &[]
    }

    /// Searches for one spelling of a number. Records may be wrong: CRM search is fuzzy.
    async fn search(&self, session: &CrmSession, text: &str) -> Result<Hits, LookupError>;

    /// Searches for an internal extension.
    async fn search_extension(&self, _: &CrmSession, _: Extension) -> Result<Hits, LookupError> {
        Ok(Hits {
            records: Vec::new(),
            complete: true,
        })
    }

    /// Loads what the call form offers for a contact. Failures are told by `complete`, not as
    /// errors: a contact without its deals is better than none.
    async fn enrich(&self, _: &CrmSession, _: &Settings, _: &Contact) -> Enrichment {
        Enrichment {
            info: Map::new(),
            complete: true,
        }
    }
}

/// What one search returned.
#[derive(Debug)]
pub(crate) struct Hits {
    /// Records in the CRM's order.
    pub(crate) records: Vec<Record>,
    /// False where pages beyond the limit were left unread.
    pub(crate) complete: bool,
}

/// One record of a search.
#[derive(Debug)]
pub(crate) struct Record {
    /// The contact; its quality is judged later.
    pub(crate) contact: Contact,
    /// The phone fields that the CRM shows, as they are stored there. Empty where it shows none.
    pub(crate) phones: Vec<String>,
}

/// What [`Connector::enrich`] loaded.
#[derive(Debug)]
pub(crate) struct Enrichment {
    /// Choices by field name.
    pub(crate) info: Map<String, Value>,
    /// False where a part is missing.
    pub(crate) complete: bool,
}

impl Enrichment {
    /// Adds the choices of one field; a field without choices is left out, and so is one that the
    /// CRM refuses for good. One that failed makes it incomplete and is told to `log_throttle`.
    pub(crate) fn add(
        &mut self,
        log_throttle: &LogThrottle,
        field: &'static str,
        choices: Result<(Vec<Value>, bool), LookupError>,
    ) {
        match choices {
            Ok((choices, complete)) => {
                self.complete &= complete;
                if !choices.is_empty() {
                    self.info.insert(field.to_owned(), Value::Array(choices));
                }
            }
            Err(error) if refusals::is_lasting(&error) => {}
            Err(error) => {
                log_throttle.about(field, &error, |suppressed| {
                    tracing::warn!(field, %error, suppressed, "a part of the contact could not be loaded");
                });
                self.complete = false;
            }
        }
    }
}

/// The CRMs that this build speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The Example CRM of this program.
    Example,
    /// Pipedrive, API v2 (leads: v1).
    Pipedrive,
    /// Clio Manage, API v4.
    Clio,
}

impl Kind {
    /// Every kind with its name in the settings.
    pub const ALL: [(&'static str, Self); 3] = [
        ("example", Self::Example),
        ("pipedrive", Self::Pipedrive),
        ("clio", Self::Clio),
    ];

    /// Hosts that `User.hostname` may be, unless the settings say otherwise.
    #[must_use]
    pub(crate) fn default_hosts(self) -> &'static [&'static str] {
        match self {
            Self::Example => &[],
            Self::Pipedrive => &["*.pipedrive.com"],
            Self::Clio => &[
                "app.clio.com",
                "eu.app.clio.com",
                "au.app.clio.com",
                "ca.app.clio.com",
            ],
        }
    }

    /// The CRM's documented limit, unless the settings say otherwise.
    ///
    /// Pipedrive: ten search requests in two seconds for each token, and 20 requests in two seconds
    /// on the smallest plan; it is not said whether searches are among those, so that other calls
    /// have ten. Clio: 50 requests a minute at peak hours for each token.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "literals of this program, read by every test"
    )]
    pub(crate) fn default_quotas(self) -> Quotas {
        let quota = |rate, seconds, burst| {
            let per = Duration::from_secs(seconds);
            Quota::new(rate, per, burst, Scope::User, 0.5).expect("a default is valid")
        };
        match self {
            Self::Example => quota(50, 1, 50).into(),
            Self::Pipedrive => Quotas {
                search: Some(quota(10, 2, 10)),
                ..quota(10, 2, 10).into()
            },
            Self::Clio => quota(50, 60, 10).into(),
        }
    }

    fn connector(self) -> Arc<dyn Connector> {
        match self {
            Self::Example => Arc::new(example::ExampleCrm),
            Self::Pipedrive => Arc::new(pipedrive::Pipedrive),
            Self::Clio => Arc::new(clio::Clio),
        }
    }
}

/// Settings of one connector.
#[derive(Debug, Clone)]
pub struct Config {
    /// What `User.platform` says.
    pub name: String,
    /// The CRM.
    pub(crate) kind: Kind,
    /// Where the CRM is; without it `https://{user.hostname}`.
    pub(crate) base_url: Option<Url>,
    /// What `User.hostname` may be.
    pub allowed_hosts: Vec<HostPattern>,
    /// Whether answers end with the "create new contact" entry.
    pub create_option: bool,
    /// Who says whose a credential is.
    pub(crate) identity: IdentitySource,
    /// How stored spellings without a calling code are read; without any, in the region of the
    /// user.
    pub regions: Vec<Region>,
    /// What may be spent on the CRM.
    pub(crate) quotas: Quotas,
}

/// Who says whose a credential is, and with it whose the stored answers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdentitySource {
    /// The CRM.
    Crm,
    /// The caller, whose word counts under any credential that the CRM accepts.
    Caller,
}

impl IdentitySource {
    /// Each with its name in the settings.
    pub(crate) const ALL: [(&'static str, Self); 2] =
        [("crm", Self::Crm), ("caller", Self::Caller)];
}

/// A configured connector: what a request's `platform` names.
#[derive(Debug)]
pub(crate) struct Platform {
    config: Config,
    connector: Arc<dyn Connector>,
    door: CrmClient,
    keys: KeyMaker,
}

impl Platform {
    /// The connector of `config`, calling through `door`; `keys` name the scopes of its quota.
    #[must_use]
    pub(crate) fn new(config: Config, door: CrmClient, keys: KeyMaker) -> Self {
        let connector = config.kind.connector();
        Self {
            door: door.reading(connector.replies()),
            connector,
            config,
            keys,
        }
    }

    /// What `User.platform` says.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether answers end with the "create new contact" entry.
    #[must_use]
    pub(crate) fn create_option(&self) -> bool {
        self.config.create_option
    }

    /// Where the phone fields of this user's CRM were typed: as the settings say, else where the
    /// user is.
    #[must_use]
    pub(crate) fn regions_for<'a>(&'a self, user: &'a User) -> &'a [Region] {
        if self.config.regions.is_empty() {
            user.region.as_slice()
        } else {
            &self.config.regions
        }
    }

    /// What the CRM can do.
    #[must_use]
    pub(crate) fn connector(&self) -> &Arc<dyn Connector> {
        &self.connector
    }

    /// What of the configuration can change an answer.
    #[must_use]
    pub(crate) fn crm(&self) -> Crm<'_> {
        Crm {
            connector: &self.config.name,
            base_url: self.config.base_url.as_ref().map_or("", Url::as_str),
            regions: &self.config.regions,
            settings: self.connector.settings(),
        }
    }

    /// Who says whose a credential is.
    #[must_use]
    pub(crate) fn identity(&self) -> IdentitySource {
        self.config.identity
    }

    /// Contacts of one answer whose details are loaded in a hurry. Beside them and the background
    /// lanes' share the next ringing phone finds room in the burst as well.
    #[must_use]
    pub(crate) fn urgent_contacts(&self) -> usize {
        (self.door.burst(CallKind::Other).get() as usize / 4).max(1)
    }

    /// What was told of failures of this connector.
    #[must_use]
    pub(crate) fn log_throttle(&self) -> &LogThrottle {
        self.door.log_throttle()
    }

    /// Reads `User.hostname`. A name is checked even where the base URL decides, so that a wrong
    /// one never goes unnoticed until the base URL is taken away.
    ///
    /// # Errors
    /// [`HostError`] says why the name is refused, without repeating it.
    pub(crate) fn host(&self, hostname: &str) -> Result<Option<Host>, HostError> {
        if hostname.is_empty() {
            return if self.config.base_url.is_some() {
                Ok(None)
            } else {
                Err(HostError::Missing)
            };
        }
        let host = Host::parse(hostname).ok_or(HostError::NotAName)?;
        let patterns = &self.config.allowed_hosts;
        let allowed = patterns.iter().any(|pattern| pattern.matches(&host));
        let irrelevant = patterns.is_empty() && self.config.base_url.is_some();
        if allowed || irrelevant {
            Ok(Some(host))
        } else {
            Err(HostError::NotAllowed)
        }
    }

    /// A session for one find, on behalf of `user` with the credential of `auth`, whose `identity`
    /// may be known; its calls are steps of `span`.
    ///
    /// # Errors
    /// [`LookupError::Internal`] where neither the settings nor the user say where the CRM is.
    pub(crate) fn session(
        &self,
        user: &User,
        (auth, tag): (&AuthHeader, AuthTag),
        identity: Option<&Identity>,
        urgency: Arc<Urgency>,
        span: Span,
    ) -> Result<CrmSession, LookupError> {
        let base = match (&self.config.base_url, &user.host) {
            (Some(base), _) => base.clone(),
            (None, Some(host)) => Url::parse(&format!("https://{}", host.as_str()))
                .map_err(|_| LookupError::Internal)?,
            (None, None) => return Err(LookupError::Internal),
        };
        let scopes = Scopes {
            owner: self.scope(user, tag, identity),
            credential: self.scope_of(user, tag),
        };
        self.door.open(base, auth, scopes, urgency, span)
    }

    /// The scope of a credential alone, whoever it is.
    fn scope_of(&self, user: &User, auth: AuthTag) -> ScopeTag {
        self.scope_named(user, "credential", &auth.to_bytes())
    }

    fn scope_named(&self, user: &User, kind: &str, whose: &[u8]) -> ScopeTag {
        let Crm {
            connector,
            base_url,
            ..
        } = self.crm();
        let host = user
            .host
            .as_ref()
            .filter(|_| base_url.is_empty())
            .map_or("", Host::as_str);
        self.keys.scope(&[
            kind.as_bytes(),
            connector.as_bytes(),
            base_url.as_bytes(),
            host.as_bytes(),
            whose,
        ])
    }

    /// Whose quota a call spends: that of the CRM's own user or account. As long as nobody knows
    /// whose the credential is it has a quota of its own, so that a claimed user id spends nobody
    /// else's.
    #[must_use]
    pub(crate) fn scope(
        &self,
        user: &User,
        auth: AuthTag,
        identity: Option<&Identity>,
    ) -> ScopeTag {
        let scope = |kind: &str, whose: &[u8]| self.scope_named(user, kind, whose);
        match (self.config.quotas.all.scope(), identity) {
            (
                Scope::Account,
                Some(Identity::Crm {
                    account: Some(account),
                    ..
                }),
            ) => scope("account", &account.to_bytes()),
            (Scope::Account, _) if !user.account.is_empty() => {
                scope("claimed account", user.account.as_bytes())
            }
            (_, Some(Identity::Crm { user, .. })) => scope("user", &user.to_bytes()),
            _ => self.scope_of(user, auth),
        }
    }
}
