//! What a CRM's hints delay, and for how long.

use super::super::pauses::LONGEST_PAUSE;
use super::*;

#[tokio::test(start_paused = true)]
async fn retry_after_pauses_all_lanes_of_the_scope_and_then_they_go_on() {
    let budget = budget(10, SECOND, 10, 1.0);
    let hint = RateHint {
        refused: true,
        retry_after: Some(30 * SECOND),
        ..RateHint::default()
    };
    spend(&budget, Lane::CallPop)
        .await
        .unwrap()
        .observe(&hint)
        .await;
    let watch = Stopwatch::start();
    let urgency = Urgency::new(Lane::CallPop, within_from_now(5 * SECOND));
    assert_eq!(
        budget
            .acquire(scope("a"), CallKind::Search, &urgency)
            .await
            .unwrap_err()
            .retry_after,
        30 * SECOND
    );
    assert!(
        budget
            .acquire(scope("b"), CallKind::Search, &urgency)
            .await
            .is_ok(),
        "another scope is not concerned"
    );
    assert_eq!(watch.elapsed(), Duration::ZERO);
    let (pop, warm) = tokio::join!(
        spend(&budget, Lane::CallPop),
        spend(&budget, Lane::Prefetch)
    );
    assert!(pop.is_ok() && warm.is_ok());
    assert_eq!(
        watch.elapsed(),
        30 * SECOND + ms(100),
        "the background goes at its pace"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_reaches_those_who_wait_already() {
    let budget = slow();
    let first = spend(&budget, Lane::CallPop).await.unwrap();
    let urgency = Urgency::new(Lane::CallPop, within_from_now(5 * SECOND));
    let watch = Stopwatch::start();
    let (denied, ()) = tokio::join!(
        budget.acquire(scope("a"), CallKind::Search, &urgency),
        async {
            sleep(ms(50)).await;
            let hint = RateHint {
                refused: true,
                retry_after: Some(30 * SECOND),
                ..RateHint::default()
            };
            first.observe(&hint).await;
        }
    );
    assert_eq!(
        (denied.unwrap_err().retry_after, watch.elapsed()),
        (30 * SECOND, ms(50))
    );
}

#[tokio::test(start_paused = true)]
async fn few_calls_left_pause_the_background_only_until_the_reset() {
    let budget = budget(10, SECOND, 10, 1.0);
    let hint = RateHint {
        remaining: Some(4),
        limit: Some(50),
        reset_after: Some(20 * SECOND),
        ..RateHint::default()
    };
    spend(&budget, Lane::CallPop)
        .await
        .unwrap()
        .observe(&hint)
        .await;
    let watch = Stopwatch::start();
    assert!(spend(&budget, Lane::CallPop).await.is_ok());
    assert_eq!(watch.elapsed(), Duration::ZERO);
    assert!(spend(&budget, Lane::Prefetch).await.is_ok());
    assert_eq!(watch.elapsed(), 20 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_pause_does_not_outlive_an_hour() {
    let budget = slow();
    let hint = RateHint {
        retry_after: Some(400 * LONGEST_PAUSE),
        ..RateHint::default()
    };
    spend(&budget, Lane::CallPop)
        .await
        .unwrap()
        .observe(&hint)
        .await;
    let watch = Stopwatch::start();
    assert!(spend(&budget, Lane::Prefetch).await.is_ok());
    assert_eq!(watch.elapsed(), LONGEST_PAUSE);
}

#[tokio::test(start_paused = true)]
async fn a_ringing_phone_ends_a_pause_that_no_longer_holds() {
    let budget = slow();
    let hint = RateHint {
        refused: true,
        retry_after: Some(600 * SECOND),
        ..RateHint::default()
    };
    spend(&budget, Lane::CallPop)
        .await
        .unwrap()
        .observe(&hint)
        .await;
    let watch = Stopwatch::start();
    let (probe, warm) = tokio::join!(
        async {
            let probe = spend(&budget, Lane::CallPop).await.unwrap();
            let went = watch.elapsed();
            probe.observe(&RateHint::default()).await;
            went
        },
        async {
            let _permit = spend(&budget, Lane::Prefetch).await.unwrap();
            watch.elapsed()
        }
    );
    assert_eq!((probe, warm), (30 * SECOND, 30 * SECOND + ms(100)));
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_not_forgotten_with_its_scope() {
    let budget = slow();
    let hint = RateHint {
        retry_after: Some(60 * SECOND),
        ..RateHint::default()
    };
    spend(&budget, Lane::CallPop)
        .await
        .unwrap()
        .observe(&hint)
        .await;
    sleep(20 * SECOND).await;
    budget.sweep();
    let urgency = Urgency::new(Lane::CallPop, within_from_now(SECOND));
    assert!(
        budget
            .acquire(scope("a"), CallKind::Search, &urgency)
            .await
            .is_err()
    );
}

/// A pause of ten minutes, after half a minute: a ringing phone may probe.
async fn paused_until_a_probe(budget: &Budget, name: &str) {
    let hint = RateHint {
        retry_after: Some(600 * SECOND),
        ..RateHint::default()
    };
    budget
        .acquire(
            scope(name),
            CallKind::Search,
            &Urgency::new(Lane::CallPop, None),
        )
        .await
        .unwrap()
        .observe(&hint)
        .await;
    sleep(30 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_back_is_free_for_the_next_phone() {
    let budget = slow();
    paused_until_a_probe(&budget, "a").await;
    let watch = Stopwatch::start();
    spend(&budget, Lane::CallPop).await.unwrap().give_back();
    let _probe = spend(&budget, Lane::CallPop).await.unwrap();
    assert!(watch.elapsed() < SECOND, "{:?}", watch.elapsed());
    let urgency = Urgency::new(Lane::CallPop, within_from_now(SECOND));
    let third = budget.acquire(scope("a"), CallKind::Search, &urgency).await;
    assert!(third.is_err(), "one probe is under way");
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_free_again_if_the_credential_of_the_call_has_no_room() {
    let budget = budget(4, 3_600 * SECOND, 4, 1.0);
    for _ in 0..4 {
        let urgency = Urgency::new(Lane::CallPop, None);
        let _spent = budget
            .acquire(scope("credential"), CallKind::Search, &urgency)
            .await;
    }
    // Forgets what is known of the credential's room, but not its calls.
    budget.sweep();
    paused_until_a_probe(&budget, "a").await;
    let scopes = Scopes {
        owner: scope("a"),
        credential: scope("credential"),
    };
    let urgency = Urgency::new(Lane::CallPop, within_from_now(10 * SECOND));
    let denied = budget.acquire(scopes, CallKind::Search, &urgency).await;
    assert!(denied.is_err(), "the credential has spent its window");
    let watch = Stopwatch::start();
    let _probe = spend(&budget, Lane::CallPop).await.unwrap();
    assert!(watch.elapsed() < SECOND, "{:?}", watch.elapsed());
}
