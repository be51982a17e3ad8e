//! What the status page shows beside the metrics: sums from the rooms that the page does not see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::fleet::Budgets;
use crate::budget::{Budget, Usage};
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
            connectors: self.budgets.iter().map(|(name, budget)| quota(name, budget)).collect(),
            redis: self.link.as_ref().map(|link| redis(link.standing())),
            replicas: self.link.as_ref().map(|_| self.replicas.load(Ordering::Relaxed)),
            memory_limit: self.memory_limit,
        }
    }
}

fn quota(name: &str, budget: &Budget) -> ops::Quota {
    let (quota, Usage { scopes, resting, background_resting, waiting }) = (budget.quota(), budget.usage());
    let [call_pop, revalidate, prefetch] = waiting;
    ops::Quota {
        name: name.to_owned(),
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
