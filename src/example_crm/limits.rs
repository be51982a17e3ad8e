//! The Example CRM's rate limit: what `40/2s` means, one bucket per bearer token, and the headers
//! that report it to a client.
//!
//! A bucket holds `requests` and gains them back one by one, evenly over `per` (the generic cell
//! rate algorithm).

use std::num::{NonZeroU32, ParseIntError};
use std::str::FromStr;
use std::time::Duration;

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// From this many buckets on, full ones are dropped, because they equal new ones.
const MANY_BUCKETS: usize = 1_024;

/// This many requests per time span, for each bearer token. Written as `40/2s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests may come at once, and also how many come back in `per`.
    pub(crate) requests: NonZeroU32,
    /// The time span; more than [`LONGEST`](Self::LONGEST) counts as that.
    pub(crate) per: Duration,
}

impl RateLimit {
    /// The longest time span: a day.
    pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
}

/// Why a text is not a rate limit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RateLimitError {
    /// There is no `/`.
    #[error("a rate limit is written as requests/time, for example 40/2s")]
    NoSlash,
    /// The part before the `/` is not a number from 1 on.
    #[error("the number of requests: {0}")]
    Requests(ParseIntError),
    /// The part after the `/` is not a time span.
    #[error("the time span: {0}")]
    Per(humantime::DurationError),
    /// The time span is zero or longer than a day.
    #[error("the time span must be more than zero and at most a day")]
    OutOfRange,
}

impl FromStr for RateLimit {
    type Err = RateLimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (requests, per) = text.split_once('/').ok_or(RateLimitError::NoSlash)?;
        let requests = requests.trim().parse().map_err(RateLimitError::Requests)?;
        let per = humantime::parse_duration(per.trim()).map_err(RateLimitError::Per)?;
        if per.is_zero() || per > Self::LONGEST {
            return Err(RateLimitError::OutOfRange);
        }
        Ok(Self { requests, per })
    }
}

type Buckets =
    RateLimiter<String, DefaultKeyedStateStore<String>, DefaultClock, StateInformationMiddleware>;

/// The buckets of all bearer tokens.
#[derive(Debug)]
pub(super) struct RequestLimiter {
    requests: NonZeroU32,
    /// How long one request takes to come back.
    interval: Duration,
    buckets: Buckets,
}

/// The limiter's decision about one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestVerdict {
    limit: u32,
    remaining: u32,
    /// Until the bucket is full again.
    reset: Duration,
    /// Until the next request passes, if this one does not.
    retry_after: Option<Duration>,
}

impl RequestLimiter {
    /// A limiter with full buckets. `None` if the limit is more than a request per nanosecond,
    /// which limits nobody.
    pub(super) fn new(limit: RateLimit) -> Option<Self> {
        let interval = limit.per.min(RateLimit::LONGEST) / limit.requests.get();
        let quota = Quota::with_period(interval)?.allow_burst(limit.requests);
        let buckets = RateLimiter::keyed(quota).with_middleware();
        Some(Self {
            requests: limit.requests,
            interval,
            buckets,
        })
    }

    /// Takes one request out of the bucket of `token`.
    pub(super) fn check(&self, token: &str) -> RequestVerdict {
        if self.buckets.len() >= MANY_BUCKETS {
            self.buckets.retain_recent();
        }
        let (remaining, retry_after) = match self.buckets.check_key(&token.to_owned()) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(until) => (0, Some(until.wait_time_from(self.buckets.clock().now()))),
        };
        let limit = self.requests.get();
        let reset = self.interval * limit.saturating_sub(remaining);
        RequestVerdict {
            limit,
            remaining,
            reset,
            retry_after,
        }
    }
}

impl RequestVerdict {
    /// Whether the request may pass.
    pub(super) fn passes(&self) -> bool {
        self.retry_after.is_none()
    }

    /// Adds the `x-ratelimit-*` headers and, to a refusal, `Retry-After`. Times are whole seconds,
    /// rounded up: `x-ratelimit-reset` until the bucket is full again, `Retry-After` (at least 1)
    /// until the next request passes.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, self.limit.into());
        headers.insert(REMAINING, self.remaining.into());
        headers.insert(RESET, seconds_up(self.reset).into());
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds_up(wait).max(1).into());
        }
    }
}

fn seconds_up(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(requests: u32, per: Duration) -> RateLimit {
        RateLimit {
            requests: NonZeroU32::new(requests).unwrap(),
            per,
        }
    }

    #[test]
    fn reads_requests_per_time() {
        assert_eq!("40/2s".parse(), Ok(limit(40, Duration::from_secs(2))));
        assert_eq!(
            " 1 / 1m 30s ".parse(),
            Ok(limit(1, Duration::from_secs(90)))
        );
        assert_eq!("40".parse::<RateLimit>(), Err(RateLimitError::NoSlash));
        assert!(matches!(
            "0/2s".parse::<RateLimit>(),
            Err(RateLimitError::Requests(_))
        ));
        assert!(matches!(
            "4/2".parse::<RateLimit>(),
            Err(RateLimitError::Per(_))
        ));
        assert_eq!("4/0s".parse::<RateLimit>(), Err(RateLimitError::OutOfRange));
        assert_eq!(
            "4/25h".parse::<RateLimit>(),
            Err(RateLimitError::OutOfRange)
        );
    }

    #[test]
    fn a_bucket_empties_and_tells_when_it_fills() {
        let limiter = RequestLimiter::new(limit(2, Duration::from_secs(60))).unwrap();
        let (first, second, third) = (limiter.check("a"), limiter.check("a"), limiter.check("a"));
        assert!(first.passes() && second.passes() && !third.passes());
        assert_eq!(
            (first.remaining, second.remaining, third.remaining),
            (1, 0, 0)
        );
        assert_eq!(
            (
                first.reset.as_secs(),
                second.reset.as_secs(),
                third.reset.as_secs()
            ),
            (30, 60, 60)
        );
        assert!(
            third
                .retry_after
                .is_some_and(|wait| wait.as_secs() >= 25 && wait.as_secs() <= 30)
        );
        assert!(limiter.check("b").passes());
    }

    #[test]
    fn full_buckets_are_dropped_and_extremes_do_no_harm() {
        let limiter = RequestLimiter::new(limit(1_000_000, Duration::from_millis(1))).unwrap();
        for token in 0..5_000 {
            assert!(limiter.check(&token.to_string()).passes());
        }
        assert!(limiter.buckets.len() <= MANY_BUCKETS);
        assert!(RequestLimiter::new(limit(1, Duration::ZERO)).is_none());
        let longest = RequestLimiter::new(limit(u32::MAX, Duration::MAX)).unwrap();
        assert!(longest.check("a").passes());
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(seconds_up(Duration::ZERO), 0);
        assert_eq!(seconds_up(Duration::from_secs(2)), 2);
        assert_eq!(seconds_up(Duration::from_millis(2_001)), 3);
    }
}
