//! What a CRM allows: a quota as the settings give it, and the paces that limiters follow.
//!
//! Owns the rules of a sound quota and how it is divided, between lanes and between replicas. Knows no scope, no time.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// Cells closer together than this are no CRM's limit, and too close for a limiter that counts microseconds.
const SHORTEST_INTERVAL: Duration = Duration::from_micros(100);
/// The longest period: a month, the longest that a CRM counts by.
const LONGEST_PERIOD: Duration = Duration::from_secs(31 * 24 * 3600);
/// The longest time in which an empty burst fills up again. Keeps every sum of a limiter within its integers.
const LONGEST_REFILL: Duration = Duration::from_secs(366 * 24 * 3600);

/// Whose calls a CRM counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Each user's, as a CRM does that counts by access token.
    User,
    /// Those of all users of an account.
    Account,
}

impl Scope {
    /// The word in the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Account => "account",
        }
    }
}

impl FromStr for Scope {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        [Self::User, Self::Account].into_iter().find(|scope| scope.name() == text).ok_or(QuotaError::Scope)
    }
}

/// Why a quota is refused; worded for the person who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// No calls at all.
    #[error("rate must be at least 1")]
    Rate,
    /// A burst of nothing.
    #[error("burst must be at least 1")]
    Burst,
    /// A period that is empty or longer than a month.
    #[error("per must be more than zero and at most 31 days")]
    Period,
    /// More calls than can be told apart in time.
    #[error("rate is too high: at most 10000 a second")]
    TooFast,
    /// A burst that takes longer than a year to come back.
    #[error("burst is too large: at this rate it would take more than a year to come back")]
    BurstTooLarge,
    /// A share outside of its range.
    #[error("prefetch_share must be more than 0 and at most 1")]
    Share,
    /// Neither user nor account.
    #[error("scope must be \"user\" or \"account\"")]
    Scope,
}

/// A CRM's quota of HTTP calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    rate: NonZeroU32,
    per: Duration,
    burst: NonZeroU32,
    scope: Scope,
    prefetch_share: f64,
}

impl Quota {
    /// `rate` calls in each period `per`, up to `burst` of them at once after a rest, counted by `scope`.
    /// `prefetch_share` is the part of it that the background lanes may use together, from just above 0 to 1.
    ///
    /// # Errors
    /// The first rule that a value breaks.
    pub fn new(rate: u32, per: Duration, burst: u32, scope: Scope, prefetch_share: f64) -> Result<Self, QuotaError> {
        let rate = NonZeroU32::new(rate).ok_or(QuotaError::Rate)?;
        let burst = NonZeroU32::new(burst).ok_or(QuotaError::Burst)?;
        if per.is_zero() || per > LONGEST_PERIOD {
            return Err(QuotaError::Period);
        }
        if !(prefetch_share > 0.0 && prefetch_share <= 1.0) {
            return Err(QuotaError::Share);
        }
        let quota = Self { rate, per, burst, scope, prefetch_share };
        if quota.interval() < SHORTEST_INTERVAL {
            return Err(QuotaError::TooFast);
        }
        if quota.interval().saturating_mul(burst.get()) > LONGEST_REFILL {
            return Err(QuotaError::BurstTooLarge);
        }
        Ok(quota)
    }

    /// Calls in each period.
    #[must_use]
    pub fn rate(&self) -> NonZeroU32 {
        self.rate
    }

    /// The period.
    #[must_use]
    pub fn per(&self) -> Duration {
        self.per
    }

    /// Calls at once after a rest.
    #[must_use]
    pub fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// Whose calls are counted together.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The part of the quota that the background lanes may use together.
    #[must_use]
    pub fn prefetch_share(&self) -> f64 {
        self.prefetch_share
    }

    /// Time between two calls at the full rate, in whole microseconds and rounded up: never faster than allowed.
    #[must_use]
    pub fn interval(&self) -> Duration {
        whole_micros(self.per.as_nanos().div_ceil(u128::from(self.rate.get())))
    }

    /// The pace of all lanes together.
    #[must_use]
    pub fn all(&self) -> Pace {
        Pace { interval: self.interval(), burst: self.burst }
    }

    /// The pace of the background lanes together: their share of the rate and of the burst, at least one call.
    #[must_use]
    pub fn background(&self) -> Pace {
        let interval = self.interval().div_f64(self.prefetch_share);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a u32 is a u32")]
        let burst = (f64::from(self.burst.get()) * self.prefetch_share) as u32;
        Pace { interval: whole_micros(interval.as_nanos()), burst: at_least_one(burst) }
    }
}

/// What one limiter follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time between two calls, in whole microseconds.
    pub interval: Duration,
    /// Calls at once after a rest.
    pub burst: NonZeroU32,
}

impl Pace {
    /// One replica's part of this pace, where `replicas` share it without speaking to each other. The burst is never
    /// less than one call, so a fleet larger than the burst may make one call each at once.
    #[must_use]
    pub fn among(self, replicas: NonZeroU32) -> Self {
        let interval = self.interval.saturating_mul(replicas.get());
        Self { interval, burst: at_least_one(self.burst.get() / replicas) }
    }

    /// How far calls may run ahead of the rate.
    pub(super) fn tolerance(self) -> Duration {
        self.interval.saturating_mul(self.burst.get() - 1)
    }
}

fn whole_micros(nanos: u128) -> Duration {
    Duration::from_micros(u64::try_from(nanos.div_ceil(1_000)).unwrap_or(u64::MAX))
}

fn at_least_one(burst: u32) -> NonZeroU32 {
    NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quota(rate: u32, per: Duration, burst: u32, share: f64) -> Result<Quota, QuotaError> {
        Quota::new(rate, per, burst, Scope::User, share)
    }

    #[test]
    fn a_fault_is_named() {
        let second = Duration::from_secs(1);
        assert_eq!(quota(0, second, 1, 0.5), Err(QuotaError::Rate));
        assert_eq!(quota(1, second, 0, 0.5), Err(QuotaError::Burst));
        assert_eq!(quota(1, Duration::ZERO, 1, 0.5), Err(QuotaError::Period));
        assert_eq!(quota(1, LONGEST_PERIOD + second, 1, 0.5), Err(QuotaError::Period));
        for share in [0.0, -1.0, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(quota(1, second, 1, share), Err(QuotaError::Share));
        }
        assert_eq!(quota(20_000, second, 1, 0.5), Err(QuotaError::TooFast));
        assert!(quota(10_000, second, 1, 0.5).is_ok());
        assert_eq!(quota(1, LONGEST_PERIOD, 13, 0.5), Err(QuotaError::BurstTooLarge));
        assert_eq!(quota(10, second, u32::MAX, 0.5), Err(QuotaError::BurstTooLarge));
        assert_eq!("team".parse::<Scope>(), Err(QuotaError::Scope));
        assert_eq!("account".parse::<Scope>(), Ok(Scope::Account));
    }

    #[test]
    fn the_background_has_its_share_of_rate_and_burst() {
        let quota = quota(40, Duration::from_secs(2), 40, 0.25).unwrap();
        assert_eq!(quota.interval(), Duration::from_millis(50));
        let share = Pace { interval: Duration::from_millis(200), burst: NonZeroU32::new(10).unwrap() };
        assert_eq!(quota.background(), share);
    }

    #[test]
    fn a_fleet_larger_than_the_burst_keeps_one_call_each() {
        let all = quota(10, Duration::from_secs(1), 4, 1.0).unwrap().all();
        let share = all.among(NonZeroU32::new(5).unwrap());
        assert_eq!(share, Pace { interval: Duration::from_millis(500), burst: NonZeroU32::MIN });
    }

    proptest! {
        #[test]
        fn a_pace_is_never_faster_than_its_quota(
            rate in 1..20_000_u32, per in 1..100_000_u64, burst in 1..100_u32, share in 0.001..1.0_f64, n in 1..50_u32,
        ) {
            if let Ok(quota) = quota(rate, Duration::from_millis(per), burst, share) {
                prop_assert!(quota.interval() * rate >= quota.per());
                prop_assert!(quota.background().interval >= quota.interval());
                prop_assert!(quota.background().burst <= quota.burst());
                let replicas = NonZeroU32::new(n).unwrap();
                prop_assert!(quota.all().among(replicas).interval >= quota.interval() * n);
            }
        }
    }
}
