//! The count of all replicas: one hash and two sorted sets in Redis for each scope, and as many for
//! the totals over all kinds of calls, changed only by scripts.
//!
//! Defines the names of those keys. As long as Redis keeps the keys, all replicas together stay
//! within the quota. A request ends within the link's timeout. Keys that are no longer needed
//! expire. Time is Redis' clock plus a correction that all replicas share, so the replicas' own
//! clocks need not agree.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::Script;
use tokio_util::task::TaskTracker;

use super::pauses::Pause;
use super::quota::CallKind;
use super::request::{RequestAim, ScopeUpdate, SharedTerms, Slot, SlotReply, SlotRequest};
use super::script::{Gcra, ScriptReply, arguments, forecast, seen_arguments};
use super::totals::PART_OF_DAY;
use super::window::micros;
use crate::clock::{self, Instant};
use crate::domain::ScopeTag;
use crate::redis_link::user::token;
use crate::redis_link::{DataToken, Link, LinkError, NotedPoll, RedisTime, hex};

/// One quota, as all replicas share it.
#[derive(Clone)]
pub(crate) struct SharedQuota {
    link: Link,
    /// The time of the server that has the log. `None` in a cluster, where other servers have the
    /// counts, each with its own clock.
    time: Option<RedisTime>,
    /// The keys of the log by which a script recognizes the data, in the order of the request
    /// script.
    log: [String; 2],
    /// Whether this server has refused to use those keys together with the counts, because they are
    /// in another hash slot.
    is_log_apart: Arc<AtomicBool>,
    tasks: TaskTracker,
    /// The connector.
    whose: String,
    /// The kind of call, if it has a quota of its own.
    kind: Option<&'static str>,
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

/// Gives back a call whose reply was lost, unless its name is taken out first.
struct GiveBackOnDrop<'a> {
    shared: &'a SharedQuota,
    terms: &'a SharedTerms,
    scope: ScopeTag,
    name: Option<String>,
}

impl Drop for GiveBackOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.shared.give_back(self.scope, &name, self.terms);
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
            request: script(include_str!("request.lua")),
            note: script(include_str!("note.lua")),
            release: script(include_str!("release.lua")),
        };
        let (whose, replica) = (hex(&name.as_bytes()[..8]), hex(&token()[..8]));
        Self {
            link,
            tasks,
            time: None,
            log: Default::default(),
            is_log_apart: Arc::default(),
            whose,
            kind: None,
            replica,
            calls: Arc::default(),
            scripts: Arc::new(scripts),
        }
    }

    /// The same quota, counted by `time`. So calls are counted correctly even if somebody changes
    /// Redis' clock. `log` are the keys by which a script recognizes the data that this replica has
    /// seen.
    #[must_use]
    pub(crate) fn by(self, time: RedisTime, log: [String; 2]) -> Self {
        Self {
            time: (!self.link.is_sharded()).then_some(time),
            log,
            ..self
        }
    }

    /// The quota of one kind of call only.
    pub(super) fn of(&self, kind: CallKind) -> Self {
        let kind = match kind {
            CallKind::Search => "search",
            CallKind::Other => "other",
        };
        Self {
            kind: Some(kind),
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
        let name = self.next_name();
        let paces = Gcra::for_request(&terms.quota, request);
        let numbers = arguments(terms, request, paces, &name);
        let mut args: Vec<Vec<u8>> = numbers.into_iter().map(String::into_bytes).collect();
        args.extend(seen_arguments(terms.seen));
        let mut undelivered = GiveBackOnDrop {
            shared: self,
            terms,
            scope: request.scope,
            // A call that was already made always counts, and a look makes none.
            name: (request.aim == RequestAim::Spend).then(|| name.clone()),
        };
        let (script, keys) = (&self.scripts.request, self.request_keys(request.scope));
        let mut reply = self.run(script, &keys, &args).await;
        if reply.as_ref().is_err_and(is_log_apart) {
            // A cluster's node used as a single server.
            self.is_log_apart.store(true, Ordering::Relaxed);
            let keys = self.request_keys(request.scope);
            reply = self.run(script, &keys, &args).await;
        }
        let reply: ScriptReply = reply?;
        undelivered.name = None;
        let (is_granted, [pause_of_all, pause_of_background]) = (reply.is_granted, reply.pauses);
        let is_pause_known = pause_of_all >= 0;
        let slot = Slot {
            name: Some(name),
            ..Slot::granted(request, until, clock::now())
        };
        Ok(SlotReply {
            granted: is_granted.then_some(slot),
            forecast: forecast(terms, paces, reply),
            pause: is_pause_known.then(|| Pause {
                all: duration(pause_of_all),
                background: duration(pause_of_background),
                is_over: false,
            }),
        })
    }

    /// What this replica has seen in Redis. `None` if a script cannot compare it with the data.
    pub(super) fn seen(&self) -> Option<(DataToken, NotedPoll)> {
        self.time.as_ref().and_then(RedisTime::seen)
    }

    /// The keys of the request script.
    fn request_keys(&self, scope: ScopeTag) -> Vec<String> {
        let has_log = self.time.is_some() && !self.is_log_apart.load(Ordering::Relaxed);
        let log = if has_log { &self.log[..] } else { &[] };
        [&self.keys(scope)[..], log].concat()
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

    /// Holds the call of this name for `after` from now and no longer, and takes it from the wire.
    /// Best effort: otherwise it is held as long as one without a known end.
    pub(super) fn release(&self, slot: &Slot, name: &str, after: Duration) {
        let numbers = [micros(after), i64::from(slot.is_background)];
        self.free(slot.scope, name, &numbers);
    }

    /// The call of this name was not made and counts nowhere. Best effort, as a release.
    pub(super) fn give_back(&self, scope: ScopeTag, name: &str, terms: &SharedTerms) {
        let numbers = [
            -1,
            0,
            micros(terms.hold),
            micros(terms.call_timeout),
            micros(PART_OF_DAY),
        ];
        self.free(scope, name, &numbers);
    }

    fn free(&self, scope: ScopeTag, name: &str, numbers: &[i64]) {
        let shared = self.clone();
        let numbers = numbers.iter().map(i64::to_string);
        let texts: Vec<String> = std::iter::once(name.to_owned()).chain(numbers).collect();
        self.tasks.spawn(async move {
            let keys = shared.keys(scope);
            if let Err(error) = shared
                .run::<i64>(&shared.scripts.release, &keys, &texts)
                .await
            {
                tracing::debug!(%error, "a call is counted for longer than necessary");
            }
        });
    }

    /// In one hash slot, so that a script may use all of them.
    fn keys(&self, scope: ScopeTag) -> [String; 6] {
        let tag = format!("{{q:{}:{}}}", self.whose, hex(&scope.to_bytes()));
        let of_all_kinds = |part| self.link.key(&[&tag, part]);
        let own = |part| match self.kind {
            None => of_all_kinds(part),
            Some(kind) => self.link.key(&[&tag, kind, part]),
        };
        [
            own("q"),
            own("w"),
            own("b"),
            of_all_kinds("t"),
            of_all_kinds("p"),
            of_all_kinds("pb"),
        ]
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        texts: &[impl AsRef<[u8]>],
    ) -> Result<T, LinkError> {
        let time = self.time.as_ref();
        let time = time.map(|time| time.expected(self.link.timeout()));
        let time = time.unwrap_or_default().map(|micros| micros.to_string());
        let time = time.iter().map(String::as_bytes);
        let args: Vec<&[u8]> = texts.iter().map(AsRef::as_ref).chain(time).collect();
        self.link.script(script, keys, &args).await
    }
}

fn script(body: &str) -> Script {
    Script::new(&[include_str!("clock.lua"), body].concat())
}

/// Whether the log is in another hash slot than the counts.
fn is_log_apart(error: &LinkError) -> bool {
    matches!(error, LinkError::Failed(code) if code.as_str() == "CROSSSLOT")
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
