//! `/status.json`: the state of this process, for programs and for the page.
//!
//! Defines its fields. Fields may be added; an existing field keeps its name and meaning. Contains
//! sums by connector, source and lane, and nothing that belongs to a user: no number, name, user,
//! account, host or credential reaches the figures it is made from.

use std::collections::BTreeMap;

use serde::Serialize;

/// The current values that the counters do not show. The app, which knows all modules, sets them.
#[derive(Debug, Clone, Default)]
pub(crate) struct LiveView {
    /// Connectors by name.
    pub(crate) connectors: Vec<QuotaView>,
    /// The connection to Redis, if there is one.
    pub(crate) redis: Option<RedisView>,
    /// Replicas that this one knows of, including itself. `None` without Redis.
    pub(crate) replicas: Option<u32>,
    /// Most bytes that the memory tier may hold.
    pub(crate) memory_limit: u64,
    /// The most bytes that the process can take with its settings, whatever clients and CRMs do.
    pub(crate) memory_ceiling: u64,
}

/// One connector's quota, and the calls that wait for it. In JSON, `paused` and `background_paused`
/// keep their earlier names (`resting`, `background_resting`), because programs read them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct QuotaView {
    /// The connector's name.
    pub(crate) name: String,
    /// Calls in each period.
    pub(crate) rate: u32,
    /// The period.
    pub(crate) per_seconds: f64,
    /// The most calls that may begin at once after idle time.
    pub(crate) burst: u32,
    /// `user` or `account`: whose calls are counted together.
    pub(crate) scope: &'static str,
    /// Calls on the wire at once, if the CRM limits them.
    pub(crate) concurrent: Option<u32>,
    /// Calls in any 24 hours, if the CRM limits them.
    pub(crate) per_day: Option<u32>,
    /// Separate quotas of one kind of call.
    pub(crate) apart: Vec<SeparateQuota>,
    /// The number of scopes in use now.
    pub(crate) scopes: usize,
    /// How many of them are paused and make no call now.
    #[serde(rename = "resting")]
    pub(crate) paused: usize,
    /// How many of them make no refresh and no prefetch call now, including paused ones.
    #[serde(rename = "background_resting")]
    pub(crate) background_paused: usize,
    /// Calls that wait for the quota.
    pub(crate) waiting: WaitingView,
}

/// The quota of one kind of call.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct SeparateQuota {
    /// `searches` or `other calls`.
    pub(crate) kind: &'static str,
    /// Calls in each period.
    pub(crate) rate: u32,
    /// The period.
    pub(crate) per_seconds: f64,
    /// The most calls that may begin at once after idle time.
    pub(crate) burst: u32,
}

/// Calls that wait, by lane.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct WaitingView {
    /// Somebody waits for the answer.
    pub(crate) call_pop: usize,
    /// Stale answers that are refreshed.
    pub(crate) revalidate: usize,
    /// Call logs that are prefetched.
    pub(crate) prefetch: usize,
}

/// The connection to Redis.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct RedisView {
    /// `up`, `limited` if Redis refuses some of the commands in use, `connecting`, or `down` if no
    /// calls are sent to it.
    pub(crate) state: &'static str,
    /// Calls in a row without an answer. Nobody waits for Redis until it answers again.
    pub(crate) failures_in_a_row: u32,
}

/// The whole status.
#[derive(Debug, Serialize)]
pub(super) struct StatusView {
    pub(crate) version: &'static str,
    pub(crate) revision: &'static str,
    /// `ready` or `stopping`.
    pub(crate) state: &'static str,
    pub(crate) uptime_seconds: u64,
    /// The most bytes that the process can take with its settings, whatever clients and CRMs do.
    pub(crate) memory_ceiling_bytes: u64,
    pub(crate) replicas: Option<u32>,
    /// The time that "in the window" means: at most five minutes.
    pub(crate) window_seconds: f64,
    /// The interval of the values in each `history`, the newest last.
    pub(crate) step_seconds: f64,
    pub(crate) lookups: LookupsView,
    pub(crate) connectors: Vec<ConnectorView>,
    pub(crate) tiers: Vec<TierView>,
    pub(crate) redis: Option<RedisView>,
    pub(crate) prefetch: PrefetchView,
}

#[derive(Debug, Serialize)]
pub(super) struct LookupsView {
    pub(crate) per_second: f64,
    pub(crate) in_window: u64,
    /// Those that joined another caller's load.
    pub(crate) shared_in_window: u64,
    pub(crate) p50_seconds: Option<f64>,
    pub(crate) p99_seconds: Option<f64>,
    /// Where answers came from. `none` is neither a tier nor the CRM: see
    /// `without_source_in_window`.
    pub(crate) sources: Vec<SourceView>,
    /// `found`, `not_found`, or the reason of a failure.
    pub(crate) outcomes_in_window: BTreeMap<String, u64>,
    /// The outcomes of the look-ups with the source `none`: `not_cached` if only stored answers
    /// were asked for and there was none, `not_found` for a number that is not looked up, such as
    /// a withheld one, or the reason of a failure.
    pub(crate) without_source_in_window: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct SourceView {
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
pub(super) struct ConnectorView {
    #[serde(flatten)]
    pub(crate) quota: QuotaView,
    pub(crate) calls_per_second: f64,
    /// The fraction of the quota of all scopes in use that is spent now; 1 is all.
    pub(crate) spent: Option<f64>,
    pub(crate) calls_in_window: u64,
    /// Calls without a 2xx or 3xx reply.
    pub(crate) failed_in_window: u64,
    pub(crate) p50_seconds: Option<f64>,
    pub(crate) p99_seconds: Option<f64>,
    /// Calls a second.
    pub(crate) history: Vec<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct TierView {
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
pub(super) struct PrefetchView {
    pub(crate) running: usize,
    /// The oldest batches, at most 50.
    pub(crate) jobs: Vec<JobView>,
    /// found, not_found, already_cached, invalid_number, failed
    pub(crate) numbers_in_window: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct JobView {
    pub(crate) platform: String,
    pub(crate) done: usize,
    pub(crate) total: usize,
    pub(crate) running_seconds: u64,
}
