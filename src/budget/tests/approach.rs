//! Calls whose credential has no room wait before the gate of their owner.

use super::scopes::{accepted, pop, refused, take, unidentified};
use super::*;

/// The seconds for which calls of this lane have waited.
fn waited(metrics: &Metrics, lane: &str) -> f64 {
    let page = metrics.render();
    let mut lines = page.lines();
    let sum = lines.find(|line| line.contains("quota_wait_seconds_sum") && line.contains(lane));
    sum.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_whole_wait_is_measured() {
    let metrics = Metrics::default();
    let quota = Quota::new(10, SECOND, 10, Scope::User, 1.0).unwrap();
    let budget = Budget::new(quota, &BudgetConfig::default(), "test", &metrics, None);
    unidentified(&budget, "resting")
        .await
        .observe(&refused(Some(20 * SECOND)))
        .await;
    let _permit = take(&budget, "user", "resting", Lane::Prefetch, None)
        .await
        .unwrap();
    let waited = waited(&metrics, "prefetch");
    assert!((20.0..21.5).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_a_full_credential_keep_their_order() {
    let quota = budget(3, SECOND, 3, 1.0);
    for _ in 0..3 {
        pop(&quota, "another", "token")
            .await
            .observe(&accepted())
            .await;
    }
    let (order, mut calls) = (Arc::new(Mutex::new(Vec::new())), JoinSet::new());
    let mut call = |lane, name: &'static str, n: usize| {
        let (quota, order) = (Arc::clone(&quota), Arc::clone(&order));
        calls.spawn(async move {
            let permit = take(&quota, "user", "token", lane, None).await.unwrap();
            order.lock().push((name, n));
            sleep(ms(20)).await;
            permit.observe(&accepted()).await;
        });
    };
    for n in 0..12 {
        call(Lane::Prefetch, "batch", n);
    }
    sleep(ms(300)).await;
    for n in 0..7 {
        call(Lane::CallPop, "phone", n);
        sleep(ms(1)).await;
    }
    calls.join_all().await;
    let order = order.lock().clone();
    let expected: Vec<_> = (0..7).map(|n| ("phone", n)).collect();
    assert_eq!(order[..7], expected, "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_room_behind_another_of_its_credential_takes_no_turn_of_its_owner() {
    let quota = budget(3, SECOND, 3, 1.0);
    // The credential has room for one call in 150 ms, and for the next one in 650 ms.
    for waits in [ms(500), Duration::ZERO, ms(350)] {
        let permit = pop(&quota, "another", "token").await;
        permit.observe(&accepted()).await;
        sleep(waits).await;
    }
    let mut tasks = JoinSet::new();
    for _ in 0..2 {
        let of_task = Arc::clone(&quota);
        tasks.spawn(async move { pop(&of_task, "user", "token").await });
    }
    sleep(ms(60)).await;
    let start = Stopwatch::start();
    let _permit = pop(&quota, "user", "other token").await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    tasks.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_comes_before_its_credential_has_room_is_refused_at_once() {
    for left in [10, 50, 99].map(ms) {
        for room_in in [100, 240, 400].map(ms) {
            let quota = budget(1, SECOND, 1, 1.0);
            let permit = pop(&quota, "another", "token").await;
            permit.observe(&accepted()).await;
            sleep(SECOND.saturating_sub(room_in)).await;
            let start = Stopwatch::start();
            let deadline = within_from_now(left);
            let refused = take(&quota, "user", "token", Lane::CallPop, deadline).await;
            let retry_after = refused.unwrap_err().retry_after;
            assert_eq!((start.elapsed(), retry_after), (Duration::ZERO, room_in));
            let _permit = pop(&quota, "user", "other token").await;
            assert_eq!(start.elapsed(), Duration::ZERO, "nothing is spent");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_a_full_credential_are_ahead_of_one_that_asks_when_its_turn_is() {
    let quota = budget(2, SECOND, 2, 1.0);
    for _ in 0..2 {
        let permit = pop(&quota, "another", "token").await;
        permit.observe(&accepted()).await;
    }
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let of_task = Arc::clone(&quota);
        tasks.spawn(async move { pop(&of_task, "user", "token").await });
    }
    sleep(ms(10)).await;
    let scopes = Scopes {
        owner: scope("user"),
        credential: scope("token"),
    };
    let outlook = quota
        .outlook(scopes, CallKind::Search, (Lane::CallPop, true))
        .await;
    assert_eq!(outlook.waiting.iter().sum::<usize>(), 4);
    assert!(outlook.turn_in >= 2 * SECOND, "{:?}", outlook.turn_in);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_raised_while_its_credential_is_full_has_waited_in_its_lane_since_then() {
    let metrics = Metrics::default();
    let quota = Quota::new(1, 10 * SECOND, 1, Scope::User, 1.0).unwrap();
    let budget = Budget::new(quota, &BudgetConfig::default(), "test", &metrics, None);
    pop(&budget, "another", "token")
        .await
        .observe(&accepted())
        .await;
    let urgency = Urgency::new(Lane::Prefetch, None);
    let scopes = Scopes {
        owner: scope("user"),
        credential: scope("token"),
    };
    let raise = async {
        sleep(4 * SECOND).await;
        urgency.join(Lane::CallPop, None);
    };
    let call = budget.acquire(scopes, CallKind::Search, &urgency);
    let (permit, ()) = tokio::join!(call, raise);
    let _permit = permit.unwrap();
    let waited = waited(&metrics, "call_pop");
    assert!((6.0..6.5).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_owner_rests_holds_up_no_other_owner_of_its_credential() {
    let quota = budget(3, SECOND, 3, 1.0);
    pop(&quota, "resting", "other token")
        .await
        .observe(&refused(Some(600 * SECOND)))
        .await;
    for _ in 0..3 {
        pop(&quota, "another", "token")
            .await
            .observe(&accepted())
            .await;
    }
    let (mut tasks, of_task) = (JoinSet::new(), Arc::clone(&quota));
    tasks.spawn(async move { pop(&of_task, "resting", "token").await });
    sleep(ms(10)).await;
    let start = Stopwatch::start();
    let _permit = take(&quota, "user", "token", Lane::Prefetch, None)
        .await
        .unwrap();
    assert!(start.elapsed() < 2 * SECOND, "{:?}", start.elapsed());
}
