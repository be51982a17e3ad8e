//! The terms of a replay: the settings that decide what a call costs, and what a log cannot tell.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::admission::AdmissionConfig;
use crate::budget::{Quota, Quotas};
use crate::connector::{ConnectorConfig, IdentitySource, UsualCalls};
use crate::domain::{AgePolicy, Ages};

/// Settings of a fleet, and assumptions about its CRMs.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) ages: AgePolicy,
    /// `cache.admitted`.
    pub(crate) admitted: Duration,
    /// `cache.memory`, of each replica.
    pub(crate) memory: u64,
    pub(crate) connectors: Vec<PlannedConnector>,
    /// `lookup.timeout`, `lookup.soft_deadline`, `lookup.call_timeout`.
    pub(crate) timeout: Duration,
    pub(crate) soft_deadline: Duration,
    pub(crate) call_timeout: Duration,
    /// Whether the replicas share a Redis.
    pub(crate) has_redis: bool,
    pub(crate) replicas: NonZeroU32,
    /// How long a call to a CRM takes.
    pub(crate) latency: Duration,
    /// Bytes of an encoded answer with a contact.
    pub(crate) answer_bytes: usize,
    /// Decides which replica gets a call, and the jitter of ages.
    pub(crate) seed: u64,
}

/// A connector of the settings.
#[derive(Debug, Clone)]
pub(crate) struct PlannedConnector {
    pub(crate) name: String,
    pub(crate) quotas: Quotas,
    /// Calls of a look-up.
    pub(crate) calls: UsualCalls,
    /// Whether the CRM names the user of a credential, which is one more call.
    pub(crate) names_users: bool,
    /// Whether the settings leave the identity to the caller.
    pub(crate) is_identity_given: bool,
}

impl PlannedConnector {
    /// A connector of the settings, with the calls of a usual look-up.
    pub(crate) fn of(config: &ConnectorConfig) -> Self {
        Self {
            name: config.name.clone(),
            quotas: config.quotas,
            calls: config.connector.sheet().usual_calls(),
            names_users: config.connector.profile().names_users,
            is_identity_given: config.identity == IdentitySource::Caller,
        }
    }
}

impl Terms {
    /// As the daemon derives it from its settings.
    pub(super) fn admission(&self) -> AdmissionConfig {
        AdmissionConfig {
            admitted: self.admitted,
            remembered: self.admitted.saturating_add(self.ages.longest()),
        }
    }

    /// The same with this many replicas.
    pub(crate) fn with_replicas(&self, replicas: NonZeroU32) -> Self {
        Self {
            replicas,
            ..self.clone()
        }
    }

    /// The same with ages that are longer by this factor.
    pub(crate) fn with_ages(&self, factor: f64) -> Self {
        let longer = |ages: Ages| Ages {
            fresh: ages.fresh.mul_f64(factor),
            stale: ages.stale.mul_f64(factor),
        };
        let AgePolicy { found, absent } = self.ages;
        Self {
            ages: AgePolicy {
                found: longer(found),
                absent: longer(absent),
            },
            ..self.clone()
        }
    }

    /// The same with another share of the memory.
    pub(crate) fn with_memory(&self, factor: f64) -> Self {
        Self {
            memory: scaled(self.memory, factor),
            ..self.clone()
        }
    }

    /// The same with higher quotas by this factor. `None` if the daemon would not accept them.
    pub(crate) fn with_quotas(&self, factor: f64) -> Option<Self> {
        let mut terms = self.clone();
        for connector in &mut terms.connectors {
            let quotas = &mut connector.quotas;
            quotas.all = higher(&quotas.all, factor)?;
            for quota in [&mut quotas.search, &mut quotas.other]
                .into_iter()
                .flatten()
            {
                *quota = higher(quota, factor)?;
            }
        }
        Some(terms)
    }
}

fn higher(quota: &Quota, factor: f64) -> Option<Quota> {
    let calls = |calls: NonZeroU32| {
        let scaled = scaled(u64::from(calls.get()), factor).max(1);
        u32::try_from(scaled).unwrap_or(u32::MAX)
    };
    let per_day = quota.per_day().map(calls).and_then(NonZeroU32::new);
    let (rate, burst) = (calls(quota.rate()), calls(quota.burst()));
    let (per, scope, share) = (quota.per(), quota.scope(), quota.prefetch_share());
    let higher = Quota::new(rate, per, burst, scope, share).ok()?;
    higher.with_totals(quota.concurrent(), per_day).ok()
}

fn scaled(count: u64, factor: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes and counts are far below 2^52"
    )]
    let scaled = (count as f64 * factor).round() as u64;
    scaled
}
