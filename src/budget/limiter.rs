//! Decides where calls are counted: in Redis for all replicas, or here within this replica's share.
//!
//! Does not know about queues and pauses.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::BudgetConfig;
use super::forecast::Forecast;
use super::held::TotalsHeld;
use super::local::LocalLimiter;
use super::past::{self, CountSource, Past, Replicas};
use super::quota::{Quota, Scope};
use super::request::{
    ExpectedInRedis, RequestAim, ScopeUpdate, SharedTerms, Slot, SlotReply, SlotRequest,
};
use super::shared::SharedQuota;
use super::totals::TotalCounts;
use crate::clock::{self, Instant};
use crate::domain::ScopeTag;
use crate::redis_link::{DataToken, NotedPoll};

/// The limiter of one quota.
#[derive(Debug)]
pub(super) struct QuotaLimiter {
    settings: RwLock<LimiterSettings>,
    /// The longest time after the permit at which a call may still arrive.
    call_timeout: Duration,
    local: LocalLimiter,
    shared: Option<SharedQuota>,
    past: Mutex<Past>,
}

/// The values that the settings determine, which change at run time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LimiterSettings {
    pub(super) quota: Quota,
    /// How long the windows hold a call without a known end.
    pub(super) hold: Duration,
    /// How long after a verified call one call of each window is reserved for verified credentials.
    pub(super) reserve_for: Duration,
}

impl LimiterSettings {
    pub(super) fn new(quota: Quota, call_timeout: Duration, admitted: Duration) -> Self {
        // In the quota of a user, no other user's credential counts.
        let reserve_for = if quota.scope() == Scope::Account {
            admitted
        } else {
            Duration::ZERO
        };
        Self {
            quota,
            hold: call_timeout + quota.per(),
            reserve_for,
        }
    }

    /// What Redis needs to know to count by these settings. Assumes that no replica is absent, and
    /// that Redis need not hold any earlier call.
    fn shared_terms(&self, call_timeout: Duration) -> SharedTerms {
        SharedTerms {
            quota: self.quota,
            hold: self.hold,
            reserve_for: self.reserve_for,
            unknown_for: past::unknown_for(&self.quota, call_timeout),
            left_to_absent: 0,
            totals: self.quota.totals(),
            call_timeout,
            own: TotalsHeld::default(),
            expected: ExpectedInRedis::default(),
            seen: None,
        }
    }
}

impl QuotaLimiter {
    pub(super) fn new(
        quota: Quota,
        config: &BudgetConfig,
        totals: Arc<TotalCounts>,
        shared: Option<SharedQuota>,
    ) -> Self {
        let past = Mutex::new(Past::new(&quota, config, shared.is_some(), clock::now()));
        let settings = RwLock::new(LimiterSettings::new(
            quota,
            config.call_timeout,
            config.admitted,
        ));
        let local = LocalLimiter::new(&quota, config.replicas, totals);
        Self {
            settings,
            call_timeout: config.call_timeout,
            local,
            shared,
            past,
        }
    }

    fn settings(&self) -> LimiterSettings {
        *self.settings.read()
    }

    /// Applies other settings, except the quota's scope, from the next request on. Held calls stay
    /// held. The past is unknown afterwards if `forgets` is set, if windows become longer, or if
    /// calls on the wire are limited now and were not before. Returns true if anything changes.
    pub(super) fn set(&self, quota: Quota, admitted: Duration, forgets: bool) -> bool {
        let quota = quota.of(self.quota().scope());
        let new = LimiterSettings::new(quota, self.call_timeout, admitted);
        let before = std::mem::replace(&mut *self.settings.write(), new);
        let is_newly_at_once = quota.concurrent().is_some() && before.quota.concurrent().is_none();
        if forgets || is_newly_at_once || new.quota.per() > before.quota.per() {
            self.past.lock().forget(&new.quota, clock::now());
        }
        if new.quota != before.quota {
            self.local.set_quota(&new.quota);
        }
        forgets || new != before
    }

    /// Returns whether all calls are made here, as far as known.
    pub(super) fn is_alone(&self) -> bool {
        self.shared.is_none()
    }

    pub(super) fn quota(&self) -> Quota {
        self.settings().quota
    }

    /// Requests a call. There must be only one [`RequestAim::Spend`] for a scope at a time.
    ///
    /// Returns at once, or within the timeout of the link to Redis.
    pub(super) async fn request(&self, request: &SlotRequest) -> SlotReply {
        let settings = self.settings();
        let until = clock::now() + settings.hold;
        match request.aim {
            RequestAim::Spend => {}
            RequestAim::Count => return self.count_made(request, until).await,
            RequestAim::Look => return self.look(request).await,
        }
        // Read before `source`, because a poll may notice a loss in between. Then Redis does not
        // have what this replica has seen, and nothing is granted.
        let seen = self.seen();
        let source = self.past.lock().source(clock::now());
        let source = self.local.source_for(request.scope, source);
        match (&self.shared, source) {
            (_, CountSource::Unknown(wait)) => SlotReply::denied(Forecast::after(wait)),
            (Some(shared), CountSource::Shared) => {
                self.request_shared(shared, request, seen, until).await
            }
            (Some(shared), CountSource::SharedWithinShare) => {
                let forecast = self.local.forecast_of_share(&settings.quota, request);
                if request.wait_when_seen(&forecast).is_zero() {
                    self.request_shared(shared, request, seen, until).await
                } else {
                    SlotReply::denied(forecast)
                }
            }
            (_, CountSource::Own | CountSource::Shared | CountSource::SharedWithinShare) => self
                .local
                .request(&settings.quota, settings.reserve_for, request, until),
        }
    }

    /// What this replica has seen in Redis. See [`SharedTerms::seen`].
    fn seen(&self) -> Option<(DataToken, NotedPoll)> {
        self.shared.as_ref().and_then(SharedQuota::seen)
    }

    async fn request_shared(
        &self,
        shared: &SharedQuota,
        request: &SlotRequest,
        seen: Option<(DataToken, NotedPoll)>,
        until: Instant,
    ) -> SlotReply {
        let (settings, now) = (self.settings(), clock::now());
        let (absent, source) = {
            let past = self.past.lock();
            (past.absent(now), past.source(now))
        };
        let quota = &settings.quota;
        let terms = SharedTerms {
            totals: request.totals.leaving(absent),
            own: self.local.held_in_totals(request.scope),
            left_to_absent: request.limits.all - request.limits.leaving(absent).all,
            expected: ExpectedInRedis {
                is_loss_over: source == CountSource::SharedWithinShare,
                ..self.local.expected_in_redis(request.scope, quota.per())
            },
            seen,
            ..settings.shared_terms(self.call_timeout)
        };
        let Ok(reply) = shared.request(&terms, request, until).await else {
            let wait = self.past.lock().wait_for_redis();
            self.local.redis_failed(request.scope, wait);
            return SlotReply::denied(Forecast::after(Duration::ZERO));
        };
        let window = self.past.lock().window();
        self.local.redis_answered(request.scope, window);
        if let Some(slot) = &reply.granted {
            self.local.hold(slot);
        }
        reply
    }

    /// What a request would return now. Spends nothing, and leaves no mark if Redis fails.
    pub(super) async fn look(&self, request: &SlotRequest) -> SlotReply {
        let (settings, now) = (self.settings(), clock::now());
        let own = || self.local.look(&settings.quota, request);
        let seen = self.seen();
        let source = self.past.lock().source(now);
        match (&self.shared, self.local.source_for(request.scope, source)) {
            (_, CountSource::Unknown(wait)) => SlotReply::denied(own().not_before(wait)),
            (Some(shared), CountSource::Shared | CountSource::SharedWithinShare) => {
                let absent = self.past.lock().absent(now);
                let terms = SharedTerms {
                    totals: request.totals.leaving(absent),
                    own: self.local.held_in_totals(request.scope),
                    left_to_absent: request.limits.all - request.limits.leaving(absent).all,
                    seen,
                    ..settings.shared_terms(self.call_timeout)
                };
                let reply = shared.request(&terms, request, now).await;
                reply.unwrap_or_else(|_| SlotReply::denied(own()))
            }
            (_, CountSource::Own | CountSource::Shared | CountSource::SharedWithinShare) => {
                SlotReply::denied(own())
            }
        }
    }

    /// Counts a call that was already made, whether there is room or not.
    async fn count_made(&self, request: &SlotRequest, until: Instant) -> SlotReply {
        let settings = self.settings();
        let per = settings.quota.per();
        let terms = SharedTerms {
            expected: self.local.expected_in_redis(request.scope, per),
            ..settings.shared_terms(self.call_timeout)
        };
        let counted_in_redis = match &self.shared {
            Some(shared) => shared.request(&terms, request, until).await.ok(),
            None => None,
        };
        let slot = counted_in_redis
            .and_then(|reply| reply.granted)
            .unwrap_or_else(|| Slot::granted(request, until, clock::now()));
        self.local.hold(&slot);
        SlotReply {
            granted: Some(slot),
            forecast: Forecast::after(Duration::ZERO),
            pause: None,
        }
    }

    /// The call got its reply at `at`, or its connection broke: it is counted for one more window,
    /// and leaves the wire. Returns true if another call may take its place.
    pub(super) fn release(&self, slot: &Slot, at: Instant) -> bool {
        let (quota, now) = (self.quota(), clock::now());
        let after = (at + quota.per()).saturating_duration_since(now);
        self.local.end(slot, now + after);
        if let (Some(shared), Some(name)) = (&self.shared, &slot.name) {
            shared.release(slot, name, after);
        }
        quota.concurrent().is_some()
    }

    /// The call was not made.
    pub(super) fn give_back(&self, slot: &Slot) {
        self.local.give_back(slot);
        if let (Some(shared), Some(name)) = (&self.shared, &slot.name) {
            let terms = self.settings().shared_terms(self.call_timeout);
            shared.give_back(slot.scope, name, &terms);
        }
    }

    /// Publishes an update to the other replicas. Best effort.
    pub(super) async fn publish(&self, scope: ScopeTag, update: ScopeUpdate) {
        if let Some(shared) = &self.shared {
            shared.publish(scope, &update).await;
        }
    }

    /// A credential of the scope was verified: reserves one call of each window for verified ones
    /// for a while.
    pub(super) async fn reserve_one(&self, scope: ScopeTag) {
        let reserve_for = self.settings().reserve_for;
        if reserve_for.is_zero() {
            return;
        }
        self.local.reserve_one(scope, clock::now() + reserve_for);
        if let Some(shared) = &self.shared {
            shared.reserve_one(scope, reserve_for).await;
        }
    }

    /// Applies what Redis knows of the replicas. Returns true if waiters should ask again. Changes
    /// nothing without Redis.
    pub(super) fn apply_replicas(&self, replicas: &Replicas) -> bool {
        if self.shared.is_none() {
            return false;
        }
        let (changes_count, before, after) = {
            let mut past = self.past.lock();
            let before = past.kept_since();
            let changes_count = past.apply_replicas(replicas, clock::now());
            (changes_count, before, past.kept_since())
        };
        let has_begun_anew = before.is_some() && before != after;
        if has_begun_anew {
            // All counts are lost. Calls wait once for the whole loss, and not once for each scope.
            self.local.forget_expected();
        }
        self.local.set_replicas(&self.quota(), replicas.count) || changes_count
    }

    /// Redis did not answer a question about the replicas.
    pub(super) fn redis_unreachable(&self) {
        self.past.lock().redis_unreachable(clock::now());
    }

    /// Drops the scopes that hold nothing.
    pub(super) fn sweep(&self) {
        self.local.sweep();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.local.len()
    }
}
