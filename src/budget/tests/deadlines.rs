//! Which waiters get an error in time, and which continue without a caller.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_deadline_fails_at_once_with_the_estimate_and_spends_nothing() {
    let budget = slow();
    let mut race = Race::new(&budget);
    for name in ["spent", "head", "second"] {
        race.enter(name, Lane::CallPop).await;
    }
    for _ in 0..5 {
        let watch = Stopwatch::start();
        let urgency = Urgency::new(Lane::CallPop, within_from_now(ms(250)));
        let denied = budget
            .acquire(scope("a"), CallKind::Search, &urgency)
            .await
            .unwrap_err();
        assert_eq!(
            (denied.retry_after, watch.elapsed()),
            (ms(300), Duration::ZERO)
        );
    }
    let urgency = Urgency::new(Lane::CallPop, within_from_now(ms(301)));
    assert!(
        budget
            .acquire(scope("a"), CallKind::Search, &urgency)
            .await
            .is_ok()
    );
    assert!((300..=301).contains(&race.start.elapsed().as_millis()));
    assert_eq!(
        race.finish().await,
        [("spent", 0), ("head", 100), ("second", 200)]
    );
}

#[tokio::test(start_paused = true)]
async fn the_estimate_knows_the_share_of_the_background() {
    let budget = budget(10, SECOND, 10, 0.1);
    let _permit = spend(&budget, Lane::Prefetch).await.unwrap();
    let urgency = Urgency::new(Lane::Prefetch, within_from_now(ms(500)));
    assert_eq!(
        budget
            .acquire(scope("a"), CallKind::Search, &urgency)
            .await
            .unwrap_err()
            .retry_after,
        SECOND
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_overtaken_past_its_deadline_is_refused_then() {
    let budget = slow();
    let mut race = Race::new(&budget);
    race.enter("spent", Lane::CallPop).await;
    let deadline = within_from_now(ms(250));
    let urgency = Urgency::new(Lane::Revalidate, deadline);
    let (overtaken, ()) = tokio::join!(
        budget.acquire(scope("a"), CallKind::Search, &urgency),
        async {
            for _ in 0..5 {
                race.enter("pop", Lane::CallPop).await;
            }
        }
    );
    assert!(overtaken.is_err());
    assert!(clock::now() <= deadline.unwrap());
    assert_eq!(race.finish().await.last(), Some(&("pop", 500)));
}

#[tokio::test(start_paused = true)]
async fn an_extended_deadline_is_honoured() {
    let budget = slow();
    let mut race = Race::new(&budget);
    race.enter("spent", Lane::CallPop).await;
    let urgency = Urgency::new(Lane::Prefetch, within_from_now(ms(150)));
    let (granted, ()) = tokio::join!(
        budget.acquire(scope("a"), CallKind::Search, &urgency),
        async {
            sleep(ms(50)).await;
            urgency.join(Lane::Prefetch, within_from_now(SECOND));
            race.enter("pop", Lane::CallPop).await;
            race.enter("pop", Lane::CallPop).await;
        }
    );
    assert!(granted.is_ok());
    assert_eq!(race.start.elapsed(), ms(300));
}

#[tokio::test(start_paused = true)]
async fn a_load_whose_callers_have_left_goes_on_behind_the_scenes() {
    let budget = slow();
    let mut race = Race::new(&budget);
    race.enter("spent", Lane::CallPop).await;
    let late = Urgency::new(Lane::CallPop, within_from_now(ms(20)));
    sleep(ms(20)).await;
    let (granted, ()) = tokio::join!(budget.acquire(scope("a"), CallKind::Search, &late), async {
        race.enter("pop", Lane::CallPop).await;
    });
    assert!(granted.is_ok());
    assert_eq!(
        race.start.elapsed(),
        ms(200),
        "after the phone that rings now"
    );
    assert_eq!(race.finish().await, [("spent", 0), ("pop", 100)]);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_has_begun_ends_before_later_ones_begin() {
    let mut race = Race::new(&slow());
    let first = race.enter("first", Lane::Prefetch).await;
    sleep(ms(1)).await;
    for name in ["second", "third"] {
        race.enter(name, Lane::Prefetch).await;
    }
    let (budget, granted, start) = (
        Arc::clone(&race.budget),
        Arc::clone(&race.granted),
        race.start,
    );
    race.tasks.spawn(async move {
        let _permit = budget
            .acquire(scope("a"), CallKind::Search, &first)
            .await
            .unwrap();
        granted
            .lock()
            .push(("details of first", start.elapsed().as_millis()));
    });
    assert_eq!(
        race.finish().await,
        [
            ("first", 0),
            ("details of first", 100),
            ("second", 200),
            ("third", 300)
        ],
        "else a batch would end everything at its very end"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_is_behind_a_load_that_is_no_longer_urgent_goes_on() {
    let budget = slow();
    let mut race = Race::new(&budget);
    race.enter("spent", Lane::CallPop).await;
    let background = Urgency::new(Lane::Revalidate, None);
    sleep(ms(1)).await;
    let relaxed = race.enter("relaxed", Lane::CallPop).await;
    let behind = async {
        let (granted, ()) = tokio::join!(
            budget.acquire(scope("a"), CallKind::Search, &background),
            async {
                yield_now().await;
                relaxed.relax();
            }
        );
        granted.is_ok()
    };
    assert_eq!(
        timeout(SECOND, behind).await,
        Some(true),
        "it began first, and hears that it is its turn"
    );
    assert_eq!(race.finish().await, [("spent", 0), ("relaxed", 200)]);
}
