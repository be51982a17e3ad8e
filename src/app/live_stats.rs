//! What the status page shows besides the metrics: totals from modules that the page does not see.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::budgets::Budgets;
use crate::budget::{Budget, CallKind, Quota, Usage};
use crate::ops::{LiveView, QuotaView, RedisView, SeparateQuota, WaitingView};
use crate::redis_link::{Link, LinkState};

/// The sources of the figures. Reading them does not slow look-ups down.
pub(super) struct LiveStats {
    pub(super) budgets: Budgets,
    pub(super) link: Option<Link>,
    pub(super) replicas: Arc<AtomicU32>,
    pub(super) memory_limit: u64,
    pub(super) memory_ceiling: u64,
}

impl LiveStats {
    pub(super) fn now(&self) -> LiveView {
        LiveView {
            connectors: self.quotas(),
            redis: self.link.as_ref().map(|link| redis(link.state())),
            replicas: self.replicas(),
            memory_limit: self.memory_limit,
            memory_ceiling: self.memory_ceiling,
        }
    }
}

impl LiveStats {
    fn quotas(&self) -> Vec<QuotaView> {
        let budgets = self.budgets.iter();
        budgets.map(|(name, budget)| quota(name, budget)).collect()
    }

    /// How many replicas run, if Redis can report it.
    fn replicas(&self) -> Option<u32> {
        let count = self.link.as_ref().map(|_| &self.replicas);
        count.map(|count| count.load(Ordering::Relaxed))
    }
}

/// The quotas of a connector as one row. If searches and other calls have separate quotas, their
/// waiting calls are added up.
fn quota(name: &str, budget: &Budget) -> QuotaView {
    let all = budget.quota(None);
    let mut sum = QuotaView {
        name: name.to_owned(),
        rate: all.rate().get(),
        per_seconds: all.per().as_secs_f64(),
        burst: all.burst().get(),
        scope: all.scope().name(),
        concurrent: all.concurrent().map(NonZeroU32::get),
        per_day: all.per_day().map(NonZeroU32::get),
        apart: Vec::new(),
        scopes: 0,
        paused: 0,
        background_paused: 0,
        waiting: WaitingView::default(),
    };
    for (kind, quota, usage) in budget.usage() {
        let Usage {
            scopes,
            paused,
            background_paused,
            waiting: [call_pop, revalidate, prefetch],
        } = usage;
        sum.apart.extend(kind.map(|kind| apart(kind, &quota)));
        sum.scopes = sum.scopes.max(scopes);
        sum.paused = sum.paused.max(paused);
        sum.background_paused = sum.background_paused.max(background_paused);
        sum.waiting.call_pop += call_pop;
        sum.waiting.revalidate += revalidate;
        sum.waiting.prefetch += prefetch;
    }
    sum
}

fn apart(kind: CallKind, quota: &Quota) -> SeparateQuota {
    let kind = match kind {
        CallKind::Search => "searches",
        CallKind::Other => "other calls",
    };
    SeparateQuota {
        kind,
        rate: quota.rate().get(),
        per_seconds: quota.per().as_secs_f64(),
        burst: quota.burst().get(),
    }
}

fn redis(standing: LinkState) -> RedisView {
    let (state, failures_in_a_row) = match standing {
        LinkState::Connecting => ("connecting", 0),
        LinkState::Up { failures } => ("up", failures),
        LinkState::Limited => ("limited", 0),
        LinkState::Down => ("down", 0),
    };
    RedisView {
        state,
        failures_in_a_row,
    }
}
