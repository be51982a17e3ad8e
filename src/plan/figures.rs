//! What a replay counts.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::tier::TierPeak;
use crate::budget::{CallKind, Quota, Quotas};
use crate::domain::{Freshness, Lane, Source};

/// The length of a [`Bucket`] in milliseconds.
pub(crate) const BUCKET: u64 = 5 * 60 * 1000;
/// A day in milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

/// What a log costs under some terms.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) connectors: Vec<ConnectorFigures>,
    /// Five minutes each. The first one contains the first call, and begins at a multiple of five
    /// minutes.
    pub(crate) buckets: Vec<Bucket>,
    /// When the first bucket begins, in milliseconds since the Unix epoch.
    pub(crate) begins: u64,
    first: u64,
    /// The memory of the replica that held the most.
    pub(crate) memory: TierPeak,
    /// What all replicas together have evicted.
    pub(crate) evicted: u64,
    pub(crate) redis: Option<TierPeak>,
}

/// Five minutes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    pub(crate) lookups: u32,
    pub(crate) hits: u32,
    pub(crate) crm_calls: u32,
}

/// The figures of one connector.
#[derive(Debug, Default)]
pub(crate) struct ConnectorFigures {
    pub(crate) name: String,
    pub(crate) lookups: u64,
    /// Fresh and stale answers from memory, and from Redis.
    pub(crate) memory: [u64; 2],
    pub(crate) redis: [u64; 2],
    /// Look-ups that waited for a call to the CRM, and how many of them shared another's.
    pub(crate) crm: u64,
    pub(crate) shared: u64,
    /// Look-ups that the quota refused.
    pub(crate) refused: u64,
    pub(crate) crm_calls: u64,
    /// Waits of call pops and of background calls for their turn.
    pub(crate) waits: [Waits; 2],
    pub(crate) quotas: Vec<QuotaUse>,
    /// Look-ups and hits after the first day.
    later: (u64, u64),
}

/// Calls that waited for their turn in a quota.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waits {
    /// Calls that were made.
    pub(crate) calls: u64,
    /// Of those, how many waited.
    pub(crate) waited: u64,
    pub(crate) longest: Duration,
}

/// How far one quota was used.
#[derive(Debug)]
pub(crate) struct QuotaUse {
    /// "all calls", "searches", "other calls", "a day".
    pub(crate) what: &'static str,
    pub(crate) limit: u32,
    pub(crate) per: Duration,
    pub(crate) scope: &'static str,
    /// The most calls that one scope made in one window, as the CRM counts them.
    pub(crate) peak: u32,
    counted: Counted,
    windows: HashMap<u32, VecDeque<u64>, foldhash::fast::RandomState>,
}

/// Which calls a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Every,
    OfKind(CallKind),
    WithoutOwnQuota,
}

/// How a look-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Stored(Source, Freshness),
    Crm { shared: bool },
    Refused,
}

impl Figures {
    pub(super) fn new(first: u64) -> Self {
        Self {
            begins: first - first % BUCKET,
            first,
            ..Self::default()
        }
    }

    /// A look-up that began at `at` has ended.
    pub(super) fn count(&mut self, connector: u16, at: u64, ended: Ended) {
        let is_later = at >= self.begins + DAY;
        let figures = &mut self.connectors[usize::from(connector)];
        let is_hit = matches!(ended, Ended::Stored(..));
        figures.count(ended);
        if is_later {
            figures.later.0 += 1;
            figures.later.1 += u64::from(is_hit);
        }
        let bucket = self.bucket(at);
        bucket.lookups += 1;
        bucket.hits += u32::from(is_hit);
    }

    /// A call to a CRM was made this many microseconds after the first call of the log.
    pub(super) fn call_after(&mut self, micros: u64) {
        self.bucket(self.first + micros / 1000).crm_calls += 1;
    }

    fn bucket(&mut self, at: u64) -> &mut Bucket {
        let index = usize::try_from((at - self.begins) / BUCKET).unwrap_or(usize::MAX);
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, Bucket::default());
        }
        &mut self.buckets[index]
    }

    /// The sum over all connectors.
    pub(crate) fn total(&self, of: impl Fn(&ConnectorFigures) -> u64) -> u64 {
        self.connectors.iter().map(of).sum()
    }

    /// The part of the look-ups that a tier answered at once.
    pub(crate) fn hit_rate(&self) -> f64 {
        share(
            self.total(ConnectorFigures::hits),
            self.total(|of| of.lookups),
        )
    }

    /// The same after the first day, if the log is longer: a cold start says nothing about later.
    pub(crate) fn later_hit_rate(&self) -> Option<f64> {
        let lookups = self.total(|of| of.later.0);
        (lookups > 0).then(|| share(self.total(|of| of.later.1), lookups))
    }

    /// The most calls to all CRMs in sixty minutes.
    pub(crate) fn peak_hour(&self) -> u64 {
        let hour = usize::try_from(3600 * 1000 / BUCKET).unwrap_or(1);
        let (mut sum, mut peak) = (0_u64, 0);
        for (n, bucket) in self.buckets.iter().enumerate() {
            sum += u64::from(bucket.crm_calls);
            if let Some(left) = n.checked_sub(hour) {
                sum -= u64::from(self.buckets[left].crm_calls);
            }
            peak = peak.max(sum);
        }
        peak
    }
}

impl ConnectorFigures {
    pub(super) fn new(name: &str, quotas: &Quotas) -> Self {
        Self {
            name: name.to_owned(),
            quotas: quotas_of(quotas),
            ..Self::default()
        }
    }

    fn count(&mut self, ended: Ended) {
        self.lookups += 1;
        match ended {
            Ended::Stored(source, freshness) => {
                let of = if source == Source::Memory {
                    &mut self.memory
                } else {
                    &mut self.redis
                };
                of[usize::from(freshness != Freshness::Fresh)] += 1;
            }
            Ended::Crm { shared } => {
                self.crm += 1;
                self.shared += u64::from(shared);
            }
            Ended::Refused => self.refused += 1,
        }
    }

    /// A call was made after waiting for `waited`. Times are microseconds.
    pub(super) fn call(
        &mut self,
        kind: CallKind,
        scope: u32,
        lane: Lane,
        (at, waited): (u64, u64),
    ) {
        self.crm_calls += 1;
        let waits = &mut self.waits[usize::from(lane.is_background())];
        waits.calls += 1;
        waits.waited += u64::from(waited > 0);
        waits.longest = waits.longest.max(Duration::from_micros(waited));
        let own = Counted::OfKind(kind);
        let has_own = self.quotas.iter().any(|quota| quota.counted == own);
        let counted = if has_own {
            own
        } else {
            Counted::WithoutOwnQuota
        };
        for quota in &mut self.quotas {
            if quota.counted == counted || quota.counted == Counted::Every {
                quota.count(scope, at);
            }
        }
    }

    /// Look-ups that a tier answered at once.
    pub(crate) fn hits(&self) -> u64 {
        self.memory.iter().chain(&self.redis).sum()
    }
}

impl QuotaUse {
    fn new(what: &'static str, counted: Counted, quota: &Quota) -> Self {
        Self {
            what,
            limit: quota.rate().get(),
            per: quota.per(),
            scope: quota.scope().name(),
            peak: 0,
            counted,
            windows: HashMap::default(),
        }
    }

    /// The part of the limit that the busiest scope left at its peak; negative if it exceeded it.
    pub(crate) fn headroom(&self) -> f64 {
        1.0 - f64::from(self.peak) / f64::from(self.limit)
    }

    fn count(&mut self, scope: u32, at: u64) {
        let per = u64::try_from(self.per.as_micros()).unwrap_or(u64::MAX);
        let calls = self.windows.entry(scope).or_default();
        while calls.front().is_some_and(|first| first + per <= at) {
            calls.pop_front();
        }
        calls.push_back(at);
        self.peak = self
            .peak
            .max(u32::try_from(calls.len()).unwrap_or(u32::MAX));
    }
}

fn quotas_of(quotas: &Quotas) -> Vec<QuotaUse> {
    let all = &quotas.all;
    let mut uses = vec![QuotaUse::new("all calls", Counted::WithoutOwnQuota, all)];
    for (what, kind) in [
        ("searches", CallKind::Search),
        ("other calls", CallKind::Other),
    ] {
        let own = quotas.own(kind);
        uses.extend(own.map(|own| QuotaUse::new(what, Counted::OfKind(kind), own)));
    }
    uses.extend(all.per_day().map(|calls| QuotaUse {
        limit: calls.get(),
        per: Duration::from_millis(DAY),
        ..QuotaUse::new("a day", Counted::Every, all)
    }));
    uses
}

/// A part of a whole; zero of nothing.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
