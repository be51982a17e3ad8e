//! How the soak judges memory, by the figures of runs of it.

use std::time::Duration;

use contactd::clock;

use memory::{AtRest, JUDGED_FROM, REMEMBERED, SentCredentials};

#[path = "../bench/soak/memory.rs"]
mod memory;

/// Credentials that a replica was sent in a minute of these runs.
const CREDENTIALS: usize = 500;
/// Answers of a replica in a minute: 495,105 of three replicas in 20 minutes.
const ANSWERS: f64 = 8_250.0;

/// Both rests of a run of so many minutes; the first one is after a quarter.
fn rests(minutes: usize, first_mib: f64, last_mib: f64) -> (AtRest, AtRest) {
    let at = |minutes: usize, resident_mib| AtRest {
        resident_mib,
        credentials: CREDENTIALS * minutes.min(30),
    };
    (at(minutes / 4, first_mib), at(minutes, last_mib))
}

#[test]
fn what_credentials_hold_for_half_an_hour_is_no_growth() {
    let of_20_minutes = [(24.3, 30.3), (26.9, 29.9), (27.3, 29.8)];
    for (first_mib, last_mib) in of_20_minutes {
        let (first, last) = rests(20, first_mib, last_mib);
        assert!(!first.grows_until(last), "{first_mib} -> {last_mib}");
    }
    let (first, last) = rests(20, 24.3, 30.3);
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
            let (first, last) = rests(minutes, 24.3, without_leak + leaked_mib);
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
