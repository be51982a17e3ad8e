//! What is known of past calls, and what may be spent while they are unknown.
//!
//! A CRM remembers the calls of the last window. A limiter that has just started does not, and
//! neither does a Redis that has lost its data. This module knows from when each count is right
//! again. Does not know about scopes and calls.
//!
//! A replica that cannot reach Redis spends its share anyway, after a while. So the others do not
//! use the share of a missing replica.
//!
//! For a window of up to [`LONGEST_WAIT`], nothing is spent until every unknown call has left the
//! window. For longer windows that would stop all calls for too long: a start may spend their quota
//! a second time.
//!
//! If the CRM limits the calls on the wire, calls also wait until the calls of other replicas have
//! ended or timed out. If a call may take longer than [`LONGEST_CALL_WAIT`], there is no such wait.

use std::num::NonZeroU32;
use std::time::Duration;

use super::BudgetConfig;
use super::absent::AbsentReplicas;
use super::quota::Quota;
use crate::clock::Instant;

/// If the CRM limits the calls on the wire, calls wait until unknown ones must have ended. There is
/// no such wait if the time limit of a call is longer than this.
const LONGEST_CALL_WAIT: Duration = Duration::from_secs(10);
/// The longest window for which calls wait.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The time after which all replicas have noticed that Redis is back.
const ALL_NOTICE: Duration = Duration::from_secs(3);
/// The shortest time that a single replica waits for Redis, at start and in an outage, before it
/// counts for itself. If there are several replicas, each waits at least [`ABSENCE_SHOWS`].
const SHORTEST_OUTAGE: Duration = Duration::from_secs(1);
/// The time after which the others know that a replica has lost Redis, and do not use its share.
const ABSENCE_SHOWS: Duration = Duration::from_millis(500);
/// How long a call may be on its way to the CRM if Redis has just lost its count.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// How soon a caller checks again if Redis should be used and is down.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How soon Redis is asked again about a scope that it did not answer for. By then a poll has
/// noticed if Redis was replaced.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long an outage of one scope is remembered if no request comes.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// Redis reports when its data began. If that is later than the known start by more than this,
/// Redis has lost its data.
const SAME: Duration = Duration::from_millis(500);

/// Whose count of the calls holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CountSource {
    /// Nothing may be spent for this long. Waiters ask again after that.
    Unknown(Duration),
    /// This replica's own, within its share of the quota.
    Own,
    /// Redis'.
    Shared,
    /// Redis', within this replica's share: others may not have noticed yet that Redis is back.
    SharedWithinShare,
}

/// What replicas know of each other through Redis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replicas {
    /// The number of replicas, including this one and those that have been missing for a few
    /// seconds.
    pub(crate) count: NonZeroU32,
    /// The number of replicas that are there now.
    pub(crate) present: u32,
    /// How long Redis has kept its data.
    pub(crate) kept_for: Duration,
}

/// The past of one quota; see the module's header.
#[derive(Debug)]
pub(super) struct Past {
    /// The length of the quota's window, or how long a call may be on the wire if that is limited
    /// and longer. The limit of a day is not included.
    window: Duration,
    /// How long to wait for calls that are not known.
    wait: Duration,
    /// How long a call may be on the wire.
    call_timeout: Duration,
    /// Whether there is a Redis that counts for all replicas.
    is_shared: bool,
    /// Whether the CRM certainly had no calls before the start.
    is_known: bool,
    /// The least number of replicas that share the quota.
    at_least: NonZeroU32,
    missing: RecentAbsence,
    /// The time from which this replica's own count holds every call of its share.
    own_from: Instant,
    /// When Redis went down, or the start.
    unreachable_since: Option<Instant>,
    /// The time since which Redis has kept its data.
    kept_since: Option<Instant>,
    /// The time from which Redis' count holds every call.
    shared_from: Option<Instant>,
    /// The time from which all replicas count in Redis.
    all_shared_from: Option<Instant>,
}

/// Replicas that are missing, or were until recently: their calls still count.
#[derive(Debug, Default)]
struct RecentAbsence {
    now: AbsentReplicas,
    before: AbsentReplicas,
    counts_until: Option<Instant>,
}

impl RecentAbsence {
    fn change(&mut self, absent: AbsentReplicas, per: Duration, now: Instant) {
        if absent.count < self.now.count {
            (self.before, self.counts_until) = (self.at(now), Some(now + per + ON_ITS_WAY));
        }
        self.now = absent;
    }

    fn at(&self, now: Instant) -> AbsentReplicas {
        let before = self.counts_until.is_some_and(|until| now < until);
        if before && self.before.count > self.now.count {
            self.before
        } else {
            self.now
        }
    }
}

impl Past {
    /// The past of a quota. If nobody has called the CRM before (`is_past_known`), the past is
    /// known, and nothing waits for unknown calls.
    pub(super) fn new(quota: &Quota, config: &BudgetConfig, is_shared: bool, now: Instant) -> Self {
        let (call_timeout, is_known) = (config.call_timeout, config.is_past_known);
        // When a process ends, its calls leave the wire. Other replicas may still have calls there.
        let at_start = match (is_known, is_shared) {
            (true, _) => Duration::ZERO,
            (false, true) => wait_for_unknown(quota, call_timeout),
            (false, false) => wait_for_window(quota.per()),
        };
        let at_start = if is_shared {
            wait_for_redis(at_start, config.replicas.get())
        } else {
            at_start
        };
        Self {
            window: longest_count(quota, call_timeout),
            wait: wait_for_unknown(quota, call_timeout),
            call_timeout,
            is_shared,
            is_known,
            at_least: config.replicas,
            missing: RecentAbsence::default(),
            own_from: now + at_start,
            unreachable_since: Some(now),
            kept_since: None,
            shared_from: None,
            all_shared_from: None,
        }
    }

    /// Redis did not answer.
    pub(super) fn redis_unreachable(&mut self, now: Instant) {
        if self.unreachable_since.is_none() {
            self.unreachable_since = Some(now);
            self.own_from = now + self.wait_for_redis();
        }
    }

    /// Applies what Redis knows of the replicas. Returns true if waiters should ask again.
    pub(super) fn apply_replicas(&mut self, replicas: &Replicas, now: Instant) -> bool {
        let leaves_other_part = self.count_absent(replicas, now);
        let before = self.kept_since;
        let began_anew = self.data_began_anew(replicas.kept_for, now);
        let Some(unreachable_since) = self.unreachable_since.take() else {
            return began_anew || leaves_other_part;
        };
        let others_may_have_called =
            before.is_some() && now >= unreachable_since + self.wait_for_redis();
        if others_may_have_called {
            self.count_in_redis_from(now + self.window + ALL_NOTICE);
        }
        true
    }

    /// Returns true if the share left to absent replicas changes.
    fn count_absent(&mut self, replicas: &Replicas, now: Instant) -> bool {
        let of = replicas.count.max(self.at_least).get();
        let before = self.missing.at(now).count;
        let count = of.saturating_sub(replicas.present);
        self.missing
            .change(AbsentReplicas { count, of }, self.window, now);
        self.missing.at(now).count != before
    }

    /// Returns true if Redis lost its data. After a loss, its count is trusted only after a wait.
    fn data_began_anew(&mut self, kept_for: Duration, now: Instant) -> bool {
        let kept_since = now.checked_sub(kept_for).unwrap_or(now);
        let before = self.kept_since;
        if before.is_some_and(|before| kept_since <= before + SAME) {
            return false;
        }
        self.kept_since = Some(kept_since);
        // If the CRM starts with the daemon, there were no calls that Redis could have lost.
        if before.is_some() || !self.is_known {
            // Calls that were counted just before a loss may still be on their way.
            let wait = before.map_or(self.wait, |_| with_calls_on_their_way(self.wait));
            self.shared_from = Some(kept_since + wait);
            self.count_in_redis_from(kept_since + self.window + ALL_NOTICE);
        }
        true
    }

    /// The windows have another length or count other calls from now on: earlier calls are not in
    /// them.
    pub(super) fn forget(&mut self, quota: &Quota, now: Instant) {
        let from = now + unknown_for(quota, self.call_timeout);
        self.window = longest_count(quota, self.call_timeout);
        self.wait = wait_for_unknown(quota, self.call_timeout);
        self.own_from = self.own_from.max(from);
        self.shared_from = self.shared_from.max(Some(from));
    }

    /// The length of the quota's window, or how long a call may be on the wire if that is limited
    /// and longer.
    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// The time since which Redis has kept its data, if it ever answered.
    pub(super) fn kept_since(&self) -> Option<Instant> {
        self.kept_since
    }

    /// How long to wait for Redis before this replica counts for itself.
    pub(super) fn wait_for_redis(&self) -> Duration {
        wait_for_redis(self.wait, self.missing.now.of.max(self.at_least.get()))
    }

    /// The replicas whose share must not be used.
    pub(super) fn absent(&self, now: Instant) -> AbsentReplicas {
        self.missing.at(now)
    }

    fn count_in_redis_from(&mut self, moment: Instant) {
        self.all_shared_from = self.all_shared_from.max(Some(moment));
    }

    /// Whose count holds.
    pub(super) fn source(&self, now: Instant) -> CountSource {
        if self.unreachable_since.is_none() {
            return match self.shared_from.and_then(|from| left(from, now)) {
                Some(left) => CountSource::Unknown(left),
                None if self.all_shared_from.is_some_and(|from| now < from) => {
                    CountSource::SharedWithinShare
                }
                None => CountSource::Shared,
            };
        }
        match left(self.own_from, now) {
            Some(left) if self.is_shared => CountSource::Unknown(left.min(LOOK_AGAIN)),
            Some(left) => CountSource::Unknown(left),
            None => CountSource::Own,
        }
    }
}

/// An outage of Redis for one scope only: requests of the scope fail, while Redis still answers
/// about the replicas. Possible causes are a cluster shard that is down, or a key of another type.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScopeOutage {
    since: Instant,
    asks_again: Instant,
    /// The time from which this replica counts for itself.
    own_from: Instant,
}

impl ScopeOutage {
    /// A request failed, perhaps after others. This replica waits for Redis for this long.
    pub(super) fn prolonged(before: Option<Self>, wait: Duration, now: Instant) -> Self {
        let since = before.map_or(now, |outage| outage.since);
        Self {
            since,
            asks_again: now + ASK_AGAIN,
            own_from: since + wait,
        }
    }

    /// Whose count holds for the scope, if `shared` holds for others.
    pub(super) fn source(&self, shared: CountSource, now: Instant) -> CountSource {
        if now >= self.asks_again {
            return shared;
        }
        let left = left(self.own_from, now).map(|left| left.min(LOOK_AGAIN));
        left.map_or(CountSource::Own, CountSource::Unknown)
    }

    /// Returns whether the last request was so long ago that it says nothing about Redis.
    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        now >= self.asks_again + FORGOTTEN
    }

    /// A request was answered. Returns the time from which all replicas count in Redis again, if
    /// they may have counted for themselves.
    pub(super) fn ends(&self, window: Duration, now: Instant) -> Option<Instant> {
        (now >= self.own_from).then(|| now + window + ALL_NOTICE)
    }
}

/// How long to wait for Redis. If there are other replicas, that is until they know that this one
/// is missing, and what they spent of its share has left the window.
fn wait_for_redis(window: Duration, replicas: u32) -> Duration {
    if replicas > 1 {
        window + ABSENCE_SHOWS
    } else {
        window.max(SHORTEST_OUTAGE)
    }
}

/// How long nothing is spent in a scope whose count Redis has lost.
pub(super) fn unknown_for(quota: &Quota, call_timeout: Duration) -> Duration {
    with_calls_on_their_way(wait_for_unknown(quota, call_timeout))
}

fn with_calls_on_their_way(wait: Duration) -> Duration {
    if wait.is_zero() {
        wait
    } else {
        wait + ON_ITS_WAY
    }
}

/// The length of the window, or how long a call may be on the wire if that is limited and longer.
fn longest_count(quota: &Quota, call_timeout: Duration) -> Duration {
    let wire = on_the_wire(quota, call_timeout);
    quota.per().max(wire.unwrap_or_default())
}

/// How long to wait for calls that are not known.
fn wait_for_unknown(quota: &Quota, call_timeout: Duration) -> Duration {
    let wire = on_the_wire(quota, call_timeout).filter(|time| *time <= LONGEST_CALL_WAIT);
    wait_for_window(quota.per()).max(wire.unwrap_or_default())
}

/// How long a call may be on the wire, if calls there are limited.
fn on_the_wire(quota: &Quota, call_timeout: Duration) -> Option<Duration> {
    quota.concurrent().map(|_| call_timeout)
}

/// How long to wait for a window of length `per`.
fn wait_for_window(per: Duration) -> Duration {
    if per <= LONGEST_WAIT {
        per
    } else {
        Duration::ZERO
    }
}

fn left(moment: Instant, now: Instant) -> Option<Duration> {
    moment
        .checked_duration_since(now)
        .filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Scope;
    use crate::clock;

    const PER: Duration = Duration::from_secs(2);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn begun(per: Duration, is_shared: bool, is_past_known: bool, now: Instant) -> Past {
        let quota = Quota::new(10, per, 10, Scope::User, 0.5).unwrap();
        Past::new(
            &quota,
            &BudgetConfig {
                is_past_known,
                ..BudgetConfig::default()
            },
            is_shared,
            now,
        )
    }

    fn alone_with_data_for(kept_for: Duration) -> Replicas {
        Replicas {
            count: NonZeroU32::MIN,
            present: 1,
            kept_for,
        }
    }

    fn present(present: u32) -> Replicas {
        Replicas {
            count: NonZeroU32::new(3).unwrap(),
            present,
            ..alone_with_data_for(Duration::from_secs(3_600))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_replica_has_its_share_until_a_window_after_it_is_back() {
        let (start, mut past) = (clock::now(), begun(PER, true, false, clock::now()));
        let mut after = |millis, there| {
            past.apply_replicas(&present(there), start + ms(millis));
            past.absent(start + ms(millis)).count
        };
        assert_eq!([after(0, 3), after(200, 2), after(400, 2)], [0, 1, 1]);
        assert_eq!(
            [after(1_000, 3), after(3_400, 3)],
            [1, 1],
            "it has spent its share and is back"
        );
        assert_eq!([after(3_500, 3), after(3_600, 1)], [0, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_redis_a_start_waits_one_window_and_a_known_past_does_not() {
        let start = clock::now();
        let past = begun(PER, false, false, start);
        assert_eq!(
            past.source(start + ms(500)),
            CountSource::Unknown(ms(1_500))
        );
        assert_eq!(past.source(start + PER), CountSource::Own);
        assert_eq!(
            begun(PER, false, true, start).source(start),
            CountSource::Own
        );
        let minute = begun(Duration::from_secs(60), false, false, start);
        assert_eq!(
            minute.source(start),
            CountSource::Own,
            "too long to wait for"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_beside_a_redis_that_has_kept_its_data_waits_for_nothing() {
        let start = clock::now();
        let mut past = begun(PER, true, false, start);
        assert_eq!(
            past.source(start),
            CountSource::Unknown(LOOK_AGAIN),
            "it may be there in a moment"
        );
        assert!(past.apply_replicas(&alone_with_data_for(Duration::from_secs(3_600)), start));
        assert_eq!(past.source(start), CountSource::Shared);
        assert!(!past.apply_replicas(
            &alone_with_data_for(Duration::from_secs(3_601)),
            start + ms(1_000)
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_redis_for_a_crm_that_is_new_as_well_is_not_waited_for() {
        let start = clock::now();
        let mut past = begun(PER, true, true, start);
        past.apply_replicas(&alone_with_data_for(ms(20)), start + ms(20));
        assert_eq!(past.source(start + ms(20)), CountSource::Shared);
        past.apply_replicas(&alone_with_data_for(ms(220)), start + ms(220));
        assert_eq!(past.source(start + ms(220)), CountSource::Shared);
    }

    #[tokio::test(start_paused = true)]
    async fn data_that_redis_has_lost_is_waited_for_and_then_shares_are_kept_for_a_while() {
        let start = clock::now();
        let mut past = begun(PER, true, false, start);
        past.apply_replicas(&alone_with_data_for(Duration::from_secs(3_600)), start);
        let flushed = start + ms(10_000);
        past.apply_replicas(&alone_with_data_for(ms(100)), flushed + ms(100));
        assert_eq!(
            past.source(flushed + ms(500)),
            CountSource::Unknown(ms(1_500) + ON_ITS_WAY)
        );
        assert_eq!(
            past.source(flushed + PER + ON_ITS_WAY),
            CountSource::SharedWithinShare
        );
        assert_eq!(past.source(flushed + PER + ALL_NOTICE), CountSource::Shared);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scope_that_redis_does_not_answer_is_counted_here_and_redis_is_asked_now_and_then() {
        let start = clock::now();
        let outage = ScopeOutage::prolonged(None, PER, start);
        let count =
            |outage: ScopeOutage, after| outage.source(CountSource::Shared, start + ms(after));
        assert_eq!(count(outage, 100), CountSource::Unknown(LOOK_AGAIN));
        assert_eq!(count(outage, 250), CountSource::Shared, "it is asked again");
        let outage = ScopeOutage::prolonged(Some(outage), PER, start + PER);
        assert_eq!(
            count(outage, 2_100),
            CountSource::Own,
            "the first failure counts"
        );
        assert_eq!(outage.ends(PER, start + ms(1_999)), None);
        assert_eq!(
            outage.ends(PER, start + PER),
            Some(start + 2 * PER + ALL_NOTICE)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_longer_than_a_window_ends_with_shares_and_a_short_one_with_nothing() {
        let alone = alone_with_data_for(Duration::from_secs(3_600));
        let beside_others = Replicas {
            count: NonZeroU32::new(3).unwrap(),
            present: 3,
            ..alone
        };
        for (replicas, away, then) in [
            (alone, 1_900, CountSource::Shared),
            (alone, 2_000, CountSource::SharedWithinShare),
            (beside_others, 2_400, CountSource::Shared),
            (beside_others, 2_500, CountSource::SharedWithinShare),
        ] {
            let start = clock::now();
            let mut past = begun(PER, true, false, start);
            past.apply_replicas(&replicas, start);
            past.redis_unreachable(start);
            past.redis_unreachable(start + ms(100));
            assert_eq!(
                past.source(start + ms(100)),
                CountSource::Unknown(LOOK_AGAIN)
            );
            assert_eq!(past.source(start + past.wait_for_redis()), CountSource::Own);
            let back = start + ms(away);
            past.apply_replicas(
                &Replicas {
                    kept_for: replicas.kept_for + ms(away),
                    ..replicas
                },
                back,
            );
            assert_eq!(past.source(back), then, "after {away} ms");
            assert_eq!(past.source(back + PER + ALL_NOTICE), CountSource::Shared);
        }
    }
}
