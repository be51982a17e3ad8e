//! The lanes of a quota: calls of all lanes wait, are raised, give up at any await, are made, fail,
//! and are refused by the CRM.
//!
//! What must hold:
//! * nobody waits for ever, and a call without a deadline is never refused;
//! * no background call is made while an earlier call pop waits, whether it arrived as one or was
//!   raised to one;
//! * the CRM never counts more calls in a window, or on the wire, than it allows, and the background
//!   lanes keep to their share;
//! * once all calls have ended, the whole quota is there again: no slot was lost.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use crate::budget::{
    Budget, BudgetConfig, CallKind, Exhausted, Permit, Quota, RateHint, Scope, Scopes,
};
use crate::clock::{self, Instant, Stopwatch, sleep};
use crate::domain::{KeyMaker, Lane, ScopeTag};
use crate::explore::{all, at_most, choose, one_in, one_of};
use crate::metrics::Metrics;
use crate::urgency::Urgency;

const RATE: u32 = 3;
const PER: Duration = Duration::from_secs(1);
const AT_ONCE: u32 = 2;

/// A slot that is lost is held for this long, so that it is missed.
const LOST: Duration = Duration::from_secs(3600);

/// What one execution is about.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    callers: u64,
    /// Credentials of the one account.
    credentials: u64,
    /// Whether the CRM limits calls at once, and refuses some.
    is_strict: bool,
}

/// One credential and a CRM that only counts windows.
pub const PLAIN: Scenario = Scenario {
    callers: 5,
    credentials: 1,
    is_strict: false,
};

/// Two credentials, and a CRM that limits calls at once and refuses some.
pub const STRICT: Scenario = Scenario {
    callers: 5,
    credentials: 2,
    is_strict: true,
};

/// The share of the background lanes, and how many calls of a window that makes.
#[derive(Debug, Clone, Copy)]
struct Share {
    part: f64,
    of_background: usize,
}

const SHARES: [Share; 3] = [
    Share {
        part: 0.34,
        of_background: 1,
    },
    Share {
        part: 0.67,
        of_background: 2,
    },
    Share {
        part: 1.0,
        of_background: 3,
    },
];

#[derive(Clone)]
struct World {
    scenario: Scenario,
    share: Share,
    budget: Arc<Budget>,
    seen: Arc<Mutex<Seen>>,
}

/// What the model knows without the budget.
#[derive(Default)]
struct Seen {
    /// Waiting calls. For call pops without a deadline: since when.
    waiting: HashMap<u64, Option<Instant>>,
    /// When calls arrived at the CRM: all, and those of the background lanes.
    arrivals: Vec<Instant>,
    of_background: Vec<Instant>,
    on_the_wire: u32,
    was_refused: bool,
}

/// One execution.
pub async fn run(scenario: Scenario) {
    let share = one_of(&SHARES);
    let world = World {
        scenario,
        share,
        budget: Arc::new(budget(scenario, share.part)),
        seen: Arc::default(),
    };
    all((0..scenario.callers).map(|name| world.clone().call(name))).await;
    world.check_rates();
    let usage = world.budget.usage();
    assert!(
        usage.iter().all(|(.., usage)| usage.waiting == [0; 3]),
        "somebody waits: {usage:?}"
    );
    world.check_nothing_is_lost().await;
}

fn budget(scenario: Scenario, share: f64) -> Budget {
    let burst = one_of(&[1, RATE]);
    let at_once = scenario
        .is_strict
        .then(|| NonZeroU32::new(AT_ONCE))
        .flatten();
    let quota = Quota::new(RATE, PER, burst, Scope::Account, share)
        .and_then(|quota| quota.with_totals(at_once, None))
        .expect("a quota");
    let config = BudgetConfig {
        call_timeout: LOST,
        ..BudgetConfig::default()
    };
    Budget::new(quota, &config, "example", &Metrics::default(), None)
}

/// No more than `limit` calls arrive within a window.
fn check_rate(mut arrivals: Vec<Instant>, limit: usize) {
    arrivals.sort_unstable();
    for window in arrivals.windows(limit + 1) {
        let took = window[limit].saturating_duration_since(window[0]);
        assert!(took >= PER, "{} calls in {took:?}: {arrivals:?}", limit + 1);
    }
}

/// The account's scope, then those of its credentials.
fn scope(n: usize) -> ScopeTag {
    static SCOPES: LazyLock<Vec<ScopeTag>> = LazyLock::new(|| {
        let keys = KeyMaker::new([1; 16]);
        (0..3u8).map(|n| keys.scope(&[&[n]])).collect()
    });
    SCOPES[n]
}

impl World {
    fn scopes(&self) -> Scopes {
        if self.scenario.credentials == 1 {
            return scope(0).into();
        }
        Scopes {
            owner: scope(0),
            credential: scope(1 + choose(0..self.scenario.credentials) as usize),
        }
    }

    /// One call, in one of its ways.
    async fn call(self, name: u64) {
        sleep(Duration::from_millis(choose(0..4) * 100)).await;
        let lane = one_of(&Lane::ALL);
        let patience = Duration::from_millis(choose(1..30) * 100);
        let deadline = one_in(3).then(|| clock::now() + patience);
        let urgency = Arc::new(Urgency::new(lane, deadline));
        let is_raised = one_in(4);
        if is_raised {
            drop(shuttle::future::spawn(
                self.clone().raise(name, Arc::clone(&urgency)),
            ));
        }
        let pops_from = (lane == Lane::CallPop && deadline.is_none()).then(clock::now);
        self.seen().waiting.insert(name, pops_from);
        let acquired = self.acquire(&urgency).await;
        self.seen().waiting.remove(&name);
        match acquired {
            None => {}
            Some(Err(Exhausted { .. })) => {
                assert!(deadline.is_some(), "refused although nobody is in a hurry");
            }
            Some(Ok(permit)) => {
                let is_background = lane.is_background() && !is_raised;
                if is_background {
                    self.check_order(lane, permit.granted());
                }
                self.make(permit, is_background).await;
            }
        }
        if one_in(3) {
            // As the daemon does periodically.
            self.budget.sweep();
        }
    }

    /// A phone rings for the number.
    async fn raise(self, name: u64, urgency: Arc<Urgency>) {
        sleep(Duration::from_millis(choose(0..4) * 100)).await;
        urgency.join(Lane::CallPop, None);
        if let Some(pops_from) = self.seen().waiting.get_mut(&name) {
            *pops_from = Some(clock::now());
        }
    }

    /// `None` if the caller gave up.
    async fn acquire(&self, urgency: &Urgency) -> Option<Result<Permit, Exhausted>> {
        let acquiring = self
            .budget
            .acquire(self.scopes(), CallKind::Search, urgency);
        match choose(0..6) {
            0 => at_most(choose(1..6), acquiring).await,
            1 => clock::timeout(Duration::from_millis(choose(0..20) * 100), acquiring).await,
            _ => Some(acquiring.await),
        }
    }

    /// With one scope and no pause, the order is strict.
    fn check_order(&self, lane: Lane, granted: Instant) {
        if self.scenario.is_strict {
            return;
        }
        let seen = self.seen();
        let mut pops = seen.waiting.values().flatten();
        let overtaken = pops.find(|pops_from| **pops_from < granted);
        assert!(
            overtaken.is_none(),
            "{lane:?} passed at {granted:?}, but a call pop waits since {overtaken:?}"
        );
    }

    /// Makes the call, or not.
    async fn make(&self, permit: Permit, is_background: bool) {
        if one_in(6) {
            return permit.give_back();
        }
        self.depart();
        sleep(Duration::from_millis(choose(0..4) * 50)).await;
        self.arrive(is_background);
        sleep(Duration::from_millis(choose(0..4) * 50)).await;
        self.seen().on_the_wire -= 1;
        let is_refused = self.scenario.is_strict && one_in(6);
        self.seen().was_refused |= is_refused;
        if one_in(6) {
            return permit.end_since(clock::now());
        }
        let hint = RateHint {
            refused: is_refused,
            retry_after: is_refused.then(|| Duration::from_millis(300)),
            ..RateHint::default()
        };
        permit.observe_since(&hint, clock::now()).await;
    }

    fn arrive(&self, is_background: bool) {
        let (mut seen, now) = (self.seen(), clock::now());
        seen.arrivals.push(now);
        if is_background {
            seen.of_background.push(now);
        }
    }

    fn depart(&self) {
        let mut seen = self.seen();
        seen.on_the_wire += 1;
        let too_many = self.scenario.is_strict && seen.on_the_wire > AT_ONCE;
        assert!(!too_many, "{} calls at once", seen.on_the_wire);
    }

    fn check_rates(&self) {
        let seen = self.seen();
        check_rate(seen.arrivals.clone(), RATE as usize);
        check_rate(seen.of_background.clone(), self.share.of_background);
    }

    /// A whole window is granted at the quota's pace.
    async fn check_nothing_is_lost(&self) {
        if self.seen().was_refused {
            // The limit is lower for a while.
            return;
        }
        sleep(3 * PER).await;
        let watch = Stopwatch::start();
        for _ in 0..RATE {
            let urgency = Urgency::new(Lane::CallPop, None);
            let permit = self
                .budget
                .acquire(scope(0), CallKind::Search, &urgency)
                .await;
            let Ok(permit) = permit else {
                panic!("refused although nobody is in a hurry");
            };
            permit.end_since(clock::now());
        }
        let took = watch.elapsed();
        // A lost one would be missed for an hour.
        assert!(
            took < 4 * PER,
            "a slot was lost: {RATE} calls took {took:?}"
        );
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic")
    }
}
