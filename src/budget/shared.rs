//! The count of all replicas: one hash and two sorted sets in Redis for each scope, changed only by
//! scripts.
//!
//! Defines the names of those keys and the scripts' arguments. As long as Redis keeps the keys, all
//! replicas together stay within the quota. A request ends within the link's timeout. Keys that are
//! no longer needed expire. Time is Redis' own, so the replicas' clocks need not agree.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::Script;
use tokio_util::task::TaskTracker;

use super::forecast::{Forecast, NextCalls, Reserved, RoomForecast};
use super::pauses::Pause;
use super::queue::CredentialProof;
use super::quota::{CallKind, Quota, TokenBucket};
use super::request::{SCOPE_KNOWN, ScopeUpdate, SharedTerms, Slot, SlotReply, SlotRequest};
use super::window::{FORESEEN, FreeTimes, micros};
use crate::clock::Instant;
use crate::domain::ScopeTag;
use crate::redis_link::user::token;
use crate::redis_link::{Link, LinkError, hex};

/// How much later than its turn a call pop may come back and still find the background lanes
/// stopped. If it never comes back, they have waited this long for nothing.
const LATENESS: Duration = Duration::from_millis(100);

/// One quota, as all replicas share it.
#[derive(Clone)]
pub(crate) struct SharedQuota {
    link: Link,
    tasks: TaskTracker,
    /// The connector, and the kind of call if it has a quota of its own.
    whose: String,
    /// The prefix of the names of this replica's calls.
    replica: String,
    calls: Arc<AtomicU64>,
    scripts: Arc<QuotaScripts>,
}

struct QuotaScripts {
    request: Script,
    note: Script,
    release: Script,
}

impl fmt::Debug for SharedQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedQuota")
            .field("whose", &self.whose)
            .finish_non_exhaustive()
    }
}

/// What the request script returns; documented there.
type ScriptReply = (
    i64,
    i64,
    i64,
    i64,
    i64,
    u32,
    Vec<i64>,
    u32,
    Vec<i64>,
    u32,
    u32,
    u32,
);

/// A pace as the request script takes it, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Gcra {
    interval: i64,
    tolerance: i64,
}

impl Gcra {
    /// The paces for a request: of all lanes, of the share, and of all lanes for the background
    /// lanes. A request without a pace may run ahead by a whole window, and does not use up the
    /// pace.
    fn for_request(quota: &Quota, request: &SlotRequest) -> [Self; 3] {
        let paces = [
            quota.bucket(),
            quota.background_bucket(),
            quota.even_bucket(),
        ];
        if request.is_paced {
            paces.map(Self::of)
        } else {
            [Self::unpaced(quota.per()); 3]
        }
    }

    fn of(pace: TokenBucket) -> Self {
        Self {
            interval: micros(pace.interval),
            tolerance: micros(pace.tolerance()),
        }
    }

    fn unpaced(per: Duration) -> Self {
        Self {
            interval: 0,
            tolerance: micros(per),
        }
    }
}

/// Gives back a call whose reply was lost, unless its name is taken out first.
struct GiveBackOnDrop<'a> {
    shared: &'a SharedQuota,
    scope: ScopeTag,
    name: Option<String>,
}

impl Drop for GiveBackOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.shared.release(self.scope, &name, Duration::ZERO);
        }
    }
}

impl SharedQuota {
    /// The quota of the connector called `connector`. All replicas must use the same name. Updates
    /// that nobody waits for are sent from `tasks`.
    #[must_use]
    pub(crate) fn new(link: Link, connector: &str, tasks: TaskTracker) -> Self {
        // A hash, because a connector's name may contain braces, which would change the hash slot.
        let name = blake3::hash(connector.as_bytes());
        let scripts = QuotaScripts {
            request: Script::new(include_str!("request.lua")),
            note: Script::new(include_str!("note.lua")),
            release: Script::new(include_str!("release.lua")),
        };
        let (whose, replica) = (hex(&name.as_bytes()[..8]), hex(&token()[..8]));
        Self {
            link,
            tasks,
            whose,
            replica,
            calls: Arc::default(),
            scripts: Arc::new(scripts),
        }
    }

    /// The quota of one kind of call only.
    pub(super) fn of(&self, kind: CallKind) -> Self {
        let kind = match kind {
            CallKind::Search => "search",
            CallKind::Other => "other",
        };
        Self {
            whose: format!("{}:{kind}", self.whose),
            ..self.clone()
        }
    }

    /// Spends a call if there is room. If a call pop is denied and would wait, this stops the
    /// background lanes of all replicas.
    ///
    /// # Errors
    /// [`LinkError`], within the link's timeout. A call that was spent anyway is given back, also
    /// if the future is dropped.
    pub(super) async fn request(
        &self,
        terms: &SharedTerms,
        request: &SlotRequest,
        until: Instant,
    ) -> Result<SlotReply, LinkError> {
        let (keys, name) = (self.keys(request.scope), self.next_name());
        let paces = Gcra::for_request(&terms.quota, request);
        let args = arguments(terms, request, paces, &name);
        let mut undelivered = GiveBackOnDrop {
            shared: self,
            scope: request.scope,
            // A call that was already made always counts.
            name: (!request.is_made).then(|| name.clone()),
        };
        let reply: ScriptReply = self.run(&self.scripts.request, &keys, &args).await?;
        undelivered.name = None;
        let (is_granted, pause_of_all, pause_of_background) = (reply.0 == 1, reply.3, reply.4);
        let slot = Slot {
            name: Some(name),
            ..Slot::granted(request, until)
        };
        Ok(SlotReply {
            granted: is_granted.then_some(slot),
            forecast: forecast(&terms.quota, paces, reply),
            pause: Pause {
                all: duration(pause_of_all),
                background: duration(pause_of_background),
                is_over: false,
            },
        })
    }

    /// A name that is unique among the calls of all replicas.
    fn next_name(&self) -> String {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        format!("{}:{number}", self.replica)
    }

    /// Publishes a pause, the end of one, or a new limit to all replicas. Best effort: if Redis is
    /// down, only this replica knows.
    pub(super) async fn publish(&self, scope: ScopeTag, update: &ScopeUpdate) {
        let ScopeUpdate { pause, limit } = update;
        let all = if pause.is_over { -1 } else { micros(pause.all) };
        let [limit, lasts, before] = limit.map_or([0; 3], |new| {
            [
                i64::from(new.limit),
                micros(new.lasts),
                i64::from(new.before),
            ]
        });
        let background = micros(pause.background);
        self.note(scope, [all, background, 0, limit, lasts, before])
            .await;
    }

    /// Reserves one call of each window for verified credentials, for that long. Best effort.
    pub(super) async fn reserve_one(&self, scope: ScopeTag, lasts: Duration) {
        self.note(scope, [0, 0, micros(lasts), 0, 0, 0]).await;
    }

    async fn note(&self, scope: ScopeTag, numbers: [i64; 6]) {
        let texts = numbers.map(|number| number.to_string());
        if let Err(error) = self
            .run::<i64>(&self.scripts.note, &self.keys(scope)[..1], &texts)
            .await
        {
            tracing::debug!(%error, "the other replicas were not informed of a quota change");
        }
    }

    /// Holds the call of this name for `after` from now and no longer. Best effort: otherwise it is
    /// held as long as one without a known end.
    pub(super) fn release(&self, scope: ScopeTag, name: &str, after: Duration) {
        let (shared, texts) = (self.clone(), [name.to_owned(), micros(after).to_string()]);
        self.tasks.spawn(async move {
            let keys = shared.keys(scope);
            if let Err(error) = shared
                .run::<i64>(&shared.scripts.release, &keys[1..], &texts)
                .await
            {
                tracing::debug!(%error, "a call is counted for longer than necessary");
            }
        });
    }

    /// In one hash slot, so that a script may use all of them.
    fn keys(&self, scope: ScopeTag) -> [String; 3] {
        let tag = format!("{{q:{}:{}}}", self.whose, hex(&scope.to_bytes()));
        ["q", "w", "b"].map(|part| self.link.key(&[&tag, part]))
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        texts: &[String],
    ) -> Result<T, LinkError> {
        let args: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        self.link.script(script, keys, &args).await
    }
}

/// The arguments of the request script, in its order: numbers, the names of two calls, and numbers.
fn arguments(
    terms: &SharedTerms,
    request: &SlotRequest,
    paces: [Gcra; 3],
    name: &str,
) -> Vec<String> {
    let expected = terms.expected.call.as_ref();
    let names = [name, expected.map_or("", |call| &call.name)];
    let window = window_arguments(terms, request, paces);
    let rules = rule_arguments(terms, request, paces);
    let numbers = window.iter().map(i64::to_string);
    numbers
        .chain(names.map(str::to_owned))
        .chain(rules.iter().map(i64::to_string))
        .collect()
}

/// Arguments 1 to 11: the pace and the windows.
fn window_arguments(
    terms: &SharedTerms,
    request: &SlotRequest,
    [all, share, _]: [Gcra; 3],
) -> [i64; 11] {
    [
        i64::from(request.lane.is_background()),
        all.interval,
        all.tolerance,
        share.interval,
        share.tolerance,
        request.patience.map_or(-1, micros),
        micros(LATENESS),
        i64::from(request.limits.all),
        i64::from(request.limits.background),
        micros(terms.quota.per()),
        micros(terms.hold),
    ]
}

/// The arguments from 14 on: the owner of the call, and what Redis must know.
fn rule_arguments(terms: &SharedTerms, request: &SlotRequest, [.., even]: [Gcra; 3]) -> [i64; 11] {
    let expected = terms.expected.call.as_ref();
    let unknown_for = if request.is_paced {
        terms.unknown_for
    } else {
        // Another scope counts the same call, and has already waited if Redis lost both.
        Duration::ZERO
    };
    [
        micros(terms.reserve_for),
        i64::from(request.proof == CredentialProof::Verified),
        i64::from(request.is_probe),
        i64::from(request.is_made),
        i64::try_from(FORESEEN).unwrap_or(1),
        even.tolerance,
        micros(unknown_for),
        expected.map_or(0, |call| micros(call.held_for)),
        i64::from(terms.expected.is_scope_known),
        micros(SCOPE_KNOWN),
        i64::from(terms.left_to_absent),
    ]
}

fn forecast(quota: &Quota, [all, share, _]: [Gcra; 3], reply: ScriptReply) -> Forecast {
    let (
        _,
        next,
        share_next,
        _,
        _,
        held,
        times,
        share_held,
        share_times,
        is_reserved,
        limit,
        share_limit,
    ) = reply;
    let room = |limit, held, times, next, pace: Gcra| RoomForecast {
        limit,
        free_times: FreeTimes {
            held,
            per: micros(quota.per()),
            times,
        },
        next_calls: NextCalls {
            next,
            interval: pace.interval,
        },
        reserved: Reserved::one_if(is_reserved == 1, limit, quota.burst().get()),
    };
    Forecast::now(
        room(limit, held, times, next, all),
        room(share_limit, share_held, share_times, share_next, share),
    )
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
