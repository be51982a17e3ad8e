//! Where the calls are counted: in Redis for all replicas, or here within this replica's share.
//!
//! Owns the choice between the two and the language in which both answer. Knows no queue and no pause of its own.

use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::Config;
use super::allowed::NewLimit;
use super::hint::Rest;
use super::local::Local;
use super::past::{self, Count, Past, Replicas};
use super::queue::{Ahead, Standing};
use super::quota::{Limits, Quota, Scope};
use super::shared::{Known, SharedQuota, Times};
use super::window::Frees;
use crate::clock::{Instant, instant};
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;

/// When a pace has its next calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Forecast {
    /// Microseconds until the next call is due. Zero or negative if a call is due now: one interval lower for each
    /// further call that is due.
    pub(crate) next: i64,
    /// Microseconds between calls.
    pub(crate) interval: i64,
}

impl Forecast {
    /// Microseconds until a call is due for whoever has `ahead` others before him.
    pub(super) fn behind(self, ahead: usize) -> i64 {
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        self.next.saturating_add(self.interval.saturating_mul(ahead))
    }
}

/// Whole microseconds, the unit of forecasts: what Redis tells time in.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Who asks for a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(crate) scope: ScopeTag,
    pub(crate) lane: Lane,
    /// How many calls the window may hold.
    pub(crate) limits: Limits,
    pub(crate) standing: Standing,
    /// Whether it asks although the CRM wants a rest.
    pub(crate) is_probe: bool,
    /// Whether it goes at the pace of the quota, and not only within the window.
    pub(crate) is_paced: bool,
    /// How long it would wait; `None` for however long.
    pub(crate) patience: Option<Duration>,
    /// Whether the call is made already and only to be counted.
    pub(crate) is_made: bool,
}

/// When there is room for a call, in one kind of lanes.
#[derive(Debug, Clone, Default)]
pub(super) struct Room {
    pub(crate) limit: u32,
    pub(crate) frees: Frees,
    pub(crate) pace: Forecast,
    /// How many calls of the window, and of a burst, are kept for proven credentials.
    pub(crate) kept: Kept,
}

/// See [`Room::kept`]. The only call of a window or a burst cannot be kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    window: usize,
    burst: usize,
}

impl Kept {
    pub(super) fn one(limit: u32, burst: u32) -> Self {
        Self { window: usize::from(limit > 1), burst: usize::from(burst > 1) }
    }
}

impl Room {
    /// Microseconds until there is room for whoever has `ahead` others before him. Zero if there is room now.
    fn in_micros(&self, ahead: usize, kept: Kept) -> i64 {
        let free = self.frees.room_in(self.limit, ahead.saturating_add(kept.window));
        free.max(self.pace.behind(ahead.saturating_add(kept.burst))).max(0)
    }
}

/// When there will be room, as far as a limiter knew when it was asked.
#[derive(Debug, Clone)]
pub(super) struct Outlook {
    seen: Instant,
    all: Room,
    background: Room,
}

impl Outlook {
    /// An outlook of this moment.
    pub(super) fn now(all: Room, background: Room) -> Self {
        Self { seen: instant(), all, background }
    }

    /// Nobody knows, or looks again, before `wait` is over.
    pub(super) fn after(wait: Duration) -> Self {
        let pace = Forecast { next: micros(wait), interval: 0 };
        let room = Room { limit: u32::MAX, pace, ..Room::default() };
        Self::now(room.clone(), room)
    }

    /// Time until there is room for a waiter behind others. A background lane needs room in both.
    pub(super) fn wait(&self, (lane, standing): (Lane, Standing), ahead: Ahead, now: Instant) -> Duration {
        let kept = |room: &Room| if standing == Standing::Unproven { room.kept } else { Kept::default() };
        let mut micros = self.all.in_micros(ahead.all, kept(&self.all));
        if lane.is_background() {
            micros = micros.max(self.background.in_micros(ahead.background, kept(&self.background)));
        }
        let from_seen = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        from_seen.saturating_sub(now.saturating_duration_since(self.seen))
    }
}

/// A call that the windows hold.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(crate) scope: ScopeTag,
    pub(crate) is_background: bool,
    /// Until when, unless it is released.
    pub(crate) until: Instant,
    /// Its name in Redis, if it is counted there.
    pub(crate) name: Option<String>,
}

/// What a limiter answers.
#[derive(Debug)]
pub(super) struct Answer {
    /// The call, if there is room. A denied ask spends nothing.
    pub(crate) granted: Option<Slot>,
    /// What comes next.
    pub(crate) outlook: Outlook,
    /// Pauses that other replicas have set.
    pub(crate) rest: Rest,
}

impl Answer {
    fn denied(outlook: Outlook) -> Self {
        Self { granted: None, outlook, rest: Rest::default() }
    }
}

/// What the other replicas should hear of a scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct News {
    pub(crate) rest: Rest,
    /// How many calls the CRM allows now.
    pub(crate) limit: Option<NewLimit>,
}

/// The limiter of one quota.
#[derive(Debug)]
pub(super) struct Limiter {
    terms: RwLock<Terms>,
    /// The longest time after its permit at which a call may still arrive.
    call_timeout: Duration,
    local: Local,
    shared: Option<SharedQuota>,
    past: Mutex<Past>,
}

/// What the settings say; changes at run time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Terms {
    quota: Quota,
    /// How long the windows hold a call of which nothing is heard any more.
    hold: Duration,
    /// For how long after a proven call one call of each window is kept for proven credentials.
    keeps_one_for: Duration,
}

impl Terms {
    fn new(quota: Quota, call_timeout: Duration, admitted: Duration) -> Self {
        // Nobody else's credential counts in the quota of a user.
        let keeps_one_for = if quota.scope() == Scope::Account { admitted } else { Duration::ZERO };
        Self { quota, hold: call_timeout + quota.per(), keeps_one_for }
    }

    fn times(&self) -> Times {
        let unknown_for = past::unknown_for(self.quota.per());
        Times { hold: self.hold, keeps_one_for: self.keeps_one_for, unknown_for }
    }
}

impl Limiter {
    pub(super) fn new(quota: Quota, config: &Config, shared: Option<SharedQuota>) -> Self {
        let past = Mutex::new(Past::new(&quota, config, shared.is_some(), instant()));
        let terms = RwLock::new(Terms::new(quota, config.call_timeout, config.admitted));
        let local = Local::new(&quota, config.replicas);
        Self { terms, call_timeout: config.call_timeout, local, shared, past }
    }

    fn terms(&self) -> Terms {
        *self.terms.read()
    }

    /// Other settings hold from the next ask on, but for the quota's scope. Calls that are held stay so. If `forgets`,
    /// or if windows become longer, the past is one that nobody remembers. True if anything changes.
    pub(super) fn set(&self, quota: Quota, admitted: Duration, forgets: bool) -> bool {
        let quota = quota.of(self.quota().scope());
        let new = Terms::new(quota, self.call_timeout, admitted);
        let before = std::mem::replace(&mut *self.terms.write(), new);
        if forgets || new.quota.per() > before.quota.per() {
            self.past.lock().forget(new.quota.per(), instant());
        }
        if new.quota != before.quota {
            self.local.follow(&new.quota);
        }
        forgets || new != before
    }

    /// Whether all calls are made here, as far as known.
    pub(super) fn is_alone(&self) -> bool {
        self.shared.is_none()
    }

    pub(super) fn quota(&self) -> Quota {
        self.terms().quota
    }

    /// Asks for a call. Never two asks for one scope at a time.
    ///
    /// Ends at once, or within the timeout of the link to Redis.
    pub(super) async fn ask(&self, ask: &Ask) -> Answer {
        let terms = self.terms();
        let until = instant() + terms.hold;
        let count = self.past.lock().count(instant());
        let count = self.local.count_of(ask.scope, count);
        match (&self.shared, count) {
            _ if ask.is_made => self.count_made(ask, until).await,
            (_, Count::Unknown(wait)) => Answer::denied(Outlook::after(wait)),
            (Some(shared), Count::Shared) => self.ask_shared(shared, ask, until).await,
            (Some(shared), Count::SharedWithinShare) => {
                let outlook = self.local.outlook_of_share(&terms.quota, ask);
                match outlook.wait((ask.lane, ask.standing), Ahead::default(), instant()) {
                    Duration::ZERO => self.ask_shared(shared, ask, until).await,
                    _ => Answer::denied(outlook),
                }
            }
            (_, Count::Own | Count::Shared | Count::SharedWithinShare) => {
                self.local.ask(&terms.quota, terms.keeps_one_for, ask, until)
            }
        }
    }

    async fn ask_shared(&self, shared: &SharedQuota, ask: &Ask, until: Instant) -> Answer {
        let (terms, absent) = (self.terms(), self.past.lock().absent(instant()));
        let left = ask.limits.all - ask.limits.leaving(absent).all;
        let known = self.local.known(ask.scope, terms.quota.per());
        let Ok(answer) = shared.ask(&terms.quota, &terms.times(), ask, (left, &known), until).await else {
            let wait = self.past.lock().outage();
            self.local.was_not_answered(ask.scope, wait);
            return Answer::denied(Outlook::after(Duration::ZERO));
        };
        self.local.was_answered(ask.scope, &terms.quota);
        if let Some(slot) = &answer.granted {
            self.local.hold(slot);
        }
        answer
    }

    /// Counts a call that nobody was asked for, whether there is room or not.
    async fn count_made(&self, ask: &Ask, until: Instant) -> Answer {
        let terms = self.terms();
        let slot = Slot { scope: ask.scope, is_background: ask.lane.is_background(), until, name: None };
        let named = match &self.shared {
            Some(shared) => shared
                .ask(&terms.quota, &terms.times(), ask, (0, &Known::default()), until)
                .await
                .ok()
                .and_then(|answer| answer.granted),
            None => None,
        };
        let slot = named.unwrap_or(slot);
        self.local.hold(&slot);
        Answer { granted: Some(slot), outlook: Outlook::after(Duration::ZERO), rest: Rest::default() }
    }

    /// The call has had its reply at `at`, or its connection broke: it is counted for one window more from then.
    pub(super) fn release(&self, slot: &Slot, at: Instant) {
        self.free(slot, (at + self.quota().per()).saturating_duration_since(instant()));
    }

    /// The call was not made.
    pub(super) fn give_back(&self, slot: &Slot) {
        self.free(slot, Duration::ZERO);
    }

    fn free(&self, slot: &Slot, after: Duration) {
        self.local.release(slot, instant() + after);
        if let (Some(shared), Some(name)) = (&self.shared, &slot.name) {
            shared.release(slot.scope, name, after);
        }
    }

    /// Tells the other replicas. Best effort.
    pub(super) async fn tell(&self, scope: ScopeTag, news: News) {
        if let Some(shared) = &self.shared {
            shared.tell(scope, &news).await;
        }
    }

    /// A credential of the scope is proven: one call of each window is kept for such ones for a while.
    pub(super) async fn keep_one(&self, scope: ScopeTag) {
        let keeps_one_for = self.terms().keeps_one_for;
        if keeps_one_for.is_zero() {
            return;
        }
        self.local.keep_one(scope, instant() + keeps_one_for);
        if let Some(shared) = &self.shared {
            shared.keep_one(scope, keeps_one_for).await;
        }
    }

    /// What Redis said of the replicas. True if whoever waits should look again. Nothing is shared without Redis.
    pub(super) fn heard(&self, replicas: &Replicas) -> bool {
        if self.shared.is_none() {
            return false;
        }
        let (changes_count, began_anew) = {
            let mut past = self.past.lock();
            let before = past.kept_since();
            (past.heard(replicas, instant()), before.is_some() && before != past.kept_since())
        };
        if began_anew {
            // All counts are lost and waited for at once, not again in each scope.
            self.local.forget_known();
        }
        self.local.divide(&self.quota(), replicas.count) || changes_count
    }

    /// Redis did not say anything of the replicas.
    pub(super) fn unheard(&self) {
        self.past.lock().lost(instant());
    }

    /// Forgets the scopes that hold nothing.
    pub(super) fn sweep(&self) {
        self.local.sweep();
    }

    /// Scopes remembered here.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.local.len()
    }
}
