//! Which settings change while the daemon runs.

use std::sync::Arc;

use parking_lot::Mutex;

use super::budgets::Budgets;
use crate::admission::{AdmissionConfig, Admissions};
use crate::cache::TieredCache;
use crate::clients::Clients;
use crate::config::{Changes, Config, Grpc};
use crate::connector::SharedLogin;
use crate::tls::{self, Tls};

/// The modules that apply new settings. Clones refer to the same daemon.
#[derive(Clone)]
pub(crate) struct Reload {
    pub(super) clients: Clients,
    pub(super) tls: Option<Tls>,
    pub(super) cache: TieredCache,
    pub(super) admissions: Admissions,
    pub(super) budgets: Arc<Mutex<Budgets>>,
    /// By connector.
    pub(super) logins: Vec<(String, SharedLogin)>,
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reload(…)")
    }
}

impl Reload {
    /// The certificates in use, if connections are encrypted.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Applies the settings that can change at run time, except those of `log`: clients and
    /// certificates as given in `grpc`, ages, quotas, and the shared logins. All others stay as at
    /// the start. `changes` are the differences to the settings at the start. Returns whether
    /// certificates were replaced.
    ///
    /// # Errors
    /// If the certificates cannot be used. Nothing has changed then.
    pub(crate) fn apply(
        &self,
        config: &Config,
        grpc: &Grpc,
        changes: &Changes,
    ) -> Result<bool, tls::Error> {
        let replaced = match (&self.tls, &grpc.tls) {
            (Some(tls), Some(files)) => tls.exchange(files)?,
            _ => false,
        };
        if replaced {
            tracing::info!(
                "grpc.tls: the certificates were replaced; new connections use the new ones"
            );
        }
        self.clients
            .replace(&grpc.clients, grpc.needs_certificates());
        self.cache.set_ages(config.ages);
        self.admissions.set_config(admissions_config(config));
        for (name, budget) in self.budgets.lock().iter() {
            if let Some(connector) = config
                .connectors
                .iter()
                .find(|connector| connector.name == *name)
            {
                budget.set(connector.quotas, config.admitted);
            }
        }
        self.set_logins(config, changes);
        Ok(replaced)
    }

    /// If other settings of a connector need a restart, its new login is not used before that
    /// either: it may be for another CRM. A login that was removed is out of use at once.
    fn set_logins(&self, config: &Config, changes: &Changes) {
        for (name, login) in &self.logins {
            if !changes.holds_login(name) {
                let mut connectors = config.connectors.iter();
                let connector = connectors.find(|connector| connector.name == *name);
                login.set(connector.and_then(|connector| connector.shared_login.clone()));
            }
        }
    }
}

/// A credential is remembered for longer than any answer that it was accepted for.
pub(super) fn admissions_config(config: &Config) -> AdmissionConfig {
    let remembered = config.admitted.saturating_add(config.ages.longest());
    AdmissionConfig {
        admitted: config.admitted,
        remembered,
    }
}
