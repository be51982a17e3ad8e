//! The soak for a minute, its plan, and how it judges memory.

use std::time::Duration;

use contactd::clock;

use run::memory::{AtRest, JUDGED_FROM, REMEMBERED, SentCredentials};
use run::plan::{KINDS, Times, plan};
use run::{Load, run};

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what it did is for people"
)]
#[path = "../bench/soak/run.rs"]
mod run;

/// What two cores carry beside a debug build.
const LOAD: Load = Load {
    callers: 16,
    pause_ms: 80,
    batches: 3,
    editors: 2,
    rude: 3,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_minute_of_faults_contradicts_nothing() {
    run(Duration::from_secs(60), 13, LOAD).await.unwrap();
}

#[test]
fn a_seed_plans_the_same_faults_again_and_another_seed_others() {
    let hour = Times::of(Duration::from_secs(3_600), true);
    assert_eq!(plan(1, hour), plan(1, hour));
    assert_ne!(plan(1, hour), plan(2, hour));
    let kinds = plan(1, hour).into_iter().map(|fault| fault.kind);
    let kinds: std::collections::BTreeSet<_> = kinds.collect();
    assert_eq!(kinds.len(), KINDS, "an hour has all of them");
}

/// Credentials that a replica was sent in a minute: as estimated for a run that did not count them,
/// and the most that was counted.
const ESTIMATED: usize = 500;
const COUNTED: usize = 620;
/// Answers of a replica in a minute: 495,105 of three replicas in 20 minutes.
const ANSWERS: f64 = 8_250.0;

fn at_rest(resident_mib: f64, credentials: usize) -> AtRest {
    AtRest {
        resident_mib,
        credentials,
    }
}

/// Both rests of a run of so many minutes, with so many credentials in each; the first one is after
/// a quarter.
fn rests(minutes: usize, credentials: usize, mib: (f64, f64)) -> (AtRest, AtRest) {
    let at = |minutes: usize, mib| at_rest(mib, credentials * minutes.min(30));
    (at(minutes / 4, mib.0), at(minutes, mib.1))
}

#[test]
fn what_credentials_hold_for_half_an_hour_is_no_growth() {
    let earlier = [(24.3, 30.3), (26.9, 29.9), (27.3, 29.8)];
    let estimated = earlier.map(|mib| rests(20, ESTIMATED, mib));
    let counted = [
        (at_rest(25.5, 2_307), at_rest(32.4, 11_799)),
        (at_rest(26.5, 2_457), at_rest(32.3, 11_862)),
        (at_rest(27.8, 2_651), at_rest(30.3, 11_142)),
    ];
    for (first, last) in estimated.into_iter().chain(counted) {
        assert!(!first.grows_until(last), "{first:?} -> {last:?}");
    }
    let (first, last) = estimated[0];
    let none_came = AtRest {
        credentials: first.credentials,
        ..last
    };
    assert!(first.grows_until(none_came), "nothing holds that memory");
}

#[test]
fn a_leak_of_a_kib_every_ten_answers_is_growth_in_every_run_that_is_judged() {
    let shortest = JUDGED_FROM.as_secs() / 60;
    for minutes in [shortest, 20, 60, 24 * 60] {
        let minutes = usize::try_from(minutes).unwrap();
        let between = f64::from(u32::try_from(minutes - minutes / 4).unwrap());
        let leaked_mib = between * ANSWERS / 10.0 / 1024.0;
        for without_leak in [24.3, 30.3] {
            let (first, last) = rests(minutes, COUNTED, (24.3, without_leak + leaked_mib));
            assert!(first.grows_until(last), "{minutes}: {first:?} -> {last:?}");
        }
    }
}

#[test]
fn a_credential_counts_once_and_for_half_an_hour_after_it_was_sent() {
    let (sent, began) = (SentCredentials::default(), clock::now());
    let after = |minutes: u64| began + Duration::from_secs(60 * minutes);
    sent.sent("a", after(0));
    sent.sent("b", after(0));
    sent.sent("a", after(10));
    assert_eq!(sent.remembered(after(10)), 2);
    assert_eq!(sent.remembered(began + REMEMBERED), 1);
    assert_eq!(sent.remembered(after(10) + REMEMBERED), 0);
}
