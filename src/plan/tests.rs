//! Whole replays of small logs.

use std::num::NonZeroU32;
use std::time::Duration;

use super::figures::Figures;
use super::generate::{CallGenerator, GeneratedCall, Profile};
use super::log::{CallLog, LogBuilder};
use super::replay::replay;
use super::terms::{PlannedConnector, Terms};
use crate::budget::{Quota, Scope};
use crate::connector::UsualCalls;
use crate::domain::{AgePolicy, Ages, E164, Party};

const MINUTE: u64 = 60_000;
const START: u64 = 1_767_571_200_000;

fn terms() -> Terms {
    let quota = Quota::new(1_000, Duration::from_secs(1), 1_000, Scope::User, 0.5).unwrap();
    Terms {
        ages: AgePolicy {
            found: ages(10, 100),
            absent: ages(2, 20),
        },
        admitted: Duration::from_secs(100 * 3600),
        memory: 1 << 30,
        connectors: vec![PlannedConnector {
            name: "crm".to_owned(),
            quotas: quota.into(),
            calls: UsualCalls {
                found: 1,
                details: 2,
                nobody: 4,
            },
            names_users: true,
            is_identity_given: false,
        }],
        timeout: Duration::from_secs(15),
        soft_deadline: Duration::from_secs(2),
        call_timeout: Duration::from_secs(5),
        has_redis: false,
        replicas: NonZeroU32::MIN,
        latency: Duration::from_millis(100),
        answer_bytes: 300,
        seed: 1,
    }
}

fn ages(fresh: u64, stale: u64) -> Ages {
    Ages {
        fresh: Duration::from_secs(fresh * 60),
        stale: Duration::from_secs(stale * 60),
    }
}

fn with_quota(rate: u32, per: Duration) -> Terms {
    let mut terms = terms();
    let quota = Quota::new(rate, per, rate, Scope::Account, 0.5).unwrap();
    terms.connectors[0].quotas = quota.into();
    terms
}

fn party(n: u32) -> Party {
    Party::Number(E164::parse(&format!("+1650{}", 2_000_000 + n), None).unwrap())
}

/// Calls: milliseconds after the start, user, number. The CRM knows even numbers.
fn log(calls: &[(u64, u32, u32)]) -> CallLog {
    let mut log = LogBuilder::default();
    for &(at, user, number) in calls {
        let user = log.user(0, b"", &user.to_be_bytes());
        log.call(START + at, user, party(number), number % 2 == 0);
    }
    log.finish()
}

/// Hits from memory (fresh, stale), answers of the CRM, calls to it.
fn counts(figures: &Figures) -> ([u64; 2], u64, u64) {
    let of = &figures.connectors[0];
    assert_eq!(of.lookups, of.hits() + of.crm + of.refused);
    (of.memory, of.crm, of.crm_calls)
}

#[test]
fn each_decision_costs_what_it_costs() {
    for (calls, expected, why) in [
        (
            &[(0, 1, 2)][..],
            ([0, 0], 1, 4),
            "a search, two details, whose credential it is",
        ),
        (
            &[(0, 1, 1)],
            ([0, 0], 1, 5),
            "four searches, whose credential it is",
        ),
        (&[(0, 1, 2), (5 * MINUTE, 1, 2)], ([1, 0], 1, 4), "fresh"),
        (
            &[(0, 1, 2), (20 * MINUTE, 1, 2)],
            ([0, 1], 1, 7),
            "stale, refreshed",
        ),
        (
            &[(0, 1, 2), (101 * MINUTE, 1, 2)],
            ([0, 0], 2, 7),
            "expired",
        ),
        (
            &[(0, 1, 1), (5 * MINUTE, 1, 1)],
            ([0, 0], 2, 9),
            "a stale nobody: the phone waits for news",
        ),
        (
            &[(0, 1, 1), (21 * MINUTE, 1, 1)],
            ([0, 0], 2, 9),
            "an expired nobody",
        ),
        (
            &[(0, 1, 2), (0, 2, 2)],
            ([0, 0], 2, 8),
            "another user has another answer",
        ),
        (
            &[(0, 1, 2), (50, 1, 2)],
            ([0, 0], 2, 4),
            "two calls share a load",
        ),
        (
            &[(0, 1, 2), (20 * MINUTE, 1, 2), (20 * MINUTE + 50, 1, 2)],
            ([0, 2], 1, 7),
            "one refresh",
        ),
    ] {
        assert_eq!(counts(&replay(&log(calls), &terms())), expected, "{why}");
    }
}

#[test]
fn absence_that_repeats_is_fresh_for_longer() {
    let calls: Vec<_> = [0, 5, 8, 13].map(|minute| (minute * MINUTE, 1, 1)).into();
    // Asked at 0 and 5, then fresh for four minutes; at 13 stale again.
    assert_eq!(counts(&replay(&log(&calls), &terms())), ([1, 0], 3, 13));
}

#[test]
fn a_slow_crm_makes_a_phone_take_the_stale_nobody() {
    let slow = Terms {
        latency: Duration::from_secs(1),
        ..terms()
    };
    let calls = [(0, 1, 1), (5 * MINUTE, 1, 1)];
    assert_eq!(counts(&replay(&log(&calls), &slow)), ([0, 1], 1, 9));
}

#[test]
fn trust_is_renewed_while_it_lasts_and_asked_for_after() {
    let short = Terms {
        admitted: Duration::from_secs(60 * 60),
        ages: AgePolicy {
            found: ages(1_000, 1_000),
            absent: ages(1_000, 1_000),
        },
        ..terms()
    };
    for (minute, calls) in [(40, 4), (50, 5), (70, 5)] {
        let log = log(&[(0, 1, 2), (minute * MINUTE, 1, 2)]);
        assert_eq!(
            counts(&replay(&log, &short)),
            ([1, 0], 1, calls),
            "{minute}"
        );
    }
}

#[test]
fn replicas_share_answers_through_redis_only() {
    let calls: Vec<_> = (0..40).map(|n| (n * 1_000, 1, 2)).collect();
    let of = |has_redis| {
        let terms = Terms {
            has_redis,
            replicas: NonZeroU32::new(4).unwrap(),
            ..terms()
        };
        replay(&log(&calls), &terms)
    };
    let (alone, together) = (of(false), of(true));
    assert_eq!(counts(&alone), ([36, 0], 4, 16));
    let of = &together.connectors[0];
    assert_eq!(
        (of.crm, of.redis, of.memory, of.crm_calls),
        (1, [3, 0], [36, 0], 4)
    );
    assert_eq!(together.redis.unwrap().answers, 1);
}

#[test]
fn a_full_quota_makes_calls_wait_and_refuses_those_that_come_too_late() {
    // Thirty users call at once. Each needs four calls, and the account has sixty a minute.
    let calls: Vec<_> = (0..30).map(|user| (0, user, 2)).collect();
    let figures = replay(&log(&calls), &with_quota(60, Duration::from_secs(60)));
    let of = &figures.connectors[0];
    assert_eq!(
        of.quotas[0].peak, 60,
        "the window is full, and never exceeded"
    );
    // The details, which would come a minute later, are missing from the answers.
    assert_eq!((of.refused, of.crm_calls), (0, 60), "{of:?}");
    let calls: Vec<_> = (0..90).map(|user| (0, user, 2)).collect();
    let figures = replay(&log(&calls), &with_quota(60, Duration::from_secs(60)));
    let of = &figures.connectors[0];
    assert!(of.refused > 20, "{of:?}");
    assert_eq!(of.quotas[0].peak, 60);
    let higher = with_quota(60, Duration::from_secs(60))
        .with_quotas(4.0)
        .unwrap();
    assert_eq!(replay(&log(&calls), &higher).connectors[0].refused, 0);
}

#[test]
fn without_redis_each_replica_spends_the_quota_by_itself() {
    let terms = Terms {
        replicas: NonZeroU32::new(3).unwrap(),
        ..with_quota(20, Duration::from_secs(60))
    };
    let calls: Vec<_> = (0..60).map(|user| (0, user, 2)).collect();
    let of = |has_redis| {
        replay(
            &log(&calls),
            &Terms {
                has_redis,
                ..terms.clone()
            },
        )
    };
    assert!(of(false).connectors[0].quotas[0].headroom() < -0.5);
    assert!(of(true).connectors[0].quotas[0].headroom() >= 0.0);
}

/// More memory and longer ages help nearly always, but not always: a kept answer may expire at a
/// moment when an answer that was loaded again is still valid.
#[test]
fn more_memory_may_lose_a_hit() {
    let calls = [0, 40, 110].map(|minute| (minute * MINUTE, 1, 2));
    let calls = [&calls[..1], &[(MINUTE, 1, 4)], &calls[1..]].concat();
    let with = |memory| {
        let mut terms = terms();
        (terms.ages.found, terms.memory) = (ages(50, 100), memory);
        replay(&log(&calls), &terms)
    };
    let one = crate::cache::weight(crate::domain::Entry::allocation(300)) as u64;
    let (small, large) = (with(one), with(10 * one));
    assert_eq!((small.evicted, large.evicted), (2, 0));
    assert_eq!(counts(&small).0, [0, 1], "asked for at 40, stale at 110");
    assert_eq!(counts(&large).0, [1, 0], "kept since 0, expired at 110");
}

fn generated(seed: u64, calls: u64) -> Vec<GeneratedCall> {
    let profile = Profile {
        calls,
        users: 400,
        days: 14,
        first_day: 20_458,
        seed,
    };
    CallGenerator::new(profile).collect()
}

#[test]
fn a_generated_log_has_the_distribution_that_is_documented() {
    let calls = generated(1, 60_000);
    assert_eq!(calls.len(), 60_000);
    assert_eq!(calls, generated(1, 60_000));
    assert!(calls.is_sorted_by_key(|call| call.at));
    let share = |is: &dyn Fn(&GeneratedCall) -> bool| {
        let count = calls.iter().filter(|call| is(call)).count();
        let number = |count: usize| f64::from(u32::try_from(count).unwrap());
        number(count) / number(calls.len())
    };
    let withheld = share(&|call| call.number.is_none());
    assert!((0.03..0.07).contains(&withheld), "{withheld}");
    // 2026-01-05 is a Monday.
    let weekend = share(&|call| (call.at / 86_400 - 20_458) % 7 >= 5);
    assert!((0.04..0.07).contains(&weekend), "{weekend}");
    let peak = share(&|call| call.at / 3600 % 24 == 10);
    assert!((0.085..0.1).contains(&peak), "{peak}");
    let known = share(&|call| call.is_known && call.number.is_some());
    assert!((0.55..0.75).contains(&known), "{known}");
    let mut by_user = vec![0_u32; 400];
    for call in &calls {
        by_user[call.user as usize] += 1;
    }
    by_user.sort_unstable_by(|a, b| b.cmp(a));
    let busiest = f64::from(by_user[..40].iter().sum::<u32>()) / 60_000.0;
    assert!((0.2..0.45).contains(&busiest), "{busiest}");
}

#[test]
fn memory_and_ages_help_over_a_whole_log() {
    let mut builder = LogBuilder::default();
    for call in generated(2, 15_000) {
        let user = builder.user(0, &call.account.to_be_bytes(), &call.user.to_be_bytes());
        let number = call
            .number
            .map(|number| E164::parse(&format!("+{number}"), None).unwrap());
        if let Some(number) = number {
            builder.call(call.at * 1000, user, Party::Number(number), call.is_known);
        }
    }
    let log = builder.finish();
    let long = |memory| Terms {
        ages: AgePolicy {
            found: ages(60, 6_000),
            absent: ages(20, 600),
        },
        memory,
        ..terms()
    };
    let rate = |terms: &Terms| replay(&log, terms).hit_rate();
    let sizes = [20_000, 200_000, 20_000_000].map(|memory| rate(&long(memory)));
    assert!(sizes.is_sorted() && sizes[0] + 0.02 < sizes[2], "{sizes:?}");
    let ages = [0.1, 1.0, 2.0].map(|factor| rate(&long(20_000_000).with_ages(factor)));
    assert!(ages.is_sorted() && ages[0] + 0.02 < ages[2], "{ages:?}");
}
