//! What a CRM allows: a quota as configured, the limits of a window, and the paces within it.
//!
//! Defines which quotas are valid, and how they are divided between lanes, replicas and kinds of
//! calls. Does not know about scopes and time.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::limits::{TotalLimits, WindowLimits};

/// The shortest interval between calls. No CRM's limit is shorter, and a limiter that counts
/// microseconds needs it.
const SHORTEST_INTERVAL: Duration = Duration::from_micros(100);
/// The period of `per_day`.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest period: a month, which is the longest that any CRM counts.
const LONGEST_PERIOD: Duration = Duration::from_secs(31 * 24 * 3600);
/// Calls that are due within this time may go together. Without this, late timers would slow the
/// pace down.
const TIMER_LATENESS: Duration = Duration::from_millis(50);

/// Whose calls a CRM counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Each user's, for a CRM that counts by access token.
    User,
    /// Those of all users of an account.
    Account,
}

impl Scope {
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Account => "account",
        }
    }
}

impl FromStr for Scope {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        [Self::User, Self::Account]
            .into_iter()
            .find(|scope| scope.name() == text)
            .ok_or(QuotaError::Scope)
    }
}

/// Why a quota is refused, worded for the person who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuotaError {
    /// No calls at all.
    #[error("rate must be at least 1")]
    Rate,
    /// A burst of nothing, or more than the CRM allows in a whole period.
    #[error("burst must be at least 1 and at most rate")]
    Burst,
    /// A period that is empty or longer than a month.
    #[error("per must be more than zero and at most 31 days")]
    Period,
    /// More calls than microseconds can separate.
    #[error("rate is too high: at most 10000 a second")]
    TooFast,
    /// A share outside of its range.
    #[error("prefetch_share must be more than 0 and at most 1")]
    Share,
    /// A day would allow fewer calls than a window of a day or less.
    #[error("per_day must be at least rate")]
    PerDay,
    /// Neither user nor account.
    #[error("scope must be \"user\" or \"account\"")]
    Scope,
}

impl QuotaError {
    /// The faulty setting.
    #[must_use]
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Rate | Self::TooFast => "rate",
            Self::Burst => "burst",
            Self::Period => "per",
            Self::Share => "prefetch_share",
            Self::PerDay => "per_day",
            Self::Scope => "scope",
        }
    }
}

/// A CRM's quota of HTTP calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quota {
    rate: NonZeroU32,
    per: Duration,
    burst: NonZeroU32,
    scope: Scope,
    prefetch_share: f64,
    totals: TotalLimits,
}

impl Quota {
    /// `rate` calls in any window of length `per`, up to `burst` of them at once, counted by
    /// `scope`. `prefetch_share` is the part of a window that the background lanes may use
    /// together, from just above 0 to 1.
    ///
    /// # Errors
    /// The first rule that a value violates.
    pub(crate) fn new(
        rate: u32,
        per: Duration,
        burst: u32,
        scope: Scope,
        prefetch_share: f64,
    ) -> Result<Self, QuotaError> {
        let rate = NonZeroU32::new(rate).ok_or(QuotaError::Rate)?;
        let burst = NonZeroU32::new(burst)
            .filter(|burst| *burst <= rate)
            .ok_or(QuotaError::Burst)?;
        if per.is_zero() || per > LONGEST_PERIOD {
            return Err(QuotaError::Period);
        }
        if !(prefetch_share > 0.0 && prefetch_share <= 1.0) {
            return Err(QuotaError::Share);
        }
        let quota = Self {
            rate,
            per,
            burst,
            scope,
            prefetch_share,
            totals: TotalLimits::default(),
        };
        if quota.interval() < SHORTEST_INTERVAL {
            return Err(QuotaError::TooFast);
        }
        Ok(quota)
    }

    /// The same quota with at most `concurrent` calls on the wire at once, and at most `per_day` in
    /// any 24 hours. The background lanes leave one place on the wire to call pops, unless there is
    /// only one, and use at most `prefetch_share` of a day.
    ///
    /// # Errors
    /// [`QuotaError::PerDay`] if a day would allow fewer calls than a window of a day or less.
    pub(crate) fn with_totals(
        self,
        concurrent: Option<NonZeroU32>,
        per_day: Option<NonZeroU32>,
    ) -> Result<Self, QuotaError> {
        if self.per <= DAY && per_day.is_some_and(|per_day| per_day < self.rate) {
            return Err(QuotaError::PerDay);
        }
        let totals = TotalLimits {
            at_once: concurrent.map(|calls| WindowLimits {
                all: calls.get(),
                background: (calls.get() - 1).max(1),
            }),
            per_day: per_day.map(|calls| WindowLimits {
                all: calls.get(),
                background: part(calls.get(), self.prefetch_share).max(1),
            }),
        };
        Ok(Self { totals, ..self })
    }

    /// The limits over all kinds of calls.
    #[must_use]
    pub(super) fn totals(&self) -> TotalLimits {
        self.totals
    }

    /// Calls on the wire at once, if the CRM limits them.
    #[must_use]
    pub(crate) fn concurrent(&self) -> Option<NonZeroU32> {
        self.totals.at_once.and_then(WindowLimits::calls)
    }

    /// Calls in any 24 hours, if the CRM limits them.
    #[must_use]
    pub(crate) fn per_day(&self) -> Option<NonZeroU32> {
        self.totals.per_day.and_then(WindowLimits::calls)
    }

    /// Calls in each window.
    #[must_use]
    pub(crate) fn rate(&self) -> NonZeroU32 {
        self.rate
    }

    /// The length of a window.
    #[must_use]
    pub(crate) fn per(&self) -> Duration {
        self.per
    }

    /// Calls at once.
    #[must_use]
    pub(crate) fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// Whose calls are counted together.
    #[must_use]
    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    /// The same quota with this scope.
    pub(super) fn of(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// The part of the quota that the background lanes may use together.
    #[must_use]
    pub(crate) fn prefetch_share(&self) -> f64 {
        self.prefetch_share
    }

    /// Time between two calls at the full rate, in whole microseconds. Rounded up, so that it is
    /// never faster than allowed.
    #[must_use]
    pub(crate) fn interval(&self) -> Duration {
        whole_micros(self.per.as_nanos().div_ceil(u128::from(self.rate.get())))
    }

    /// The most calls of a window. `known` is what the CRM has recently allowed, if that is less
    /// than documented.
    #[must_use]
    pub(super) fn limits(&self, known: Option<u32>) -> WindowLimits {
        let all = known.unwrap_or(u32::MAX).clamp(1, self.rate.get());
        // The share is a part of the documented limit. If the CRM allows less, the background lanes
        // leave one call for phones.
        let most = if all < self.rate.get() { all - 1 } else { all };
        WindowLimits {
            all,
            background: part(self.rate.get(), self.prefetch_share).min(most).max(1),
        }
    }

    /// The pace of all lanes together.
    #[must_use]
    pub(super) fn bucket(&self) -> TokenBucket {
        TokenBucket {
            interval: self.interval(),
            burst: self.burst,
        }
        .catching_up()
    }

    /// The common pace of all lanes, which the background lanes must keep as well: the calls of
    /// ringing phones reduce what is left for them.
    #[must_use]
    pub(super) fn even_bucket(&self) -> TokenBucket {
        TokenBucket {
            interval: self.interval(),
            burst: NonZeroU32::MIN,
        }
        .catching_up()
    }

    /// The pace of the background lanes together: evenly, with their share of calls in each period.
    #[must_use]
    pub(super) fn background_bucket(&self) -> TokenBucket {
        let calls = part(self.rate.get(), self.prefetch_share).max(1);
        let interval = whole_micros(self.per.as_nanos().div_ceil(u128::from(calls)));
        TokenBucket {
            interval,
            burst: NonZeroU32::MIN,
        }
        .catching_up()
    }
}

/// The purpose of a call. CRMs may count the two separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CallKind {
    /// A page of a search.
    Search,
    /// Anything else: details of a contact, or whose a credential is.
    Other,
}

/// A CRM's quotas, by the kind of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quotas {
    /// The quota of every call without a quota of its own. Its limits on calls on the wire and in
    /// a day apply to all calls.
    pub(crate) all: Quota,
    /// The quota of searches, if the CRM counts them separately.
    pub(crate) search: Option<Quota>,
    /// The quota of other calls, if the CRM counts them separately.
    pub(crate) other: Option<Quota>,
}

impl Quotas {
    /// The quota of a kind of call. The limits over all kinds are those of [`Quotas::all`].
    #[must_use]
    pub(super) fn of(&self, kind: CallKind) -> Quota {
        Quota {
            totals: self.all.totals,
            ..*self.own(kind).unwrap_or(&self.all)
        }
    }

    /// The quota that applies to this kind of call only.
    #[must_use]
    pub(crate) fn own(&self, kind: CallKind) -> Option<&Quota> {
        match kind {
            CallKind::Search => self.search.as_ref(),
            CallKind::Other => self.other.as_ref(),
        }
    }
}

impl From<Quota> for Quotas {
    fn from(all: Quota) -> Self {
        Self {
            all,
            search: None,
            other: None,
        }
    }
}

/// A token bucket: how evenly calls are spread within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenBucket {
    /// Time between two calls, in whole microseconds.
    pub(crate) interval: Duration,
    /// Calls at once after idle time.
    pub(crate) burst: NonZeroU32,
}

impl TokenBucket {
    /// Lets a caller that is slightly late catch up.
    fn catching_up(self) -> Self {
        let due = u32::try_from(TIMER_LATENESS.as_nanos() / self.interval.as_nanos().max(1))
            .unwrap_or(u32::MAX);
        Self {
            burst: self.burst.max(at_least_one(due)),
            ..self
        }
    }

    /// One replica's share of this pace, if `replicas` use it without communicating. The burst is
    /// at least one call, so that replicas beyond the burst may make one call each at once.
    pub(super) fn among(self, replicas: NonZeroU32) -> Self {
        let interval = self.interval.saturating_mul(replicas.get());
        Self {
            interval,
            burst: at_least_one(self.burst.get() / replicas),
        }
    }

    /// How far calls may run ahead of the rate.
    pub(super) fn tolerance(self) -> Duration {
        self.interval.saturating_mul(self.burst.get() - 1)
    }
}

fn whole_micros(nanos: u128) -> Duration {
    Duration::from_micros(u64::try_from(nanos.div_ceil(1_000)).unwrap_or(u64::MAX))
}

/// A share of that many calls, rounded down.
fn part(calls: u32, share: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a u32 is a u32"
    )]
    let calls = (f64::from(calls) * share) as u32;
    calls
}

fn at_least_one(burst: u32) -> NonZeroU32 {
    NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::budget::absent::AbsentReplicas;

    fn quota(rate: u32, per: Duration, burst: u32, share: f64) -> Result<Quota, QuotaError> {
        Quota::new(rate, per, burst, Scope::User, share)
    }

    #[test]
    fn a_fault_is_named() {
        let second = Duration::from_secs(1);
        assert_eq!(quota(0, second, 1, 0.5), Err(QuotaError::Rate));
        assert_eq!(quota(1, second, 0, 0.5), Err(QuotaError::Burst));
        assert_eq!(quota(1, Duration::ZERO, 1, 0.5), Err(QuotaError::Period));
        assert_eq!(
            quota(1, LONGEST_PERIOD + second, 1, 0.5),
            Err(QuotaError::Period)
        );
        for share in [0.0, -1.0, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(quota(1, second, 1, share), Err(QuotaError::Share));
        }
        assert_eq!(quota(20_000, second, 1, 0.5), Err(QuotaError::TooFast));
        assert!(quota(10_000, second, 1, 0.5).is_ok());
        assert_eq!(quota(10, second, 11, 0.5), Err(QuotaError::Burst));
        assert_eq!("team".parse::<Scope>(), Err(QuotaError::Scope));
        assert_eq!("account".parse::<Scope>(), Ok(Scope::Account));
    }

    #[test]
    fn the_background_is_paced_evenly_at_its_share() {
        let quota = quota(40, Duration::from_secs(4), 40, 0.25).unwrap();
        assert_eq!(quota.interval(), Duration::from_millis(100));
        let even = TokenBucket {
            interval: Duration::from_millis(400),
            burst: NonZeroU32::MIN,
        };
        assert_eq!(quota.background_bucket(), even);
        assert_eq!(
            quota.limits(None),
            WindowLimits {
                all: 40,
                background: 10
            }
        );
    }

    #[test]
    fn what_is_left_of_a_lower_limit_leaves_a_call_for_a_phone() {
        let quota = quota(40, Duration::from_secs(4), 40, 1.0).unwrap();
        for (known, all, background) in [
            (None, 40, 40),
            (Some(50), 40, 40),
            (Some(5), 5, 4),
            (Some(1), 1, 1),
        ] {
            assert_eq!(quota.limits(known), WindowLimits { all, background });
        }
        assert_eq!(
            quota.limits(Some(0)),
            WindowLimits {
                all: 1,
                background: 1
            }
        );
    }

    #[test]
    fn a_fleet_shares_the_limits_and_keeps_one_call_each() {
        let quota = quota(10, Duration::from_secs(1), 4, 0.5).unwrap();
        let among = |replicas| quota.limits(None).among(NonZeroU32::new(replicas).unwrap());
        assert_eq!(
            among(3),
            WindowLimits {
                all: 3,
                background: 1
            }
        );
        assert_eq!(
            among(50),
            WindowLimits {
                all: 1,
                background: 1
            }
        );
        let leaving = |count, of| quota.limits(None).leaving(AbsentReplicas { count, of });
        assert_eq!(
            leaving(1, 3),
            WindowLimits {
                all: 7,
                background: 5
            }
        );
        assert_eq!(
            leaving(2, 3),
            WindowLimits {
                all: 4,
                background: 4
            }
        );
        assert_eq!(
            leaving(49, 50),
            WindowLimits {
                all: 1,
                background: 1
            }
        );
        assert_eq!([leaving(0, 3), leaving(0, 0)], [quota.limits(None); 2]);
        let share = quota.bucket().among(NonZeroU32::new(5).unwrap());
        assert_eq!(
            share,
            TokenBucket {
                interval: Duration::from_millis(500),
                burst: NonZeroU32::MIN
            }
        );
    }

    #[test]
    fn calls_at_once_leave_a_place_for_a_phone_and_a_day_its_part() {
        let totals = |concurrent, per_day| {
            let quota = quota(10, Duration::from_secs(1), 4, 0.25).unwrap();
            quota.with_totals(NonZeroU32::new(concurrent), NonZeroU32::new(per_day))
        };
        let limits = |all, background| Some(WindowLimits { all, background });
        let both = totals(5, 101).unwrap();
        assert_eq!(both.totals().at_once, limits(5, 4));
        assert_eq!(both.totals().per_day, limits(101, 25));
        assert_eq!(totals(1, 10).unwrap().totals().at_once, limits(1, 1));
        assert!(totals(0, 0).unwrap().totals().is_empty());
        assert_eq!(totals(5, 9), Err(QuotaError::PerDay));
        let three = NonZeroU32::new(3).unwrap();
        assert_eq!(both.totals().among(three).at_once, limits(1, 1));
        let absent = AbsentReplicas { count: 2, of: 3 };
        assert_eq!(both.totals().leaving(absent).at_once, limits(3, 3));
        let month = quota(1_000, 31 * DAY, 1, 0.5).unwrap();
        assert!(month.with_totals(None, NonZeroU32::new(100)).is_ok());
    }

    #[test]
    fn the_limits_over_all_kinds_apply_to_a_kind_with_its_own_quota() {
        let quota = |rate| quota(rate, Duration::from_secs(1), 1, 0.5).unwrap();
        let quotas = Quotas {
            all: quota(10).with_totals(NonZeroU32::new(2), None).unwrap(),
            search: Some(quota(3)),
            other: None,
        };
        let search = quotas.of(CallKind::Search);
        assert_eq!(
            (search.rate().get(), search.concurrent()),
            (3, NonZeroU32::new(2))
        );
    }

    proptest! {
        #[test]
        fn a_pace_is_never_faster_than_its_quota(
            rate in 1..20_000_u32, per in 1..100_000_u64, burst in 1..100_u32, share in 0.001..1.0_f64, n in 1..50_u32,
        ) {
            if let Ok(quota) = quota(rate, Duration::from_millis(per), burst, share) {
                prop_assert!(quota.interval() * rate >= quota.per());
                prop_assert!(quota.background_bucket().interval >= quota.interval());
                let replicas = NonZeroU32::new(n).unwrap();
                prop_assert!(quota.bucket().among(replicas).interval >= quota.interval() * n);
            }
        }
    }
}
