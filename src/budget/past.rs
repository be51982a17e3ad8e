//! What is known of the calls of the past, and what may be spent while it is not known.
//!
//! A CRM remembers the calls of the last window. A limiter that has just begun does not, nor does a
//! Redis that has lost its data. Owns the moments from which the count of each is right again. Knows
//! no scope and no call.
//!
//! A replica that does not reach Redis spends its share all the same, after a while. So the others
//! leave the share of each one that is missing.
//!
//! For a window of up to [`LONGEST_WAIT`] nothing is spent until every unknown call has left the
//! window. Longer windows would stop all calls for too long: with them a start may spend the quota
//! a second time.

use std::num::NonZeroU32;
use std::time::Duration;

use super::BudgetConfig;
use super::absent::AbsentReplicas;
use super::quota::Quota;
use crate::clock::Instant;

/// Windows up to this length are waited for.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Within this time after Redis is back all replicas have noticed.
const ALL_NOTICE: Duration = Duration::from_secs(3);
/// Redis is waited for so long at least, at the start and in an outage, before a replica counts for
/// itself.
const SHORTEST_OUTAGE: Duration = Duration::from_secs(1);
/// Within this time after a replica has lost Redis the others know it, and leave its share to it.
const ABSENCE_SHOWS: Duration = Duration::from_millis(500);
/// How long a call may be on its way to the CRM if Redis has just lost the count of it.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// How soon a caller looks again if Redis is to be used and is not there.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How soon Redis is asked again of a scope that it did not answer: later than a poll notices that
/// it was replaced.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// An outage of one scope is remembered for so long if no request comes.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// A Redis that begins later than known by more than this has lost its data in between.
const SAME: Duration = Duration::from_millis(500);

/// Whose count of the calls holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CountSource {
    /// Nothing may be spent for so long. Those who wait look again then.
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
    /// How many there are, this one included, and those that have been missing for a few seconds.
    pub(crate) count: NonZeroU32,
    /// How many of them are there now.
    pub(crate) present: u32,
    /// For how long Redis has kept its data.
    pub(crate) kept_for: Duration,
}

/// See the header. Of one quota.
#[derive(Debug)]
pub(super) struct Past {
    per: Duration,
    /// Whether there is a Redis that counts for all replicas.
    is_shared: bool,
    /// Whether nobody can have called before the start.
    is_known: bool,
    /// How many replicas share the quota at least.
    at_least: NonZeroU32,
    missing: RecentAbsence,
    /// Since when the own count holds every call of this replica's share.
    own_from: Instant,
    /// Since when Redis has not been there, or the start.
    away_since: Option<Instant>,
    /// Since when Redis has kept its data.
    kept_since: Option<Instant>,
    /// From when on Redis' count holds every call.
    shared_from: Option<Instant>,
    /// From when on all replicas count in Redis.
    all_shared_from: Option<Instant>,
}

/// Who is missing, and who was until lately: their calls still count.
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
    /// Of a quota. Whoever is the only one to call the CRM, and has just begun, knows the whole
    /// past.
    pub(super) fn new(quota: &Quota, config: &BudgetConfig, is_shared: bool, now: Instant) -> Self {
        let (per, is_known) = (quota.per(), config.is_past_known);
        let wait = if is_known { Duration::ZERO } else { wait(per) };
        let wait = if is_shared {
            outage(wait, config.replicas.get())
        } else {
            wait
        };
        Self {
            per,
            is_shared,
            is_known,
            at_least: config.replicas,
            missing: RecentAbsence::default(),
            own_from: now + wait,
            away_since: Some(now),
            kept_since: None,
            shared_from: None,
            all_shared_from: None,
        }
    }

    /// Redis did not answer.
    pub(super) fn redis_unreachable(&mut self, now: Instant) {
        if self.away_since.is_none() {
            self.away_since = Some(now);
            self.own_from = now + self.outage();
        }
    }

    /// Applies what Redis knows of the replicas. True if that changes whose count holds.
    pub(super) fn apply_replicas(&mut self, replicas: &Replicas, now: Instant) -> bool {
        let leaves_other_part = self.count_absent(replicas, now);
        let before = self.kept_since;
        let began_anew = self.data_began_anew(replicas.kept_for, now);
        let Some(away_since) = self.away_since.take() else {
            return began_anew || leaves_other_part;
        };
        let others_may_have_called = before.is_some() && now >= away_since + self.outage();
        if others_may_have_called {
            self.count_in_redis_from(now + self.per + ALL_NOTICE);
        }
        true
    }

    /// True if another part is left to absent replicas now.
    fn count_absent(&mut self, replicas: &Replicas, now: Instant) -> bool {
        let of = replicas.count.max(self.at_least).get();
        let before = self.missing.at(now).count;
        let count = of.saturating_sub(replicas.present);
        self.missing
            .change(AbsentReplicas { count, of }, self.per, now);
        self.missing.at(now).count != before
    }

    /// True if Redis holds other data than before; then its count is not believed at once.
    fn data_began_anew(&mut self, kept_for: Duration, now: Instant) -> bool {
        let kept_since = now.checked_sub(kept_for).unwrap_or(now);
        let before = self.kept_since;
        if before.is_some_and(|before| kept_since <= before + SAME) {
            return false;
        }
        self.kept_since = Some(kept_since);
        // A CRM that begins with the daemon has had no calls that Redis could have lost.
        if before.is_some() || !self.is_known {
            self.shared_from = Some(kept_since + wait(self.per));
            self.count_in_redis_from(kept_since + self.per + ALL_NOTICE);
        }
        true
    }

    /// The windows are of another length or count other calls from now on: what was called before
    /// is not in them.
    pub(super) fn forget(&mut self, per: Duration, now: Instant) {
        let from = now + unknown_for(per);
        self.per = per;
        self.own_from = self.own_from.max(from);
        self.shared_from = self.shared_from.max(Some(from));
    }

    /// Since when Redis has kept its data, if it ever answered.
    pub(super) fn kept_since(&self) -> Option<Instant> {
        self.kept_since
    }

    /// How long Redis is waited for before this replica counts for itself.
    pub(super) fn outage(&self) -> Duration {
        outage(wait(self.per), self.missing.now.of.max(self.at_least.get()))
    }

    /// Whose share is to be left to them.
    pub(super) fn absent(&self, now: Instant) -> AbsentReplicas {
        self.missing.at(now)
    }

    fn count_in_redis_from(&mut self, moment: Instant) {
        self.all_shared_from = self.all_shared_from.max(Some(moment));
    }

    /// Whose count holds.
    pub(super) fn source(&self, now: Instant) -> CountSource {
        if self.away_since.is_none() {
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

/// An outage of Redis for one scope only: requests of the scope fail, while Redis answers about the
/// replicas. Causes are a shard of a cluster that is down, or a key of another type.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScopeOutage {
    since: Instant,
    asks_again: Instant,
    /// From when on this replica counts for itself.
    own_from: Instant,
}

impl ScopeOutage {
    /// A request has failed, and perhaps others before it. Redis is waited for so long.
    pub(super) fn prolonged(before: Option<Self>, wait: Duration, now: Instant) -> Self {
        let since = before.map_or(now, |outage| outage.since);
        Self {
            since,
            asks_again: now + ASK_AGAIN,
            own_from: since + wait,
        }
    }

    /// Whose count holds for the scope, if it is `shared` for others.
    pub(super) fn source(&self, shared: CountSource, now: Instant) -> CountSource {
        if now >= self.asks_again {
            return shared;
        }
        left(self.own_from, now).map_or(CountSource::Own, |left| {
            CountSource::Unknown(left.min(LOOK_AGAIN))
        })
    }

    /// Whether the last request lies so far back that it says nothing of Redis.
    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        now >= self.asks_again + FORGOTTEN
    }

    /// A request was answered. From when on all replicas count in Redis again, if they may have
    /// counted for themselves.
    pub(super) fn ends(&self, per: Duration, now: Instant) -> Option<Instant> {
        (now >= self.own_from).then(|| now + per + ALL_NOTICE)
    }
}

/// How long Redis is waited for. Beside others until they know that this replica is missing, and
/// what they have spent of its share is out of the window.
fn outage(window: Duration, replicas: u32) -> Duration {
    if replicas > 1 {
        window + ABSENCE_SHOWS
    } else {
        window.max(SHORTEST_OUTAGE)
    }
}

/// How long nothing is spent of a scope whose count Redis has lost.
pub(super) fn unknown_for(per: Duration) -> Duration {
    if per <= LONGEST_WAIT {
        per + ON_ITS_WAY
    } else {
        Duration::ZERO
    }
}

/// How long a window of length `per` is waited for.
fn wait(per: Duration) -> Duration {
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
            CountSource::Unknown(ms(1_500))
        );
        assert_eq!(past.source(flushed + PER), CountSource::SharedWithinShare);
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
            assert_eq!(past.source(start + past.outage()), CountSource::Own);
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
