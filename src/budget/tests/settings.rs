//! Quotas that change while calls are made and wait.

use super::*;

fn quota(rate: u32, per: Duration) -> Quota {
    Quota::new(rate, per, rate, Scope::User, 1.0).unwrap()
}

fn full(rate: u32, per: Duration) -> Arc<Budget> {
    budget(rate, per, rate, 1.0)
}

/// This many calls that have had their replies.
async fn call(budget: &Budget, kind: CallKind, calls: usize) {
    for _ in 0..calls {
        let permit = budget
            .acquire(scope("a"), kind, &Urgency::new(Lane::CallPop, None))
            .await
            .unwrap();
        permit.observe(&RateHint::default()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_go_at_once_if_the_quota_rises_far_enough() {
    let budget = full(4, 10 * SECOND);
    call(&budget, CallKind::Search, 4).await;
    let mut race = Race::new(&budget);
    for name in ["pop", "other pop", "third pop"] {
        race.enter(name, Lane::CallPop).await;
    }
    sleep(SECOND).await;
    budget.set(quota(6, 10 * SECOND), SECOND);
    // Earlier calls still count: two of six are left.
    assert_eq!(
        race.finish().await,
        [("pop", 1_000), ("other pop", 1_000), ("third pop", 10_000)]
    );
    assert_eq!(budget.quota(None).rate().get(), 6);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_keep_to_a_quota_that_falls() {
    let budget = full(10, SECOND);
    call(&budget, CallKind::Search, 10).await;
    let (urgency, patient) = (
        Urgency::new(Lane::CallPop, within_from_now(ms(1_500))),
        Urgency::new(Lane::CallPop, None),
    );
    let (start, scope) = (Stopwatch::start(), scope("a"));
    let mut first = Box::pin(budget.acquire(scope, CallKind::Search, &patient));
    let mut second = Box::pin(budget.acquire(scope, CallKind::Search, &urgency));
    assert!(
        timeout(ms(10), &mut first).await.is_none() && timeout(ms(10), &mut second).await.is_none()
    );
    budget.set(quota(1, SECOND), SECOND);
    let (first, second) = tokio::join!(async { (first.await.is_ok(), start.elapsed()) }, async {
        (second.await.is_ok(), start.elapsed())
    });
    assert_eq!(first, (true, SECOND));
    assert!(
        !second.0 && second.1 < SECOND,
        "it is told at once that its turn comes too late: {second:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_past_is_unknown_if_the_window_becomes_longer() {
    let budget = full(4, SECOND);
    call(&budget, CallKind::Search, 4).await;
    // Outside the window of one second, but not outside that of four.
    sleep(2 * SECOND).await;
    budget.set(quota(4, 4 * SECOND), SECOND);
    let start = Stopwatch::start();
    call(&budget, CallKind::Search, 1).await;
    assert!(start.elapsed() >= 4 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_shorter_window_a_share_or_the_same_quota_makes_nobody_wait() {
    let budget = full(4, 4 * SECOND);
    call(&budget, CallKind::Search, 2).await;
    let start = Stopwatch::start();
    for quota in [
        quota(4, 4 * SECOND),
        quota(4, 2 * SECOND),
        Quota::new(4, 2 * SECOND, 4, Scope::User, 0.5).unwrap(),
    ] {
        budget.set(quota, SECOND);
    }
    call(&budget, CallKind::Search, 1).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_kind_of_calls_is_counted_apart_and_together_again() {
    let budget = full(2, 2 * SECOND);
    call(&budget, CallKind::Search, 2).await;
    let waiting = Urgency::new(Lane::CallPop, None);
    let mut waiting = Box::pin(budget.acquire(scope("a"), CallKind::Search, &waiting));
    assert!(timeout(ms(1), &mut waiting).await.is_none());

    let apart = Quotas {
        search: Some(quota(3, 2 * SECOND)),
        ..quota(2, 2 * SECOND).into()
    };
    let start = Stopwatch::start();
    budget.set(apart, SECOND);
    assert_eq!(budget.usage().len(), 2);
    waiting.await.unwrap().observe(&RateHint::default()).await;
    // Two calls are in a count that no longer applies to searches.
    assert!(start.elapsed() >= 2 * SECOND, "{:?}", start.elapsed());
    let start = Stopwatch::start();
    call(&budget, CallKind::Search, 2).await;
    call(&budget, CallKind::Other, 1).await;
    assert_eq!(start.elapsed(), Duration::ZERO, "each has its own");

    budget.set(quota(2, 2 * SECOND), SECOND);
    assert_eq!(budget.usage().len(), 1);
    let start = Stopwatch::start();
    call(&budget, CallKind::Search, 1).await;
    assert!(start.elapsed() >= 2 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_scope_stays_what_it_was_and_one_call_is_kept_for_as_long_as_the_settings_say() {
    let account = |rate| Quota::new(rate, SECOND, rate, Scope::Account, 1.0).unwrap();
    let config = BudgetConfig {
        admitted: SECOND,
        ..BudgetConfig::default()
    };
    let budget = Budget::new(account(2), &config, "test", &Metrics::default(), None);
    budget.set(quota(2, SECOND), 100 * SECOND);
    assert_eq!(budget.quota(None).scope(), Scope::Account);
    budget.reserve_one(scope("a")).await;
    sleep(50 * SECOND).await;
    let unverified = async || {
        let urgency = Urgency::new(Lane::CallPop, within_from_now(ms(600)));
        urgency.set_verified(false);
        budget.acquire(scope("a"), CallKind::Search, &urgency).await
    };
    let _first = unverified().await.unwrap();
    assert!(unverified().await.is_err(), "the second of two is kept");
}
