//! Where the calls are counted: in Redis for all replicas, or here within this replica's share.
//!
//! Owns the choice between the two. Knows no queue and no pause of its own.

use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::Config;
use super::ask::{Answer, Ask, Known, News, Outlook, Slot, Times};
use super::hint::Rest;
use super::local::Local;
use super::past::{self, Count, Past, Replicas};
use super::queue::Ahead;
use super::quota::{Quota, Scope};
use super::shared::SharedQuota;
use crate::clock::{self, Instant};
use crate::domain::ScopeTag;

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
        let keeps_one_for = if quota.scope() == Scope::Account {
            admitted
        } else {
            Duration::ZERO
        };
        Self {
            quota,
            hold: call_timeout + quota.per(),
            keeps_one_for,
        }
    }

    fn times(&self) -> Times {
        let unknown_for = past::unknown_for(self.quota.per());
        Times {
            hold: self.hold,
            keeps_one_for: self.keeps_one_for,
            unknown_for,
        }
    }
}

impl Limiter {
    pub(super) fn new(quota: Quota, config: &Config, shared: Option<SharedQuota>) -> Self {
        let past = Mutex::new(Past::new(&quota, config, shared.is_some(), clock::now()));
        let terms = RwLock::new(Terms::new(quota, config.call_timeout, config.admitted));
        let local = Local::new(&quota, config.replicas);
        Self {
            terms,
            call_timeout: config.call_timeout,
            local,
            shared,
            past,
        }
    }

    fn terms(&self) -> Terms {
        *self.terms.read()
    }

    /// Other settings hold from the next ask on, but for the quota's scope. Calls that are held
    /// stay so. If `forgets`, or if windows become longer, the past is one that nobody remembers.
    /// True if anything changes.
    pub(super) fn set(&self, quota: Quota, admitted: Duration, forgets: bool) -> bool {
        let quota = quota.of(self.quota().scope());
        let new = Terms::new(quota, self.call_timeout, admitted);
        let before = std::mem::replace(&mut *self.terms.write(), new);
        if forgets || new.quota.per() > before.quota.per() {
            self.past.lock().forget(new.quota.per(), clock::now());
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
        let until = clock::now() + terms.hold;
        let count = self.past.lock().count(clock::now());
        let count = self.local.count_of(ask.scope, count);
        match (&self.shared, count) {
            _ if ask.is_made => self.count_made(ask, until).await,
            (_, Count::Unknown(wait)) => Answer::denied(Outlook::after(wait)),
            (Some(shared), Count::Shared) => self.ask_shared(shared, ask, until).await,
            (Some(shared), Count::SharedWithinShare) => {
                let outlook = self.local.outlook_of_share(&terms.quota, ask);
                match outlook.wait((ask.lane, ask.standing), Ahead::default(), clock::now()) {
                    Duration::ZERO => self.ask_shared(shared, ask, until).await,
                    _ => Answer::denied(outlook),
                }
            }
            (_, Count::Own | Count::Shared | Count::SharedWithinShare) => {
                self.local
                    .ask(&terms.quota, terms.keeps_one_for, ask, until)
            }
        }
    }

    async fn ask_shared(&self, shared: &SharedQuota, ask: &Ask, until: Instant) -> Answer {
        let (terms, absent) = (self.terms(), self.past.lock().absent(clock::now()));
        let left = ask.limits.all - ask.limits.leaving(absent).all;
        let known = self.local.known(ask.scope, terms.quota.per());
        let Ok(answer) = shared
            .ask(&terms.quota, &terms.times(), ask, (left, &known), until)
            .await
        else {
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
        let slot = Slot {
            scope: ask.scope,
            is_background: ask.lane.is_background(),
            until,
            name: None,
            probe: None,
        };
        let named = match &self.shared {
            Some(shared) => shared
                .ask(
                    &terms.quota,
                    &terms.times(),
                    ask,
                    (0, &Known::default()),
                    until,
                )
                .await
                .ok()
                .and_then(|answer| answer.granted),
            None => None,
        };
        let slot = named.unwrap_or(slot);
        self.local.hold(&slot);
        Answer {
            granted: Some(slot),
            outlook: Outlook::after(Duration::ZERO),
            rest: Rest::default(),
        }
    }

    /// The call has had its reply at `at`, or its connection broke: it is counted for one window
    /// more from then.
    pub(super) fn release(&self, slot: &Slot, at: Instant) {
        self.free(
            slot,
            (at + self.quota().per()).saturating_duration_since(clock::now()),
        );
    }

    /// The call was not made.
    pub(super) fn give_back(&self, slot: &Slot) {
        self.free(slot, Duration::ZERO);
    }

    fn free(&self, slot: &Slot, after: Duration) {
        self.local.release(slot, clock::now() + after);
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

    /// A credential of the scope is proven: one call of each window is kept for such ones for a
    /// while.
    pub(super) async fn keep_one(&self, scope: ScopeTag) {
        let keeps_one_for = self.terms().keeps_one_for;
        if keeps_one_for.is_zero() {
            return;
        }
        self.local.keep_one(scope, clock::now() + keeps_one_for);
        if let Some(shared) = &self.shared {
            shared.keep_one(scope, keeps_one_for).await;
        }
    }

    /// What Redis said of the replicas. True if whoever waits should look again. Nothing is shared
    /// without Redis.
    pub(super) fn heard(&self, replicas: &Replicas) -> bool {
        if self.shared.is_none() {
            return false;
        }
        let (changes_count, began_anew) = {
            let mut past = self.past.lock();
            let before = past.kept_since();
            (
                past.heard(replicas, clock::now()),
                before.is_some() && before != past.kept_since(),
            )
        };
        if began_anew {
            // All counts are lost and waited for at once, not again in each scope.
            self.local.forget_known();
        }
        self.local.divide(&self.quota(), replicas.count) || changes_count
    }

    /// Redis did not say anything of the replicas.
    pub(super) fn unheard(&self) {
        self.past.lock().lost(clock::now());
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
