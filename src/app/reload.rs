//! What of the settings changes while the daemon runs.

use std::sync::Arc;

use parking_lot::Mutex;

use super::budgets::Budgets;
use crate::admission::{self, Admissions};
use crate::cache::TieredCache;
use crate::clients::Clients;
use crate::config::{Config, Grpc};
use crate::tls::{self, Tls};

/// The rooms that take up new settings. Clones reach the same daemon.
#[derive(Clone)]
pub(crate) struct Reload {
    pub(super) clients: Clients,
    pub(super) tls: Option<Tls>,
    pub(super) cache: TieredCache,
    pub(super) admissions: Admissions,
    pub(super) budgets: Arc<Mutex<Budgets>>,
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

    /// Takes up what of these settings can change at run time: clients and the files of
    /// certificates as `grpc` has them, ages and quotas. All else stays as it was at the start.
    ///
    /// # Errors
    /// If the certificates cannot be used. Then nothing has changed.
    pub(crate) fn apply(&self, config: &Config, grpc: &Grpc) -> Result<(), tls::Error> {
        if let (Some(tls), Some(files)) = (&self.tls, &grpc.tls)
            && tls.exchange(files)?
        {
            tracing::info!(
                "grpc.tls: the certificates were exchanged; new connections use the new ones"
            );
        }
        self.clients
            .replace(&grpc.callers, grpc.needs_certificates());
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
        Ok(())
    }
}

/// A credential is remembered for longer than any answer that it was accepted for.
pub(super) fn admissions_config(config: &Config) -> admission::Config {
    let remembered = config.admitted.saturating_add(config.ages.longest());
    admission::Config {
        admitted: config.admitted,
        remembered,
    }
}
