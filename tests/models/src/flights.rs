//! Single flight: callers of all kinds join, wait, leave and invalidate while loads begin, call the
//! CRM, end, fail, panic and are cut off.
//!
//! What must hold:
//! * everybody who waits gets the load's result, or its failure, whoever else leaves;
//! * a load that somebody waits for is not given up, and one that nobody waits for does not wait
//!   for ever for its first call;
//! * the CRM is asked once at a time for each key, unless a caller asked for a load of its own;
//! * who joins after an invalidation does not get a load that began before it;
//! * nothing is left on the board.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::{TaskTracker, cancel_one_in};

use crate::cache::TieredCache;
use crate::clock::{self, sleep};
use crate::domain::{Lane, LookupError};
use crate::explore::{all, choose, one_in, one_of};
use crate::flight::{Flights, Join, LoadResult, NewLoad, Seat};
use crate::samples;
use crate::trace::Span;
use crate::urgency::{Demand, Urgency};

/// As `LoadKey` of the resolver: the question, and its last invalidation.
type Key = (u8, u64);

/// What one execution is about.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    callers: u64,
    keys: u64,
    joins: &'static [Join],
    /// Whether loads panic and are cut off.
    fails: bool,
    invalidates: bool,
}

/// Callers that take any load.
pub const SHARED: Scenario = Scenario {
    callers: 4,
    keys: 1,
    joins: &[Join::Any],
    fails: false,
    invalidates: true,
};

/// Callers that want loads of their own, and loads that break.
pub const BROKEN: Scenario = Scenario {
    callers: 4,
    keys: 2,
    joins: &[Join::Any, Join::Any, Join::NotCalledYet, Join::Nobody],
    fails: true,
    invalidates: true,
};

#[derive(Clone)]
struct World {
    scenario: Scenario,
    flights: Flights<Key, usize>,
    cache: TieredCache,
    loads: Arc<Mutex<Loads>>,
}

#[derive(Default)]
struct Loads {
    /// The order of what begins.
    sequence: usize,
    /// When each load began.
    begun: Vec<usize>,
    /// When the last invalidation began that is confirmed.
    confirmed: usize,
    /// Loads that wait for the CRM, by key.
    calling: HashMap<Key, usize>,
}

/// A load that waits for the CRM, until it is dropped.
struct Calling {
    loads: Arc<Mutex<Loads>>,
    key: Key,
}

impl Drop for Calling {
    fn drop(&mut self) {
        let mut loads = self.loads.lock().expect("no panic");
        *loads.calling.get_mut(&self.key).expect("it calls") -= 1;
    }
}

/// One execution.
pub async fn run(scenario: Scenario) {
    cancel_one_in(if scenario.fails { 4 } else { 0 });
    let tasks = TaskTracker::new();
    let world = World {
        scenario,
        flights: Flights::new(tasks.clone(), Handle),
        cache: samples::memory_only(),
        loads: Arc::default(),
    };
    let mut callers = Vec::new();
    for _ in 0..scenario.callers {
        callers.push(world.clone().call());
    }
    all(callers).await;
    tasks.wait().await;
    for key in 0..scenario.keys {
        for since in 0..=scenario.callers {
            let left = world.flights.running(&(key as u8, since));
            assert!(left.is_none(), "a load is left on the board");
        }
    }
}

impl World {
    /// One caller, in one of its ways.
    async fn call(self) {
        sleep(Duration::from_millis(choose(0..3) * 10)).await;
        if self.scenario.invalidates && one_in(4) {
            self.invalidate().await;
        }
        let confirmed = self.loads.lock().expect("no panic").confirmed;
        let number = choose(0..self.scenario.keys) as u8;
        let since = self.cache.invalidated_at(&samples::question(0, number));
        let join = one_of(self.scenario.joins);
        let lane = one_of(&Lane::ALL);
        let mut seat = self.take_seat((number, since), join, lane);
        // A batch leaves, because its load may never have its turn.
        if lane == Lane::Prefetch || one_in(3) {
            clock::timeout(Duration::from_millis(choose(0..4) * 5), seat.done()).await;
            return;
        }
        let same = one_in(3).then(|| seat.another());
        let early = if one_in(3) { seat.early().await } else { None };
        let result = seat.wait().await;
        self.check(&result, number, confirmed);
        if let (Some(early), Ok(load)) = (early, &result) {
            assert_eq!(early, *load, "another load's part");
        }
        if let Some(same) = same {
            assert_eq!(same.wait().await, result, "one load has one result");
        }
    }

    /// Invalidates number 0.
    async fn invalidate(&self) {
        let (question, began) = (samples::question(0, 0), self.next());
        let parties = [question.party()];
        let done = self
            .cache
            .invalidate_numbers(question.user(), &parties)
            .await;
        assert_eq!(done, Ok(()));
        let mut loads = self.loads.lock().expect("no panic");
        loads.confirmed = loads.confirmed.max(began);
    }

    fn next(&self) -> usize {
        let mut loads = self.loads.lock().expect("no panic");
        loads.sequence += 1;
        loads.sequence
    }

    fn take_seat(&self, key: Key, join: Join, lane: Lane) -> Seat<usize> {
        let deadline = (lane == Lane::CallPop).then(|| clock::now() + Duration::from_secs(2));
        let demand = Demand {
            lane,
            deadline,
            limit: None,
            verified: !one_in(4),
        };
        let world = self.clone();
        self.flights
            .join_or_lead(key, join, demand, |urgency, early| {
                (!self.scenario.fails || !one_in(8)).then(|| NewLoad {
                    place: (),
                    span: Span,
                    load: async move { world.load(key, &urgency, |load| early.show(load)).await },
                })
            })
    }

    /// One load, in one of its ways.
    async fn load(
        self,
        key: Key,
        urgency: &Arc<Urgency>,
        show: impl FnOnce(usize),
    ) -> LoadResult<usize> {
        let load = self.begin();
        sleep(Duration::from_millis(choose(0..4) * 5)).await;
        // A batch's load whose turn in the quota never comes.
        if !urgency.is_wanted() && one_in(3) {
            self.until_wanted(urgency).await;
        }
        let call = (urgency.spend(), self.calling(key));
        sleep(Duration::from_millis(choose(0..3) * 5)).await;
        if one_in(2) {
            show(load);
            sleep(Duration::from_millis(choose(0..2) * 5)).await;
        }
        if self.scenario.fails && one_in(6) {
            // Past the panic hook, which would report it as a failure of the model.
            std::panic::resume_unwind(Box::new("a connector's bug"));
        }
        drop(call);
        if one_in(6) {
            return Err(LookupError::Overloaded);
        }
        Ok(load)
    }

    async fn until_wanted(&self, urgency: &Urgency) {
        loop {
            let changed = urgency.changed();
            let is_a_batchs = urgency.lane() == Lane::Prefetch && urgency.is_verified();
            if urgency.is_wanted() || !is_a_batchs {
                return;
            }
            changed.await;
        }
    }

    fn begin(&self) -> usize {
        let began = self.next();
        let mut loads = self.loads.lock().expect("no panic");
        loads.begun.push(began);
        loads.begun.len() - 1
    }

    fn calling(&self, key: Key) -> Calling {
        let mut loads = self.loads.lock().expect("no panic");
        let calling = loads.calling.entry(key).or_default();
        *calling += 1;
        let is_shared = self.scenario.joins.iter().all(|join| *join == Join::Any);
        assert!(!is_shared || *calling == 1, "two loads of one question");
        Calling {
            loads: Arc::clone(&self.loads),
            key,
        }
    }

    fn check(&self, result: &LoadResult<usize>, number: u8, confirmed: usize) {
        let loads = self.loads.lock().expect("no panic");
        match result {
            // Only number 0 is invalidated.
            Ok(load) => assert!(
                number != 0 || loads.begun[*load] > confirmed,
                "a load from before an invalidation"
            ),
            Err(LookupError::Overloaded) => {}
            Err(LookupError::Internal) => assert!(
                self.scenario.fails,
                "a load was given up although somebody waited for it"
            ),
            Err(other) => panic!("nobody reported {other:?}"),
        }
    }
}
