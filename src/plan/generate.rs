//! Made-up call logs with the habits of real ones, to size what is not running yet.
//!
//! The distribution, which `contactd plan generate --help` and the runbook describe:
//!
//! - accounts have 1 to 200 users, 12 at the median, log-normal with a spread of e^1;
//! - users make calls log-normally, with a spread of e^0.9: the busiest tenth makes a third;
//! - of the calls of a user 60 % are with one of the user's contacts. A user has 20 to 5,000,
//!   150 at the median, and the n-th is called with a frequency of 1/n (Zipf). Users of an account
//!   share these contacts;
//! - 10 % repeat a call of the same user within ten minutes; 10 % ring at a colleague at the
//!   same time (a group that rings together); the rest, 20 %, are with a number that comes once;
//! - 5 % of the first kind and of the last withhold their number;
//! - the CRM knows 85 % of the contacts, and 15 % of the numbers that come once;
//! - weekdays have two peaks, at 10 to 11 and 14 to 16 o'clock; Saturdays have 20 % of a weekday's
//!   calls, Sundays 8 %. All users are in one time zone, so the peak is as high as it can be.
//!
//! The same seed gives the same log.

use std::collections::VecDeque;

/// Seconds within which a call may be repeated.
const REPEAT_WITHIN: u64 = 600;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Calls in each hour of a weekday, and how many percent of them each day of a week has, from
/// Monday on.
const HOURS: [u32; 24] = [
    2, 1, 1, 1, 2, 6, 18, 45, 78, 96, 100, 92, 74, 82, 98, 96, 86, 66, 40, 24, 16, 10, 6, 3,
];
const WEEK: [u32; 7] = [100, 104, 103, 101, 92, 20, 8];

/// What a log is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    pub(crate) calls: u64,
    pub(crate) users: u32,
    pub(crate) days: u32,
    /// The first day, in days since the Unix epoch.
    pub(crate) first_day: u64,
    pub(crate) seed: u64,
}

/// One call of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GeneratedCall {
    /// Seconds since the Unix epoch.
    pub(crate) at: u64,
    pub(crate) account: u32,
    pub(crate) user: u32,
    /// The digits of a North American number; `None` if it is withheld.
    pub(crate) number: Option<u64>,
    pub(crate) is_known: bool,
}

/// The calls of a log, in the order of their time. Needs memory for the users and for
/// the calls of ten minutes.
#[derive(Debug)]
pub(crate) struct CallGenerator {
    profile: Profile,
    random: fastrand::Rng,
    /// By user: the account, and the number of contacts.
    users: Vec<(u32, u32)>,
    /// By user: calls of all users up to this one, as a part of all.
    activity: Vec<f64>,
    /// The calls of the last minutes.
    recent: VecDeque<GeneratedCall>,
    made: u64,
    /// By hour of the log: calls up to its end.
    until: Vec<u64>,
    hour: usize,
}

impl CallGenerator {
    pub(crate) fn new(profile: Profile) -> Self {
        let mut random = fastrand::Rng::with_seed(profile.seed);
        let users = users(&mut random, profile.users);
        let mut sum = 0.0;
        let mut activity: Vec<f64> = users
            .iter()
            .map(|_| {
                sum += (0.9 * normal(&mut random)).exp();
                sum
            })
            .collect();
        for part in &mut activity {
            *part /= sum;
        }
        Self {
            until: hours(&profile),
            profile,
            random,
            users,
            activity,
            recent: VecDeque::new(),
            made: 0,
            hour: 0,
        }
    }

    fn time(&mut self) -> u64 {
        while self.until[self.hour] <= self.made {
            self.hour += 1;
        }
        let before = self.hour.checked_sub(1).map_or(0, |hour| self.until[hour]);
        let calls = self.until[self.hour] - before;
        let start = self.profile.first_day * DAY + self.hour as u64 * HOUR;
        // Evenly within the hour, so that the times are in order.
        start + (self.made - before) * HOUR / calls
    }

    fn call(&mut self, at: u64) -> GeneratedCall {
        match self.random.u32(..100) {
            0..10 => self.repeated(at),
            10..20 => self.colleague(at),
            _ => None,
        }
        .unwrap_or_else(|| self.another(at))
    }

    /// A recent call once more.
    fn repeated(&mut self, at: u64) -> Option<GeneratedCall> {
        let count = self.recent.len();
        let call = (count > 0).then(|| self.recent[self.random.usize(..count)])?;
        Some(GeneratedCall { at, ..call })
    }

    /// The last call rings at another user of the account too.
    fn colleague(&mut self, at: u64) -> Option<GeneratedCall> {
        let last = *self.recent.back()?;
        let user = last.user as usize;
        let is_same = |user: &usize| self.users.get(*user).is_some_and(|of| of.0 == last.account);
        let next = [user + 1, user.wrapping_sub(1)];
        let next = next.into_iter().find(is_same)?;
        Some(GeneratedCall {
            at,
            user: u32::try_from(next).ok()?,
            ..last
        })
    }

    fn another(&mut self, at: u64) -> GeneratedCall {
        let part = self.random.f64();
        let user = self.activity.partition_point(|upto| *upto < part);
        let user = user.min(self.users.len() - 1);
        let (account, contacts) = self.users[user];
        // 60 of the 80 calls in 100 that are new.
        let is_contact = self.random.u32(..80) < 60;
        let who = if is_contact {
            u64::from(zipf(&mut self.random, contacts))
        } else {
            (1 << 32) | self.random.u64(..1 << 31)
        };
        let who = mixed(self.profile.seed ^ mixed((u64::from(account) << 33) ^ who));
        let known = if is_contact { 85 } else { 15 };
        GeneratedCall {
            at,
            account,
            user: u32::try_from(user).unwrap_or(u32::MAX),
            number: (self.random.u32(..100) >= 5).then(|| number(who)),
            is_known: mixed(who) % 100 < known,
        }
    }
}

impl Iterator for CallGenerator {
    type Item = GeneratedCall;

    fn next(&mut self) -> Option<GeneratedCall> {
        if self.made >= self.profile.calls {
            return None;
        }
        let at = self.time();
        let oldest = at.saturating_sub(REPEAT_WITHIN);
        while self.recent.front().is_some_and(|call| call.at < oldest) {
            self.recent.pop_front();
        }
        let call = self.call(at);
        self.made += 1;
        self.recent.push_back(call);
        Some(call)
    }
}

/// The account and the number of contacts of each user. Those of an account stand together.
fn users(random: &mut fastrand::Rng, count: u32) -> Vec<(u32, u32)> {
    let (mut users, mut account) = (Vec::new(), 0);
    while users.len() < count as usize {
        let size = at_most(12.0 * normal(random).exp(), 1.0, 200.0);
        for _ in 0..size.min(count - u32::try_from(users.len()).unwrap_or(count)) {
            let contacts = at_most(150.0 * (0.8 * normal(random)).exp(), 20.0, 5000.0);
            users.push((account, contacts));
        }
        account += 1;
    }
    users
}

/// By hour: how many calls there are until its end. The last is all of them.
fn hours(profile: &Profile) -> Vec<u64> {
    // The first day of the epoch was a Thursday.
    let weight = |hour: u64| {
        let day = (profile.first_day + hour / 24 + 3) % 7;
        u128::from(HOURS[usize::try_from(hour % 24).unwrap_or(0)])
            * u128::from(WEEK[usize::try_from(day).unwrap_or(0)])
    };
    let count = u64::from(profile.days) * 24;
    let all: u128 = (0..count).map(weight).sum();
    let mut sum = 0;
    let until = (0..count).map(|hour| {
        sum += weight(hour);
        u64::try_from(u128::from(profile.calls) * sum / all.max(1)).unwrap_or(u64::MAX)
    });
    until.collect()
}

/// Normally distributed, by the method of Box and Muller.
fn normal(random: &mut fastrand::Rng) -> f64 {
    let (one, other) = (1.0 - random.f64(), random.f64());
    (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
}

/// One of `count`, the n-th with a frequency of 1/n.
fn zipf(random: &mut fastrand::Rng, count: u32) -> u32 {
    at_most(
        f64::from(count + 1).powf(random.f64()),
        1.0,
        f64::from(count),
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is between the bounds"
)]
fn at_most(value: f64, least: f64, most: f64) -> u32 {
    value.clamp(least, most) as u32
}

/// A valid North American number: area and exchange begin with 2 to 9, and neither ends in 11.
fn number(who: u64) -> u64 {
    const AREAS: [u64; 12] = [212, 213, 312, 404, 415, 512, 617, 650, 702, 713, 720, 805];
    let area = AREAS[usize::try_from(who % 12).unwrap_or(0)];
    let rest = who / 12;
    let exchange = 220 + rest % 690;
    let exchange = if exchange % 100 == 11 {
        exchange + 1
    } else {
        exchange
    };
    10_000_000_000 + area * 10_000_000 + exchange * 10_000 + (rest / 690) % 10_000
}

/// Spreads a number over all numbers (the finalizer of SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
