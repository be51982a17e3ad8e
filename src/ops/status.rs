//! `/status.json`: how it stands with this process, for programs and for the page.
//!
//! Owns the shape, which only grows: a field keeps its name and meaning. Holds sums by connector,
//! source and lane, and nothing that belongs to a user: no number, name, user, account, host or
//! credential can stand in it, because none of them reaches the figures it is made from.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::history::{RESULTS, SOURCES, STEP, Sample, TIERS, Window};
use crate::metrics::HistogramBuckets;

/// Jobs that are listed; of more only the number is told.
const MOST_JOBS: usize = 50;

/// What the counters do not tell, at this moment. The app fills it in, which knows all rooms.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Connectors by name.
    pub(crate) connectors: Vec<Quota>,
    /// The connection to Redis, where there is one: `up`, `connecting` or `down`.
    pub(crate) redis: Option<Redis>,
    /// Replicas that this one knows of, itself included; none without Redis.
    pub(crate) replicas: Option<u32>,
    /// Most bytes that the memory tier may hold.
    pub(crate) memory_limit: u64,
    /// Most bytes that the process takes by its settings, whatever callers and CRMs do.
    pub(crate) memory_ceiling: u64,
}

/// One connector's quota and what waits for it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Quota {
    /// The connector's name.
    pub(crate) name: String,
    /// Calls in each period.
    pub(crate) rate: u32,
    /// The period.
    pub(crate) per_seconds: f64,
    /// Calls at once after a rest.
    pub(crate) burst: u32,
    /// `user` or `account`: whose calls are counted together.
    pub(crate) scope: &'static str,
    /// Quotas of one kind of call, beside that of all the rest.
    pub(crate) apart: Vec<Apart>,
    /// How many of them are in use now.
    pub(crate) scopes: usize,
    /// How many of them rest because the CRM asked for it.
    pub(crate) resting: usize,
    /// How many of them make no refresh and no prefetch call now; those that rest are among them.
    pub(crate) background_resting: usize,
    /// Calls that wait for their turn.
    pub(crate) waiting: Waiting,
}

impl Quota {
    /// Calls that have no quota of their own kind.
    fn rest_per_second(&self) -> f64 {
        if self.apart.len() == 2 {
            0.0
        } else {
            f64::from(self.rate) / self.per_seconds
        }
    }
}

/// The quota of one kind of call.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Apart {
    /// `searches` or `other calls`.
    pub(crate) kind: &'static str,
    /// Calls in each period.
    pub(crate) rate: u32,
    /// The period.
    pub(crate) per_seconds: f64,
    /// Calls at once after a rest.
    pub(crate) burst: u32,
}

/// Calls that wait, by lane.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Waiting {
    /// Somebody waits for the answer.
    pub(crate) call_pop: usize,
    /// Stale answers that are refreshed.
    pub(crate) revalidate: usize,
    /// Call logs that warm up.
    pub(crate) prefetch: usize,
}

/// The connection to Redis.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Redis {
    /// `up`, `limited` if Redis refuses a part of what it is used for, `connecting`, or `down` if
    /// nobody asks it.
    pub(crate) state: &'static str,
    /// Calls in a row without an answer; nobody waits for it until it answers again.
    pub(crate) failures_in_a_row: u32,
}

/// The whole of it.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(crate) version: &'static str,
    pub(crate) revision: &'static str,
    /// `ready` or `stopping`.
    pub(crate) state: &'static str,
    pub(crate) uptime_seconds: u64,
    /// The most that the process takes by its settings, whatever callers and CRMs do.
    pub(crate) memory_ceiling_bytes: u64,
    pub(crate) replicas: Option<u32>,
    /// The time that "in the window" means: at most five minutes.
    pub(crate) window_seconds: f64,
    /// The distance of the values in each `history`, of which the last is the newest.
    pub(crate) step_seconds: f64,
    pub(crate) lookups: Lookups,
    pub(crate) connectors: Vec<Connector>,
    pub(crate) tiers: Vec<Tier>,
    pub(crate) redis: Option<Redis>,
    pub(crate) prefetch: Prefetch,
}

#[derive(Debug, Serialize)]
pub(super) struct Lookups {
    pub(crate) per_second: f64,
    pub(crate) in_window: u64,
    /// Those that joined another's CRM call.
    pub(crate) shared_in_window: u64,
    pub(crate) p50_seconds: Option<f64>,
    pub(crate) p99_seconds: Option<f64>,
    /// Where answers came from; `none` is a failure, or a number that nobody is looked up for.
    pub(crate) sources: Vec<Source>,
    /// `found`, `not_found`, or why not.
    pub(crate) outcomes_in_window: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Source {
    #[serde(rename = "source")]
    pub(crate) name: &'static str,
    pub(crate) per_second: f64,
    pub(crate) in_window: u64,
    pub(crate) p50_seconds: Option<f64>,
    pub(crate) p99_seconds: Option<f64>,
    /// Look-ups a second.
    pub(crate) history: Vec<f64>,
    /// The 99th percentile in seconds, over the ten seconds before.
    pub(crate) p99_history: Vec<Option<f64>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Connector {
    #[serde(flatten)]
    pub(crate) quota: Quota,
    pub(crate) calls_per_second: f64,
    /// The part of what the scopes in use may spend together that is spent now; 1 is all.
    pub(crate) spent: Option<f64>,
    pub(crate) calls_in_window: u64,
    /// Calls that brought no 2xx or 3xx.
    pub(crate) failed_in_window: u64,
    pub(crate) p50_seconds: Option<f64>,
    pub(crate) p99_seconds: Option<f64>,
    /// Calls a second.
    pub(crate) history: Vec<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Tier {
    #[serde(rename = "tier")]
    pub(crate) name: &'static str,
    pub(crate) entries: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) per_second: f64,
    /// hit, stale, miss, error
    pub(crate) results_in_window: BTreeMap<&'static str, u64>,
    /// Look-ups a second that the tier answered.
    pub(crate) history: Vec<f64>,
    /// Failures a second.
    pub(crate) error_history: Vec<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Prefetch {
    pub(crate) running: usize,
    /// The oldest jobs, at most 50.
    pub(crate) jobs: Vec<Job>,
    /// found, not_found, already_cached, invalid_number, failed
    pub(crate) numbers_in_window: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Job {
    pub(crate) platform: String,
    pub(crate) done: usize,
    pub(crate) total: usize,
    pub(crate) running_seconds: u64,
}

/// What this process knows of itself.
#[derive(Debug)]
pub(super) struct Process {
    pub(crate) ready: bool,
    pub(crate) uptime: Duration,
    /// Entries and bytes.
    pub(crate) memory: (u64, u64),
    /// The oldest first.
    pub(crate) jobs: Vec<Job>,
}

impl Status {
    pub(super) fn new(window: &Window, now: Snapshot, process: Process) -> Self {
        let Process {
            ready,
            uptime,
            memory,
            mut jobs,
        } = process;
        let running = jobs.len();
        jobs.truncate(MOST_JOBS);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            revision: crate::metrics::revision(),
            state: if ready { "ready" } else { "stopping" },
            uptime_seconds: uptime.as_secs(),
            memory_ceiling_bytes: now.memory_ceiling,
            replicas: now.replicas,
            window_seconds: tenths(window.length().as_secs_f64()),
            step_seconds: STEP.as_secs_f64(),
            lookups: Lookups::new(window),
            connectors: now
                .connectors
                .into_iter()
                .map(|quota| Connector::new(window, quota))
                .collect(),
            tiers: tiers(window, memory, now.memory_limit, now.redis.is_some()),
            redis: now.redis,
            prefetch: Prefetch {
                running,
                jobs,
                numbers_in_window: rises(window, |sample| &sample.prefetch),
            },
        }
    }
}

impl Lookups {
    fn new(window: &Window) -> Self {
        let all = |sample: &Sample| {
            let mut all = HistogramBuckets::default();
            sample.lookups.iter().for_each(|source| all.add(source));
            all
        };
        let observed = window.observed(all);
        Self {
            per_second: rounded(window.rate(|sample| all(sample).count())),
            in_window: observed.count(),
            shared_in_window: window.rise(|sample| sample.shared),
            p50_seconds: micros(observed.quantile(0.5)),
            p99_seconds: micros(observed.quantile(0.99)),
            sources: SOURCES
                .iter()
                .enumerate()
                .map(|(n, source)| Source::new(window, source, n))
                .collect(),
            outcomes_in_window: rises(window, |sample| &sample.outcomes),
        }
    }
}

impl Source {
    fn new(window: &Window, source: &'static str, n: usize) -> Self {
        let count = |sample: &Sample| sample.lookups[n].count();
        let observed = window.observed(|sample| sample.lookups[n]);
        Self {
            name: source,
            per_second: rounded(window.rate(count)),
            in_window: observed.count(),
            p50_seconds: micros(observed.quantile(0.5)),
            p99_seconds: micros(observed.quantile(0.99)),
            history: window.rates(count).into_iter().map(rounded).collect(),
            p99_history: window
                .quantiles(0.99, |sample| sample.lookups[n])
                .into_iter()
                .map(micros)
                .collect(),
        }
    }
}

impl Connector {
    fn new(window: &Window, quota: Quota) -> Self {
        let crm = |sample: &Sample| sample.crm.get(&quota.name).copied().unwrap_or_default();
        let calls = |sample: &Sample| crm(sample).calls;
        let observed = window.observed(|sample| crm(sample).duration);
        let calls_per_second = window.rate(calls);
        let apart = quota
            .apart
            .iter()
            .map(|apart| f64::from(apart.rate) / apart.per_seconds);
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 users")]
        let may_spend = (quota.rest_per_second() + apart.sum::<f64>()) * quota.scopes as f64;
        Self {
            calls_per_second: rounded(calls_per_second),
            spent: (may_spend > 0.0).then(|| rounded(calls_per_second / may_spend)),
            calls_in_window: window.rise(calls),
            failed_in_window: window.rise(|sample| crm(sample).failed),
            p50_seconds: micros(observed.quantile(0.5)),
            p99_seconds: micros(observed.quantile(0.99)),
            history: window.rates(calls).into_iter().map(rounded).collect(),
            quota,
        }
    }
}

fn tiers(window: &Window, (entries, bytes): (u64, u64), limit: u64, redis: bool) -> Vec<Tier> {
    let tier = |n: usize| {
        let asked = |sample: &Sample| sample.tiers[n].iter().sum();
        let rise = |result: usize| window.rise(|sample| sample.tiers[n][result]);
        Tier {
            name: TIERS[n],
            entries: (n == 0).then_some(entries),
            bytes: (n == 0).then_some(bytes),
            limit_bytes: (n == 0).then_some(limit),
            per_second: rounded(window.rate(asked)),
            results_in_window: RESULTS
                .iter()
                .enumerate()
                .map(|(at, result)| (*result, rise(at)))
                .collect(),
            history: window
                .rates(|sample| sample.tiers[n][..2].iter().sum())
                .into_iter()
                .map(rounded)
                .collect(),
            error_history: window
                .rates(|sample| sample.tiers[n][3])
                .into_iter()
                .map(rounded)
                .collect(),
        }
    };
    (0..=usize::from(redis)).map(tier).collect()
}

/// How far each counter of a family rose; those that did not are left out.
fn rises(
    window: &Window,
    family: impl Fn(&Sample) -> &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let names = window
        .last()
        .map(|last| family(last).keys().cloned().collect::<Vec<_>>())
        .unwrap_or_default();
    let rise = |name: String| {
        let rise = window.rise(|sample| family(sample).get(&name).copied().unwrap_or(0));
        (name, rise)
    };
    names
        .into_iter()
        .map(rise)
        .filter(|(_, rise)| *rise > 0)
        .collect()
}

/// To a thousandth: more digits say nothing.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Seconds to a millionth.
fn micros(seconds: Option<f64>) -> Option<f64> {
    seconds.map(|seconds| (seconds * 1e6).round() / 1e6)
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
