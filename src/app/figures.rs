//! What the status page shows beside the metrics: sums from the rooms that the page does not see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::fleet::Budgets;
use crate::budget::{Budget, CallKind, Quota, Usage};
use crate::link::{Link, Standing};
use crate::ops;

/// Where the figures are. Reading them costs a look-up nothing.
pub(super) struct Figures {
    pub(super) budgets: Budgets,
    pub(super) link: Option<Link>,
    pub(super) replicas: Arc<AtomicU32>,
    pub(super) memory_limit: u64,
}

impl Figures {
    pub(super) fn now(&self) -> ops::Now {
        ops::Now {
            connectors: self.budgets.iter().flat_map(|(name, budget)| quotas(name, budget)).collect(),
            redis: self.link.as_ref().map(|link| redis(link.standing())),
            replicas: self.link.as_ref().map(|_| self.replicas.load(Ordering::Relaxed)),
            memory_limit: self.memory_limit,
        }
    }
}

fn quotas(name: &str, budget: &Budget) -> Vec<ops::Quota> {
    let name = |kind| match kind {
        None => name.to_owned(),
        Some(CallKind::Search) => format!("{name} (search)"),
        Some(CallKind::Other) => format!("{name} (other)"),
    };
    budget.usage().into_iter().map(|(kind, quota, usage)| figures(name(kind), &quota, usage)).collect()
}

fn figures(name: String, quota: &Quota, usage: Usage) -> ops::Quota {
    let Usage { scopes, resting, background_resting, waiting } = usage;
    let [call_pop, revalidate, prefetch] = waiting;
    ops::Quota {
        name,
        rate: quota.rate().get(),
        per_seconds: quota.per().as_secs_f64(),
        burst: quota.burst().get(),
        scope: quota.scope().name(),
        scopes,
        resting,
        background_resting,
        waiting: ops::Waiting { call_pop, revalidate, prefetch },
    }
}

fn redis(standing: Standing) -> ops::Redis {
    let (state, failures_in_a_row) = match standing {
        Standing::Connecting => ("connecting", 0),
        Standing::Up { failures } => ("up", failures),
        Standing::Limited => ("limited", 0),
        Standing::Down => ("down", 0),
    };
    ops::Redis { state, failures_in_a_row }
}
