//! A configured connector: which host a user's request calls, under which credential, and whose
//! quota it spends.

use std::borrow::Cow;
use std::sync::Arc;

use prost_types::{Struct, Value, value::Kind};
use url::Url;

use super::Connector;
use super::base::BaseForm;
use super::credential::CredentialSource;
use super::crm_client::CrmClient;
use super::hosts::HostError;
use super::log_throttle::LogThrottle;
use super::profile::Profile;
use super::session::CrmSession;
use super::settings::{ConnectorConfig, IdentitySource};
use super::shared_login::SharedLogin;
use crate::budget::{CallKind, Scope, Scopes};
use crate::domain::user::AdditionalInfo;
use crate::domain::{
    AskedInput, AuthHeader, AuthTag, Crm, CrmPlace, Host, Identity, KeyMaker, LookupError, Region,
    ScopeTag, User,
};
use crate::trace::Span;
use crate::urgency::Urgency;

/// A configured connector: what a request's `platform` names.
#[derive(Debug)]
pub(crate) struct Platform {
    config: ConnectorConfig,
    pub(super) client: CrmClient,
    keys: KeyMaker,
    shared_login: SharedLogin,
}

impl Platform {
    /// The connector of `config`, calling through `client`. `keys` hash credentials and the scopes
    /// of its quota.
    #[must_use]
    pub(crate) fn new(config: ConnectorConfig, client: CrmClient, keys: KeyMaker) -> Self {
        Self {
            shared_login: SharedLogin::new(config.shared_login.clone()),
            config,
            client,
            keys,
        }
    }

    /// Its name in `User.platform`.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// The shared login, to change it.
    #[must_use]
    pub(crate) fn shared_login(&self) -> &SharedLogin {
        &self.shared_login
    }

    /// The credential of a question without one: the shared login, or an empty credential if the
    /// CRM needs no header of the caller. `None` if the caller has to send a credential.
    #[must_use]
    pub(crate) fn lent_credential(&self) -> Option<AuthHeader> {
        if !self.profile().reads_auth_header() {
            return Some(AuthHeader::none());
        }
        let is_bound = self.config.names_every_host();
        is_bound.then(|| self.shared_login.copied()).flatten()
    }

    /// Returns whether requests need no credential of the caller. Then everybody can make such a
    /// request: besides a key from the settings, the CRM gets only what can be guessed, such as a
    /// user's e-mail address.
    #[must_use]
    pub(crate) fn has_own_credential(&self) -> bool {
        !self.profile().reads_auth_header()
    }

    /// Whether answers end with the "create new contact" entry.
    #[must_use]
    pub(crate) fn create_option(&self) -> bool {
        self.config.create_option
    }

    /// The regions in which the phone fields of this user's CRM were typed: from the settings, or
    /// else the user's own.
    #[must_use]
    pub(crate) fn regions_for<'a>(&'a self, user: &'a User) -> &'a [Region] {
        if self.config.regions.is_empty() {
            user.region.as_slice()
        } else {
            &self.config.regions
        }
    }

    #[must_use]
    pub(crate) fn connector(&self) -> &Arc<dyn Connector> {
        &self.config.connector
    }

    /// The CRM's properties.
    #[must_use]
    pub(crate) fn profile(&self) -> &Profile {
        &self.client.profile
    }

    /// The fields of a request's `platform_additional_info` that the connector reads. The others
    /// are dropped.
    #[must_use]
    pub(crate) fn info_of(&self, sent: Option<&Struct>) -> AdditionalInfo {
        sent.map_or_else(AdditionalInfo::default, |sent| {
            AdditionalInfo::only(sent, &self.profile().inputs.info)
        })
    }

    /// The part of the configuration that can change an answer.
    #[must_use]
    pub(crate) fn crm(&self) -> Crm<'_> {
        Crm {
            connector: &self.config.name,
            base_url: self.config.base_url.as_ref().map_or("", Url::as_str),
            regions: &self.config.regions,
            settings: &self.profile().inputs.settings,
            info: &self.profile().inputs.info,
        }
    }

    /// The key maker for questions to this connector.
    #[must_use]
    pub(crate) fn keys(&self) -> &KeyMaker {
        &self.keys
    }

    /// The tag of a credential at the user's CRM. It covers all headers sent for the credential,
    /// and the address.
    #[must_use]
    pub(crate) fn auth_tag(&self, user: &User, auth: &AuthHeader) -> AuthTag {
        let form = &self.profile().credential;
        let headers = form.values(CredentialSource { auth, user });
        self.keys.auth(&self.place(user), headers)
    }

    /// The CRM that a user's calls go to: in another one, the same id may be somebody else's.
    #[must_use]
    pub(crate) fn place<'a>(&'a self, user: &'a User) -> CrmPlace<'a> {
        let (base_url, host) = self.base_and_host(user);
        let inputs = &self.profile().inputs;
        let fields = inputs.asked_info.iter();
        let fields = fields.filter_map(|name| asked("info", name, user.info.get(name)));
        let settings = inputs.asked_settings.iter();
        let settings = settings.filter_map(|name| asked("setting", name, user.settings.get(name)));
        CrmPlace {
            connector: &self.config.name,
            base_url,
            host,
            asked: fields.chain(settings).collect(),
        }
    }

    /// The address of the settings or of the connector. The second value is the user's host if
    /// that alone is the address, or if requests contain it. Otherwise it is empty, so that all
    /// users at one address share a quota.
    fn base_and_host<'a>(&'a self, user: &'a User) -> (Cow<'a, str>, &'a str) {
        let named = user.host.as_ref().map_or("", Host::as_str);
        let sent = if self.profile().inputs.host {
            named
        } else {
            ""
        };
        match (&self.config.base_url, &self.profile().base) {
            (Some(base), _) => (base.as_str().into(), sent),
            (None, BaseForm::Host) => ("".into(), named),
            (None, form) => {
                let address = form.address(user, &self.config.allowed_hosts);
                let address = address.map_or_else(|_| String::new(), String::from);
                (address.into(), sent)
            }
        }
    }

    /// Checks that what the caller sent makes an address and a credential, so that a mistake is
    /// reported as the caller's, and not as a refusal by the CRM.
    ///
    /// # Errors
    /// The field and the reason.
    pub(crate) fn check(
        &self,
        user: &User,
        auth: &AuthHeader,
    ) -> Result<(), (&'static str, String)> {
        let profile = self.profile();
        if self.config.base_url.is_none() && !matches!(profile.base, BaseForm::Host) {
            let address = profile.base.address(user, &self.config.allowed_hosts);
            address.map_err(|error| (error.field(), error.to_string()))?;
        }
        let info = |name: &str| user.info.get(name);
        check_has(&profile.inputs.required_info, info)
            .map_err(|reason| ("user.platform_additional_info", reason))?;
        let setting = |name: &str| user.settings.get(name);
        check_has(&profile.inputs.required_settings, setting)
            .map_err(|reason| ("user.settings", reason))?;
        if !profile.credential.takes_any_header() {
            let rendered = profile.credential.render(CredentialSource { auth, user });
            rendered.map_err(|error| (profile.credential.field(), error.to_string()))?;
        }
        Ok(())
    }

    /// Who decides which user a credential belongs to.
    #[must_use]
    pub(crate) fn identity(&self) -> IdentitySource {
        self.config.identity
    }

    /// How many contacts of one answer get their details at once. It is a quarter of a burst, so
    /// that the rest is left for the background lanes and the next ringing phone.
    #[must_use]
    pub(crate) fn urgent_contacts(&self) -> usize {
        (self.client.burst(CallKind::Other).get() as usize / 4).max(1)
    }

    /// The logged failures of this connector.
    #[must_use]
    pub(crate) fn log_throttle(&self) -> &LogThrottle {
        &self.client.log_throttle
    }

    /// Parses `User.hostname`. A name is checked even if the base URL decides, so that a wrong one
    /// is noticed before the base URL is removed.
    ///
    /// # Errors
    /// [`HostError`] with the reason why the name is refused, without the name.
    pub(crate) fn host(&self, hostname: &str) -> Result<Option<Host>, HostError> {
        let profile = self.profile();
        let is_base = self.config.base_url.is_none() && profile.base.reads_host();
        let is_needed = is_base || profile.inputs.required_host;
        if hostname.is_empty() {
            return if is_needed {
                Err(HostError::Missing)
            } else {
                Ok(None)
            };
        }
        let host = Host::parse(hostname).ok_or(HostError::NotAName)?;
        let patterns = &self.config.allowed_hosts;
        let allowed = patterns.iter().any(|pattern| pattern.matches(&host));
        let is_read = profile.base.reads_host() || profile.inputs.host;
        let irrelevant = !is_read || (patterns.is_empty() && !is_base);
        if allowed || irrelevant {
            Ok(Some(host))
        } else {
            Err(HostError::NotAllowed)
        }
    }

    /// A session for one find, on behalf of `user` with the credential of `auth`, whose `identity`
    /// may be known. Its calls are traced under `span`.
    ///
    /// # Errors
    /// [`LookupError::Internal`] if neither the settings nor the user name the CRM's host.
    /// [`LookupError::CrmUnauthenticated`] if the caller's input is not a valid credential.
    pub(crate) fn session(
        &self,
        user: &User,
        (auth, tag): (&AuthHeader, AuthTag),
        identity: Option<&Identity>,
        urgency: Arc<Urgency>,
        span: Span,
    ) -> Result<CrmSession, LookupError> {
        let scopes = self.scopes(user, tag, identity);
        let base = self.base(user)?;
        CrmSession::open(&self.client, base, (user, auth), scopes, urgency, span)
    }

    fn base(&self, user: &User) -> Result<Url, LookupError> {
        if let Some(base) = &self.config.base_url {
            return Ok(base.clone());
        }
        let base = &self.profile().base;
        let address = base.address(user, &self.config.allowed_hosts);
        address.map_err(|_| LookupError::Internal)
    }

    /// Whose quota the calls under a credential spend.
    #[must_use]
    pub(crate) fn scopes(&self, user: &User, tag: AuthTag, identity: Option<&Identity>) -> Scopes {
        Scopes {
            owner: self.scope(user, tag, identity),
            credential: self.scope_of(user, tag),
        }
    }

    /// The scope of a credential, independent of its owner.
    fn scope_of(&self, user: &User, auth: AuthTag) -> ScopeTag {
        self.scope_named(user, "credential", &auth.to_bytes())
    }

    fn scope_named(&self, user: &User, kind: &str, whose: &[u8]) -> ScopeTag {
        let place = self.place(user);
        self.keys.scope(&[
            kind.as_bytes(),
            place.connector.as_bytes(),
            place.base_url.as_bytes(),
            place.host.as_bytes(),
            whose,
        ])
    }

    /// The scope whose quota a call spends: the CRM's own user or account. If the quota is by
    /// account and the CRM has not named the account, the claimed account is the scope. Otherwise a
    /// credential whose user is not known yet has a quota of its own, so that a claimed user id
    /// cannot spend another user's quota.
    #[must_use]
    pub(crate) fn scope(
        &self,
        user: &User,
        auth: AuthTag,
        identity: Option<&Identity>,
    ) -> ScopeTag {
        let by_account = self.config.quotas.all.scope() == Scope::Account;
        match identity {
            Some(Identity::Crm {
                account: Some(account),
                ..
            }) if by_account => self.scope_named(user, "account", &account.to_bytes()),
            _ if by_account && !user.account.is_empty() => {
                self.scope_named(user, "claimed account", user.account.as_bytes())
            }
            Some(Identity::Crm { user: named, .. }) => {
                self.scope_named(user, "user", &named.to_bytes())
            }
            _ => self.scope_of(user, auth),
        }
    }
}

fn asked<'a>(
    source: &'static str,
    name: &'a str,
    value: Option<&'a Value>,
) -> Option<AskedInput<'a>> {
    value.map(|value| AskedInput {
        source,
        name,
        value,
    })
}

/// Checks that every field that a search requires has a value.
fn check_has<'v>(
    names: &[String],
    value: impl Fn(&str) -> Option<&'v Value>,
) -> Result<(), String> {
    let mut names = names.iter();
    match names.find(|name| value(name).is_none_or(is_empty)) {
        Some(name) => Err(format!(
            "has no \"{name}\", without which this CRM cannot be searched"
        )),
        None => Ok(()),
    }
}

/// Whether a field of the additional info says nothing.
fn is_empty(value: &Value) -> bool {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => true,
        Some(Kind::StringValue(text)) => text.trim().is_empty(),
        Some(_) => false,
    }
}
