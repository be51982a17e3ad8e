//! The settings of one connector.

use std::sync::Arc;

use url::Url;

use super::Connector;
use super::hosts::HostPattern;
use crate::budget::Quotas;
use crate::domain::{AuthHeader, Region};

/// Settings of one connector.
#[derive(Debug, Clone)]
pub struct ConnectorConfig {
    /// The connector's name in `User.platform`.
    pub name: String,
    /// How the CRM is searched.
    pub(crate) connector: Arc<dyn Connector>,
    /// The CRM's address. If it is not set, the connector's own address is called, or the user's
    /// host if the connector has none.
    pub(crate) base_url: Option<Url>,
    /// Allowed values of `User.hostname`.
    pub allowed_hosts: Vec<HostPattern>,
    /// Whether answers end with the "create new contact" entry.
    pub create_option: bool,
    /// Who decides which user a credential belongs to.
    pub(crate) identity: IdentitySource,
    /// The shared login, for questions without a credential.
    pub(crate) shared_login: Option<Arc<AuthHeader>>,
    /// The regions for stored spellings without a calling code. If empty, the user's region is
    /// used.
    pub regions: Vec<Region>,
    /// What may be spent on the CRM.
    pub(crate) quotas: Quotas,
}

impl ConnectorConfig {
    /// Whether the settings name every host that is called.
    #[must_use]
    pub(crate) fn names_every_host(&self) -> bool {
        self.base_url.is_some() || self.allowed_hosts.iter().all(HostPattern::is_one_name)
    }
}

/// Who decides which user a credential belongs to, and so whom the stored answers belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdentitySource {
    /// The CRM.
    Crm,
    /// The calling service. It is believed under any credential that the CRM accepts.
    Caller,
}

impl IdentitySource {
    /// Each value with its name in the settings.
    pub(crate) const ALL: [(&'static str, Self); 2] =
        [("crm", Self::Crm), ("caller", Self::Caller)];
}
