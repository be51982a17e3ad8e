//! What all calls of one connector share: HTTP client, limits, quota, metrics.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::group::Groups;
use super::log_throttle::LogThrottle;
use super::outbound::Egress;
use super::profile::Profile;
use super::readers::Readers;
use super::refusals::Refusals;
use super::settings::ConnectorConfig;
use super::spelling_order::SpellingOrder;
use super::tally::CallMetrics;
use super::token::TokenSource;
use crate::budget::{Budget, CallKind};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Limits of one find.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallLimits {
    /// Time for one HTTP call, including its reply.
    pub(crate) call_timeout: Duration,
    /// Bytes of one reply, decompressed.
    pub(crate) reply_bytes: usize,
    /// Pages read of one list.
    pub(crate) pages: u32,
    /// Contacts in one answer.
    pub(crate) contacts: usize,
    /// HTTP calls of one find that may run at once.
    pub(crate) concurrent_calls: usize,
}

/// The client of one connector. It opens sessions.
#[derive(Clone)]
pub(crate) struct CrmClient {
    /// The connector's name in the settings.
    pub(super) name: Arc<str>,
    pub(super) egress: Egress,
    pub(super) limits: CallLimits,
    pub(super) profile: Arc<Profile>,
    pub(super) budget: Arc<Budget>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) call_metrics: Arc<CallMetrics>,
    pub(super) log_throttle: Arc<LogThrottle>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) readers: Arc<Readers>,
    pub(super) groups: Arc<Groups>,
    pub(super) spelling_order: Arc<SpellingOrder>,
    /// The token, if the connector fetches one.
    pub(super) token: Option<Arc<TokenSource>>,
}

impl fmt::Debug for CrmClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrmClient")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl CrmClient {
    #[must_use]
    pub(crate) fn new(
        egress: Egress,
        limits: CallLimits,
        budget: Arc<Budget>,
        clock: Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
        config: &ConnectorConfig,
    ) -> Self {
        let token = config.connector.profile().token.clone();
        let token = token.map(|request| TokenSource::new(request, config.base_url.as_ref()));
        Self {
            name: config.name.as_str().into(),
            egress,
            limits,
            profile: Arc::clone(config.connector.profile()),
            budget,
            clock,
            call_metrics: Arc::new(CallMetrics::new(metrics, &config.name)),
            log_throttle: Arc::default(),
            refusals: Arc::default(),
            readers: Arc::default(),
            groups: Arc::default(),
            spelling_order: Arc::default(),
            token: token.map(Arc::new),
        }
    }

    /// How many calls of a kind may run at once, by the current settings.
    pub(super) fn burst(&self, kind: CallKind) -> NonZeroU32 {
        self.budget.quota(Some(kind)).burst()
    }
}
