//! Behaviour of one replica's budget, in paused time: grants are timed to the millisecond.
#![allow(
    clippy::unnecessary_wraps,
    clippy::unchecked_time_subtraction,
    clippy::needless_pass_by_value,
    reason = "tests"
)]

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{JoinSet, yield_now};

use super::*;
use crate::clock::{self, Instant, Stopwatch, sleep, timeout};
use crate::domain::KeyMaker;

mod approach;
mod deadlines;
mod pauses;
mod rates;
mod replay;
mod scopes;
mod settings;
mod strict;
mod totals;

const SECOND: Duration = Duration::from_secs(1);
const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn scope(name: &str) -> ScopeTag {
    KeyMaker::new([1; 16]).scope(&[name.as_bytes()])
}

fn budget(rate: u32, per: Duration, burst: u32, share: f64) -> Arc<Budget> {
    let quota = Quota::new(rate, per, burst, Scope::User, share).unwrap();
    Arc::new(Budget::new(
        quota,
        &BudgetConfig::default(),
        "test",
        &Metrics::default(),
        None,
    ))
}

/// A call every 100 ms, no burst.
fn slow() -> Arc<Budget> {
    budget(10, SECOND, 1, 1.0)
}

fn within_from_now(limit: Duration) -> Option<Instant> {
    Some(clock::now() + limit)
}

impl Permit {
    /// The reply comes now.
    async fn observe(self, hint: &RateHint) {
        self.observe_since(hint, clock::now()).await;
    }
}

async fn spend(budget: &Budget, lane: Lane) -> Result<Permit, Exhausted> {
    budget
        .acquire(scope("a"), CallKind::Search, &Urgency::new(lane, None))
        .await
}

fn used(budget: &Budget) -> Usage {
    let [(None, _, usage)] = budget.usage()[..] else {
        panic!("one quota for all calls")
    };
    usage
}

/// Tasks that acquire, and which was granted when, in milliseconds since the start.
struct Race {
    budget: Arc<Budget>,
    start: Stopwatch,
    granted: Arc<Mutex<Vec<(&'static str, u128)>>>,
    tasks: JoinSet<()>,
}

impl Race {
    fn new(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            start: Stopwatch::start(),
            granted: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    /// Adds a runner and lets it reach its place.
    async fn enter(&mut self, name: &'static str, lane: Lane) -> Arc<Urgency> {
        let urgency = Arc::new(Urgency::new(lane, None));
        let (budget, granted, start) = (
            Arc::clone(&self.budget),
            Arc::clone(&self.granted),
            self.start,
        );
        let runner = Arc::clone(&urgency);
        self.tasks.spawn(async move {
            let _permit = budget
                .acquire(scope("a"), CallKind::Search, &runner)
                .await
                .unwrap();
            granted.lock().push((name, start.elapsed().as_millis()));
        });
        yield_now().await;
        urgency
    }

    async fn finish(mut self) -> Vec<(&'static str, u128)> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.granted.lock().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_burst_goes_at_once_and_then_the_rate_exactly() {
    let (budget, start) = (budget(10, SECOND, 4, 0.5), Stopwatch::start());
    let mut times = Vec::new();
    for _ in 0..7 {
        let _permit = spend(&budget, Lane::CallPop).await.unwrap();
        times.push(start.elapsed().as_millis());
    }
    assert_eq!(times, [0, 0, 0, 0, 100, 200, 300]);
    // After a pause the burst is available again, and no more than that.
    sleep(10 * SECOND).await;
    let start = Stopwatch::start();
    for _ in 0..5 {
        let _permit = spend(&budget, Lane::CallPop).await.unwrap();
    }
    assert_eq!(start.elapsed(), ms(100));
}

#[tokio::test(start_paused = true)]
async fn a_call_pop_overtakes_queued_prefetch() {
    let mut race = Race::new(&slow());
    for name in ["first", "second", "third"] {
        race.enter(name, Lane::Prefetch).await;
    }
    race.enter("stale", Lane::Revalidate).await;
    race.enter("pop", Lane::CallPop).await;
    let order = [
        ("first", 0),
        ("pop", 100),
        ("stale", 200),
        ("second", 300),
        ("third", 400),
    ];
    assert_eq!(race.finish().await, order);
}

#[tokio::test(start_paused = true)]
async fn within_a_lane_the_first_to_come_goes_first() {
    let mut race = Race::new(&slow());
    for name in ["a", "b", "c", "d", "e", "f"] {
        race.enter(name, Lane::CallPop).await;
    }
    let names: Vec<_> = race
        .finish()
        .await
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f"]);
}

#[tokio::test(start_paused = true)]
async fn a_raised_prefetch_moves_up_at_once() {
    let mut race = Race::new(&slow());
    for name in ["first", "second"] {
        race.enter(name, Lane::Prefetch).await;
    }
    let joined = race.enter("joined", Lane::Prefetch).await;
    race.enter("stale", Lane::Revalidate).await;
    sleep(ms(30)).await;
    joined.join(Lane::CallPop, None);
    assert_eq!(
        race.finish().await,
        [
            ("first", 0),
            ("joined", 100),
            ("stale", 200),
            ("second", 300)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_raise_frees_a_prefetch_from_its_share() {
    let mut race = Race::new(&budget(10, SECOND, 10, 0.1));
    race.enter("share", Lane::Prefetch).await;
    let joined = race.enter("joined", Lane::Prefetch).await;
    sleep(ms(30)).await;
    joined.join(Lane::CallPop, None);
    assert_eq!(race.finish().await, [("share", 0), ("joined", 30)]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_leaves_the_line() {
    let mut race = Race::new(&slow());
    race.enter("first", Lane::Prefetch).await;
    let budget = Arc::clone(&race.budget);
    let leave = [ms(30), ms(60)].map(|after| timeout(after, spend(&budget, Lane::Prefetch)));
    // One of them is head and sleeps, the other waits behind it.
    let (head, second) = tokio::join!(leave.into_iter().next().unwrap(), async {
        let second = timeout(ms(60), spend(&budget, Lane::Prefetch)).await;
        race.enter("last", Lane::Prefetch).await;
        second
    });
    assert!(head.is_none() && second.is_none());
    assert_eq!(race.finish().await, [("first", 0), ("last", 100)]);
    budget.sweep();
    sleep(SECOND).await;
    budget.sweep();
    assert!(
        budget.all.gates.lock().is_empty(),
        "no place was left behind"
    );
}

#[tokio::test(start_paused = true)]
async fn prefetch_never_exceeds_its_share() {
    let budget = budget(10, SECOND, 10, 0.3);
    let (start, mut grants) = (Stopwatch::start(), 0_u64);
    while start.elapsed() < 100 * SECOND {
        let _permit = spend(&budget, Lane::Prefetch).await.unwrap();
        grants += 1;
        if grants.is_multiple_of(3) {
            let _permit = spend(&budget, Lane::CallPop).await.unwrap();
        }
    }
    // A burst of 3, then 3 a second, and the one that came at the end.
    assert!((300..=304).contains(&grants), "{grants}");
}

#[tokio::test(start_paused = true)]
async fn a_call_pop_during_a_saturating_prefetch_waits_at_most_two_intervals() {
    for (burst, share) in [(1, 1.0), (10, 1.0), (10, 0.5)] {
        let budget = budget(10, SECOND, burst, share);
        let mut warm_up = JoinSet::new();
        for _ in 0..500 {
            let budget = Arc::clone(&budget);
            warm_up.spawn(async move { spend(&budget, Lane::Prefetch).await.is_ok() });
        }
        for n in 0..50 {
            sleep(ms(137 + n * 11)).await;
            let watch = Stopwatch::start();
            let _permit = spend(&budget, Lane::CallPop).await.unwrap();
            assert!(
                watch.elapsed() <= ms(200),
                "{:?} of burst {burst}, share {share}",
                watch.elapsed()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_background_waiter_goes_while_a_call_pop_waits() {
    let mut race = Race::new(&budget(10, SECOND, 1, 1.0));
    for _ in 0..20 {
        race.enter("warm", Lane::Prefetch).await;
        race.enter("pop", Lane::CallPop).await;
    }
    let granted = race.finish().await;
    let last_pop = granted
        .iter()
        .rposition(|(name, _)| *name == "pop")
        .unwrap();
    assert_eq!(
        granted[1..=last_pop]
            .iter()
            .filter(|(name, _)| *name == "warm")
            .count(),
        0,
        "{granted:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn waits_are_measured_in_the_lane_that_was_granted() {
    let metrics = Metrics::default();
    let quota = Quota::new(10, SECOND, 1, Scope::User, 1.0).unwrap();
    let budget = Arc::new(Budget::new(
        quota,
        &BudgetConfig::default(),
        "test",
        &metrics,
        None,
    ));
    let mut race = Race::new(&budget);
    race.enter("first", Lane::Prefetch).await;
    let joined = race.enter("joined", Lane::Prefetch).await;
    sleep(ms(60)).await;
    joined.join(Lane::CallPop, None);
    race.finish().await;
    let page = metrics.render();
    assert!(
        page.contains(r#"contactd_quota_wait_seconds_sum{platform="test",lane="call_pop"} 0.04"#),
        "{page}"
    );
    assert!(
        page.contains(r#"contactd_quota_wait_seconds_count{platform="test",lane="prefetch"} 1"#),
        "{page}"
    );
}

#[tokio::test(start_paused = true)]
async fn usage_counts_who_waits_and_what_is_paused_and_names_no_scope() {
    let budget = slow();
    let mut race = Race::new(&budget);
    for lane in [
        Lane::CallPop,
        Lane::Prefetch,
        Lane::Prefetch,
        Lane::Revalidate,
    ] {
        race.enter("waits", lane).await;
    }
    let paused = |all: bool, background: bool| RateHint {
        refused: all,
        retry_after: all.then_some(30 * SECOND),
        remaining: background.then_some(1),
        limit: Some(50),
        reset_after: Some(30 * SECOND),
    };
    for (name, hint) in [("b", paused(true, false)), ("c", paused(false, true))] {
        let urgency = Urgency::new(Lane::CallPop, None);
        budget
            .acquire(scope(name), CallKind::Search, &urgency)
            .await
            .unwrap()
            .observe(&hint)
            .await;
    }
    let usage = Usage {
        scopes: 3,
        paused: 1,
        background_paused: 2,
        waiting: [0, 1, 2],
    };
    assert_eq!(used(&budget), usage);
    race.finish().await;
    assert_eq!(
        used(&budget),
        Usage {
            waiting: [0; 3],
            ..usage
        }
    );
}

#[tokio::test(start_paused = true)]
async fn scopes_no_longer_used_are_forgotten() {
    let budget = budget(10, SECOND, 2, 0.5);
    let maker = KeyMaker::new([1; 16]);
    for n in 0..100_000 {
        let scope = maker.scope(&[n.to_string().as_bytes()]);
        let _permit = budget
            .acquire(scope, CallKind::Search, &Urgency::new(Lane::Prefetch, None))
            .await
            .unwrap();
    }
    let kept = spend(&budget, Lane::CallPop).await.unwrap();
    assert_eq!(budget.all.gates.lock().len(), 100_001);
    sleep(SECOND).await;
    budget.sweep();
    assert_eq!(budget.all.gates.lock().len(), 1, "whose call is under way");
    assert!(
        budget.all.gates.lock().capacity() < 100,
        "the memory is given back"
    );
    assert_eq!(budget.all.limiter.len(), 0);
    drop(kept);
    budget.sweep();
    assert!(budget.all.gates.lock().is_empty());
}
