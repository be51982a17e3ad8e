//! The fleet's count: one hash and two sorted sets in Redis for each scope, changed by scripts
//! only.
//!
//! Owns the names of those keys and the scripts' arguments. Promises that all replicas together
//! spend no more than the quota while Redis keeps the keys, that an ask ends within the link's
//! timeout, and that keys which say nothing any more expire. Time is Redis' own: the replicas'
//! clocks need not agree.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::Script;
use tokio_util::task::TaskTracker;

use super::ask::{
    SlotReply, SlotRequest, NextCalls, Reserved, ExpectedInRedis, ScopeUpdate, Forecast, RoomForecast, SCOPE_KNOWN, Slot, HoldTimes,
};
use super::hint::Pause;
use super::queue::CredentialProof;
use super::quota::{CallKind, TokenBucket, Quota};
use super::window::{FORESEEN, FreeTimes, micros};
use crate::clock::Instant;
use crate::domain::ScopeTag;
use crate::redis_link::user::token;
use crate::redis_link::{Link, LinkError, hex};

/// How much later than its turn a call pop may come back and still find the background lanes
/// standing aside. If it never comes back, they have waited this long for nothing.
const LATENESS: Duration = Duration::from_millis(100);

/// One quota, as all replicas share it.
#[derive(Clone)]
pub(crate) struct SharedQuota {
    link: Link,
    tasks: TaskTracker,
    /// The connector, and the kind of call if it has a quota of its own.
    whose: String,
    /// What the names of this replica's calls begin with.
    replica: String,
    calls: Arc<AtomicU64>,
    scripts: Arc<QuotaScripts>,
}

struct QuotaScripts {
    ask: Script,
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

/// What the ask script returns; see there.
type AskReply = (
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

/// A pace as the ask script takes it, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Gcra {
    interval: i64,
    tolerance: i64,
}

impl Gcra {
    /// Of all lanes, of the share, and of all for the background lanes. Whoever is not paced may
    /// run ahead by a whole window, and takes nothing of the pace.
    fn of_ask(quota: &Quota, ask: &SlotRequest) -> [Self; 3] {
        let paces = [quota.all(), quota.background(), quota.even()];
        if ask.is_paced {
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

/// Gives a call back that may have been granted unheard; disarmed by taking its name.
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
    /// The quota of the connector called `connector`, which must be called so on all replicas. What
    /// nobody waits for is sent from `tasks`.
    #[must_use]
    pub(crate) fn new(link: Link, connector: &str, tasks: TaskTracker) -> Self {
        // A hash, because a connector's name may hold what would move the key to another slot.
        let name = blake3::hash(connector.as_bytes());
        let scripts = QuotaScripts {
            ask: Script::new(include_str!("ask.lua")),
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

    /// The quota of one kind of call alone.
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

    /// Spends a call if there is room, and leaves so many calls of a window to replicas that are
    /// absent. What is `known` Redis must know. A call pop that is denied and would wait makes the
    /// background lanes of all replicas stand aside.
    ///
    /// # Errors
    /// [`LinkError`], within the link's timeout. A call that was spent all the same is given back,
    /// and so is that of a future which is dropped.
    pub(super) async fn ask(
        &self,
        quota: &Quota,
        times: &HoldTimes,
        ask: &SlotRequest,
        (left, known): (u32, &ExpectedInRedis),
        until: Instant,
    ) -> Result<SlotReply, LinkError> {
        let name = format!(
            "{}:{}",
            self.replica,
            self.calls.fetch_add(1, Ordering::Relaxed)
        );
        let paces = Gcra::of_ask(quota, ask);
        let texts = texts((quota, times, left), ask, paces, &name, known);
        // What is made already counts in any case.
        let undelivered = (!ask.is_made).then(|| name.clone());
        let mut undelivered = GiveBackOnDrop {
            shared: self,
            scope: ask.scope,
            name: undelivered,
        };
        let reply: AskReply = self
            .run(&self.scripts.ask, &self.keys(ask.scope), &texts)
            .await?;
        undelivered.name = None;
        let (is_granted, rest) = (reply.0 == 1, (reply.3, reply.4));
        let slot = Slot {
            scope: ask.scope,
            is_background: ask.lane.is_background(),
            until,
            name: Some(name),
            probe: None,
        };
        let rest = Pause {
            all: duration(rest.0),
            background: duration(rest.1),
            is_over: false,
        };
        Ok(SlotReply {
            granted: is_granted.then_some(slot),
            forecast: forecast(quota, paces, reply),
            rest,
        })
    }

    /// Lets the scope rest on all replicas, or rest no more, and tells them of a new limit. Best
    /// effort: if Redis is away, only this replica knows.
    pub(super) async fn publish(&self, scope: ScopeTag, ScopeUpdate { rest, limit }: &ScopeUpdate) {
        let all = if rest.is_over { -1 } else { micros(rest.all) };
        let limit = limit.map_or([0; 3], |new| {
            [
                i64::from(new.limit),
                micros(new.lasts),
                i64::from(new.before),
            ]
        });
        self.note(
            scope,
            [
                all,
                micros(rest.background),
                0,
                limit[0],
                limit[1],
                limit[2],
            ],
        )
        .await;
    }

    /// Keeps a call of each window for credentials that are proven, for so long. Best effort.
    pub(super) async fn reserve_one(&self, scope: ScopeTag, lasts: Duration) {
        self.note(scope, [0, 0, micros(lasts), 0, 0, 0]).await;
    }

    async fn note(&self, scope: ScopeTag, numbers: [i64; 6]) {
        let texts = numbers.map(|number| number.to_string());
        if let Err(error) = self
            .run::<i64>(&self.scripts.note, &self.keys(scope)[..1], &texts)
            .await
        {
            tracing::debug!(%error, "the other replicas do not hear what a reply means for the quota");
        }
    }

    /// The call of this name is held for `after` from now and no longer. Best effort: else it is
    /// held for as long as one of which nothing is heard.
    pub(super) fn release(&self, scope: ScopeTag, name: &str, after: Duration) {
        let (shared, texts) = (self.clone(), [name.to_owned(), micros(after).to_string()]);
        self.tasks.spawn(async move {
            let keys = shared.keys(scope);
            if let Err(error) = shared
                .run::<i64>(&shared.scripts.release, &keys[1..], &texts)
                .await
            {
                tracing::debug!(%error, "a call is counted for longer than it had to");
            }
        });
    }

    /// One hash slot, so that a script may touch them all.
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

/// The ask script's arguments, in its order.
fn texts(
    (quota, times, left): (&Quota, &HoldTimes, u32),
    ask: &SlotRequest,
    [all, share, even]: [Gcra; 3],
    name: &str,
    known: &ExpectedInRedis,
) -> Vec<String> {
    let last = known.last.as_ref();
    let numbers = [
        i64::from(ask.lane.is_background()),
        all.interval,
        all.tolerance,
        share.interval,
        share.tolerance,
        ask.patience.map_or(-1, micros),
        micros(LATENESS),
        i64::from(ask.limits.all),
        i64::from(ask.limits.background),
        micros(quota.per()),
        micros(times.hold),
    ];
    let flags = [
        micros(times.reserve_for),
        i64::from(ask.proof == CredentialProof::Proven),
        i64::from(ask.is_probe),
        i64::from(ask.is_made),
        i64::try_from(FORESEEN).unwrap_or(1),
        even.tolerance,
        // Another scope counts the same call, and has waited already if Redis lost both.
        if ask.is_paced {
            micros(times.unknown_for)
        } else {
            0
        },
        last.map_or(0, |last| micros(last.held_for)),
        i64::from(known.scope),
        micros(SCOPE_KNOWN),
        i64::from(left),
    ];
    let names = [name, last.map_or("", |last| &last.name)];
    let numbers = numbers.iter().map(i64::to_string);
    numbers
        .chain(names.map(str::to_owned))
        .chain(flags.iter().map(i64::to_string))
        .collect()
}

fn forecast(quota: &Quota, [all, share, _]: [Gcra; 3], reply: AskReply) -> Forecast {
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
        frees: FreeTimes {
            held,
            per: micros(quota.per()),
            times,
        },
        pace: NextCalls {
            next,
            interval: pace.interval,
        },
        kept: if is_reserved == 1 {
            Reserved::one(limit, quota.burst().get())
        } else {
            Reserved::default()
        },
    };
    Forecast::now(
        room(limit, held, times, next, all),
        room(share_limit, share_held, share_times, share_next, share),
    )
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
