//! The fleet's count: one hash and two sorted sets in Redis for each scope, changed by scripts only.
//!
//! Owns the names of those keys and the scripts' arguments. Promises that all replicas together spend no more than the
//! quota while Redis keeps the keys, that an ask ends within the link's timeout, and that keys which say nothing any
//! more expire. Time is Redis' own: the replicas' clocks need not agree.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::Script;
use tokio_util::task::TaskTracker;

use super::hint::Rest;
use super::limiter::{Answer, Ask, Forecast, Kept, Outlook, Room, Slot, micros};
use super::queue::Standing;
use super::quota::{CallKind, Pace, Quota};
use super::window::{FORESEEN, Frees};
use crate::clock::Instant;
use crate::domain::ScopeTag;
use crate::link::user::token;
use crate::link::{Link, LinkError, hex};

/// How much later than its turn a call pop may come back and still find the background lanes standing aside. If it never
/// comes back, they have waited this long for nothing.
const LATENESS: Duration = Duration::from_millis(100);

/// One quota, as all replicas share it.
#[derive(Clone)]
pub struct SharedQuota {
    link: Link,
    tasks: TaskTracker,
    /// The connector, and the kind of call if it has a quota of its own.
    whose: String,
    /// What the names of this replica's calls begin with.
    replica: String,
    calls: Arc<AtomicU64>,
    scripts: Arc<Scripts>,
}

struct Scripts {
    ask: Script,
    pause: Script,
    release: Script,
}

impl fmt::Debug for SharedQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedQuota").field("whose", &self.whose).finish_non_exhaustive()
    }
}

/// Times of a quota that do not change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// How long a call is held of which nothing is heard any more.
    pub hold: Duration,
    /// For how long after a proven call one call of each window is kept for proven credentials.
    pub keeps_one_for: Duration,
}

/// What the ask script returns; see there.
type Reply = (i64, i64, i64, i64, i64, u32, Vec<i64>, u32, Vec<i64>, u32);

impl SharedQuota {
    /// The quota of the connector called `connector`, which must be called so on all replicas. What nobody waits for
    /// is sent from `tasks`.
    #[must_use]
    pub fn new(link: Link, connector: &str, tasks: TaskTracker) -> Self {
        // A hash, because a connector's name may hold what would move the key to another slot.
        let name = blake3::hash(connector.as_bytes());
        let scripts = Scripts {
            ask: Script::new(include_str!("ask.lua")),
            pause: Script::new(include_str!("pause.lua")),
            release: Script::new(include_str!("release.lua")),
        };
        let (whose, replica) = (hex(&name.as_bytes()[..8]), hex(&token()[..8]));
        Self { link, tasks, whose, replica, calls: Arc::default(), scripts: Arc::new(scripts) }
    }

    /// The quota of one kind of call alone.
    pub(super) fn of(&self, kind: CallKind) -> Self {
        let kind = match kind {
            CallKind::Search => "search",
            CallKind::Other => "other",
        };
        Self { whose: format!("{}:{kind}", self.whose), ..self.clone() }
    }

    /// Spends a call if there is room. A call pop that is denied and would wait makes the background lanes of all
    /// replicas stand aside.
    ///
    /// # Errors
    /// [`LinkError`], within the link's timeout. The call may have been spent all the same.
    pub(super) async fn ask(
        &self,
        quota: &Quota,
        times: Times,
        ask: &Ask,
        until: Instant,
    ) -> Result<Answer, LinkError> {
        let is_background = ask.lane.is_background();
        let (all, share) = (quota.all(), quota.background());
        let name = format!("{}:{}", self.replica, self.calls.fetch_add(1, Ordering::Relaxed));
        let keeps = match ask.standing {
            Standing::Proven => micros(times.keeps_one_for),
            Standing::Unproven => -1,
        };
        let numbers = [
            i64::from(is_background),
            micros(all.interval),
            micros(all.tolerance()),
            micros(share.interval),
            micros(share.tolerance()),
            ask.patience.map_or(-1, micros),
            micros(LATENESS),
            i64::from(ask.limits.all),
            i64::from(ask.limits.background),
            micros(quota.per()),
            micros(times.hold),
        ];
        let flags = [
            keeps,
            i64::from(ask.is_probe),
            i64::from(ask.is_made),
            i64::try_from(FORESEEN).unwrap_or(1),
            micros(quota.even().tolerance()),
        ];
        let texts = numbers.iter().map(i64::to_string);
        let texts: Vec<String> = texts.chain([name.clone()]).chain(flags.iter().map(i64::to_string)).collect();
        let reply: Reply = self.run(&self.scripts.ask, &self.keys(ask.scope), &texts).await?;
        let (granted, next, share_next, rest, share_rest, held, free, share_held, share_free, keeps_one) = reply;
        let room = |limit, held, times, next, pace: Pace| Room {
            limit,
            frees: Frees { held, per: micros(quota.per()), times },
            pace: Forecast { next, interval: micros(pace.interval) },
            kept: if keeps_one == 1 { Kept::one(limit, pace.burst.get()) } else { Kept::default() },
        };
        let outlook = Outlook::now(
            room(ask.limits.all, held, free, next, all),
            room(ask.limits.background, share_held, share_free, share_next, share),
        );
        let slot = Slot { scope: ask.scope, is_background, until, name: Some(name) };
        let rest = Rest { all: duration(rest), background: duration(share_rest), is_over: false };
        Ok(Answer { granted: (granted == 1).then_some(slot), outlook, rest })
    }

    /// Lets the scope rest on all replicas, or rest no more. Best effort: if Redis is away, only this replica rests.
    pub(super) async fn pause(&self, scope: ScopeTag, rest: Rest) {
        let all = if rest.is_over { -1 } else { micros(rest.all) };
        self.tell(scope, [all, micros(rest.background), 0]).await;
    }

    /// Keeps a call of each window for credentials that are proven, for so long. Best effort.
    pub(super) async fn keep_one(&self, scope: ScopeTag, lasts: Duration) {
        self.tell(scope, [0, 0, micros(lasts)]).await;
    }

    async fn tell(&self, scope: ScopeTag, numbers: [i64; 3]) {
        let texts = numbers.map(|number| number.to_string());
        if let Err(error) = self.run::<i64>(&self.scripts.pause, &self.keys(scope)[..1], &texts).await {
            tracing::debug!(%error, "the other replicas do not hear what a reply means for the quota");
        }
    }

    /// The call of this name is held for `after` from now and no longer. Best effort: else it is held for as long as
    /// one of which nothing is heard.
    pub(super) fn release(&self, scope: ScopeTag, name: &str, after: Duration) {
        let (shared, texts) = (self.clone(), [name.to_owned(), micros(after).to_string()]);
        self.tasks.spawn(async move {
            let keys = shared.keys(scope);
            if let Err(error) = shared.run::<i64>(&shared.scripts.release, &keys[1..], &texts).await {
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

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
