//! The link's health in metrics and log: whether Redis can be used, and what it refuses.
//!
//! Sets `contactd_redis_up`. It is 1 only if there is a connection, Redis refuses nothing on it
//! except for single keys and `INFO`, and the log of invalidations can be read. A refusal is
//! counted each time. Its code is logged once, and again only after a connection has lasted five
//! seconds. Knows nothing of connections.

use std::collections::HashSet;
use std::fmt;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

/// The metrics that show the link's health.
pub struct LinkSignals {
    /// `contactd_redis_up`.
    pub(crate) up: Gauge,
    /// Counts a refused command by its code, which is one of a closed set.
    pub(crate) refused: Box<dyn Fn(&'static str) + Send + Sync>,
}

impl fmt::Debug for LinkSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSignals")
            .field("up", &self.up)
            .finish_non_exhaustive()
    }
}

/// Refusals are not counted.
impl From<Gauge> for LinkSignals {
    fn from(up: Gauge) -> Self {
        Self {
            up,
            refused: Box::new(|_| {}),
        }
    }
}

pub(super) struct Health {
    signals: LinkSignals,
    state: Mutex<HealthState>,
}

#[derive(Default)]
struct HealthState {
    sound: bool,
    impaired: bool,
    /// Codes that were already logged.
    logged: HashSet<&'static str>,
}

impl HealthState {
    fn is_up(&self) -> bool {
        self.sound && !self.impaired
    }
}

impl Health {
    pub(super) fn new(signals: LinkSignals) -> Self {
        Self {
            signals,
            state: Mutex::default(),
        }
    }

    /// Sets whether there is a connection that refuses nothing.
    pub(super) fn set_sound(&self, sound: bool) {
        self.change(|state| state.sound = sound);
    }

    pub(super) fn set_impaired(&self, impaired: bool) {
        self.change(|state| state.impaired = impaired);
    }

    pub(super) fn is_impaired(&self) -> bool {
        self.state.lock().impaired
    }

    /// Lets each code be logged again.
    pub(super) fn forget_logged(&self) {
        self.state.lock().logged.clear();
    }

    /// Counts a refused command. The keeper logs the consequences if it is `general`.
    pub(super) fn count(&self, code: &'static str, general: bool) {
        (self.signals.refused)(code);
        if !general && self.state.lock().logged.insert(code) {
            tracing::warn!(
                code,
                "Redis refused a command, perhaps because another program wrote the key; \
                 further refusals are counted, not logged"
            );
        }
    }

    fn change(&self, change: impl FnOnce(&mut HealthState)) {
        let mut state = self.state.lock();
        change(&mut state);
        self.signals.up.set(state.is_up().into());
    }
}
