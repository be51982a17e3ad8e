//! The limits over all kinds of calls: calls on the wire at once, and calls in any 24 hours.

use std::collections::VecDeque;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
const TIMEOUT: Duration = Duration::from_secs(5);

/// A fast quota with these totals; a slow one if a day allows few calls. Zero stands for no limit.
fn fast(concurrent: u32, per_day: u32, share: f64) -> Quota {
    let rate = if per_day == 0 { 1_000 } else { 1 };
    let quota = Quota::new(rate, SECOND, rate, Scope::User, share).unwrap();
    quota
        .with_totals(NonZeroU32::new(concurrent), NonZeroU32::new(per_day))
        .unwrap()
}

fn budget_of(quotas: impl Into<Quotas>) -> Arc<Budget> {
    let config = BudgetConfig {
        call_timeout: TIMEOUT,
        ..BudgetConfig::default()
    };
    Arc::new(Budget::new(
        quotas,
        &config,
        "test",
        &Metrics::default(),
        None,
    ))
}

async fn pop_within(budget: &Budget, kind: CallKind, limit: Duration) -> Result<Permit, Exhausted> {
    let urgency = Urgency::new(Lane::CallPop, within_from_now(limit));
    budget.acquire(scope("a"), kind, &urgency).await
}

/// Whether a call of this lane gets a permit within this time.
async fn is_granted(budget: &Budget, lane: Lane, within: Duration) -> Option<Permit> {
    let granted = timeout(within, spend(budget, lane)).await;
    granted.and_then(Result::ok)
}

async fn ends(permit: Permit) {
    permit.observe(&RateHint::default()).await;
}

/// A CRM that counts the calls on the wire.
#[derive(Default)]
struct Wire {
    now: Mutex<(usize, usize)>,
}

impl Wire {
    fn begins(&self) {
        let (now, most) = &mut *self.now.lock();
        *now += 1;
        *most = (*most).max(*now);
    }

    fn ends(&self) {
        self.now.lock().0 -= 1;
    }

    fn most(&self) -> usize {
        self.now.lock().1
    }
}

/// One call, which ends in one of the ways in which calls end, or is not made at all.
async fn any_call(budget: Arc<Budget>, wire: Arc<Wire>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    sleep(ms(random.u64(0..20_000))).await;
    let lane = *random.choice(Lane::ALL.iter()).unwrap();
    let kind = random.choice([CallKind::Search, CallKind::Other]).unwrap();
    let scopes = Scopes {
        owner: scope("user"),
        credential: scope(random.choice(["user", "token", "another"]).unwrap()),
    };
    let urgency = Urgency::new(lane, None);
    let acquired = budget.acquire(scopes, kind, &urgency);
    let patience = if random.u8(..) < 40 {
        ms(random.u64(0..400))
    } else {
        1_000 * SECOND
    };
    let Some(permit) = timeout(patience, acquired).await else {
        return;
    };
    let permit = permit.unwrap();
    let takes = ms(random.u64(20..600));
    match random.u8(0..20) {
        0 => permit.give_back(),
        1 => {
            wire.begins();
            drop(permit);
            sleep(TIMEOUT - ms(1)).await;
            wire.ends();
        }
        2 => {
            wire.begins();
            sleep(takes).await;
            wire.ends();
            permit.end_since(clock::now());
        }
        _ => {
            wire.begins();
            sleep(takes).await;
            wire.ends();
            ends(permit).await;
        }
    }
}

/// Returns the most calls that were on the wire at once.
async fn most_at_once(quotas: Quotas, calls: u64, seed: u64) -> usize {
    let (budget, wire, mut tasks) = (budget_of(quotas), Arc::<Wire>::default(), JoinSet::new());
    for n in 0..calls {
        tasks.spawn(any_call(
            Arc::clone(&budget),
            Arc::clone(&wire),
            seed * 100_000 + n,
        ));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    sleep(2 * TIMEOUT).await;
    budget.sweep();
    assert_eq!(wire.now.lock().0, 0);
    wire.most()
}

#[tokio::test(start_paused = true)]
async fn never_more_calls_than_the_crm_allows_are_on_the_wire_however_they_end() {
    for seed in 0..6 {
        for concurrent in [1, 2, 5, 15] {
            let all = fast(concurrent, 0, 1.0);
            let apart = Quotas {
                search: Some(fast(0, 0, 0.5)),
                ..all.into()
            };
            for quotas in [all.into(), apart] {
                let most = most_at_once(quotas, 500, seed).await;
                assert_eq!(most, concurrent as usize, "seed {seed}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_all_calls_are_on_the_wire_at_once() {
    let most = most_at_once(fast(0, 0, 1.0).into(), 600, 1).await;
    assert!(most > 15, "the model must be able to fail: {most}");
}

#[tokio::test(start_paused = true)]
async fn the_background_leaves_one_place_to_a_phone_and_takes_the_only_one() {
    let budget = budget_of(fast(3, 0, 1.0));
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(is_granted(&budget, Lane::Prefetch, SECOND).await.unwrap());
        sleep(ms(10)).await;
    }
    assert!(
        is_granted(&budget, Lane::Revalidate, SECOND)
            .await
            .is_none()
    );
    let pop = is_granted(&budget, Lane::CallPop, ms(1)).await.unwrap();
    assert!(is_granted(&budget, Lane::CallPop, SECOND).await.is_none());
    ends(pop).await;
    assert!(is_granted(&budget, Lane::Prefetch, SECOND).await.is_none());
    ends(held.pop().unwrap()).await;
    assert!(is_granted(&budget, Lane::Prefetch, SECOND).await.is_some());
    let only_one = budget_of(fast(1, 0, 1.0));
    let background = is_granted(&only_one, Lane::Prefetch, SECOND).await;
    assert!(background.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_place_goes_to_the_most_urgent_waiter_of_any_kind_at_once() {
    let all = fast(1, 0, 1.0);
    let quotas = Quotas {
        search: Some(fast(0, 0, 1.0)),
        ..all.into()
    };
    for round in 0..20 {
        let budget = budget_of(quotas);
        let first = pop_within(&budget, CallKind::Search, SECOND).await.unwrap();
        let order = Arc::<Mutex<Vec<&str>>>::default();
        let mut tasks = JoinSet::new();
        for (name, lane, kind) in [
            ("prefetch", Lane::Prefetch, CallKind::Other),
            ("pop", Lane::CallPop, CallKind::Search),
        ] {
            let (budget, order) = (Arc::clone(&budget), Arc::clone(&order));
            tasks.spawn(async move {
                let urgency = Urgency::new(lane, None);
                let permit = budget.acquire(scope("a"), kind, &urgency).await.unwrap();
                order.lock().push(name);
                sleep(ms(50)).await;
                ends(permit).await;
            });
        }
        sleep(ms(100 + round)).await;
        ends(first).await;
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(*order.lock(), ["pop", "prefetch"], "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_call_has_its_place_as_long_as_it_may_still_arrive() {
    let budget = budget_of(fast(1, 0, 1.0));
    drop(is_granted(&budget, Lane::CallPop, ms(1)).await.unwrap());
    let waited = Stopwatch::start();
    let _next = spend(&budget, Lane::CallPop).await.unwrap();
    let waited = waited.elapsed();
    assert!(waited >= TIMEOUT && waited < TIMEOUT + ms(20), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_and_a_call_not_made_leave_their_place() {
    let budget = budget_of(fast(1, 0, 1.0));
    let first = is_granted(&budget, Lane::CallPop, ms(1)).await.unwrap();
    assert!(is_granted(&budget, Lane::CallPop, ms(300)).await.is_none());
    first.give_back();
    let second = is_granted(&budget, Lane::CallPop, ms(1)).await.unwrap();
    let waits = spend(&budget, Lane::CallPop);
    assert!(timeout(ms(5), waits).await.is_none());
    ends(second).await;
    assert!(is_granted(&budget, Lane::Prefetch, SECOND).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_place_that_comes_too_late_is_refused_at_once_if_calls_take_that_long() {
    let budget = budget_of(fast(2, 0, 1.0));
    for _ in 0..4 {
        let permit = is_granted(&budget, Lane::CallPop, SECOND).await.unwrap();
        sleep(SECOND).await;
        ends(permit).await;
    }
    let _held = [
        is_granted(&budget, Lane::CallPop, ms(1)).await.unwrap(),
        is_granted(&budget, Lane::CallPop, ms(1)).await.unwrap(),
    ];
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let budget = Arc::clone(&budget);
        tasks.spawn(async move { spend(&budget, Lane::CallPop).await.map(drop) });
        yield_now().await;
    }
    sleep(ms(50)).await;
    let stopwatch = Stopwatch::start();
    let refused = pop_within(&budget, CallKind::Search, 2 * SECOND).await;
    let exhausted = refused.unwrap_err();
    assert!(stopwatch.elapsed() < ms(50), "{:?}", stopwatch.elapsed());
    // Ten rounds of two calls, at half the mean time.
    assert!(
        exhausted.retry_after > 4 * SECOND && exhausted.retry_after < 6 * SECOND,
        "{:?}",
        exhausted.retry_after
    );
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_gets_no_place_in_time_is_refused_by_its_deadline() {
    let budget = budget_of(fast(1, 0, 1.0));
    let _held = is_granted(&budget, Lane::CallPop, ms(1)).await.unwrap();
    let stopwatch = Stopwatch::start();
    let refused = pop_within(&budget, CallKind::Search, SECOND).await;
    assert!(refused.is_err_and(|full| full.retry_after > Duration::ZERO));
    let took = stopwatch.elapsed();
    assert!(took <= SECOND && took > ms(900), "{took:?}");
}

/// A CRM that counts the calls of any 24 hours, on arrival.
#[derive(Default)]
struct CountsDays(VecDeque<Instant>);

impl CountsDays {
    /// Returns how many it counts with this one.
    fn call(&mut self) -> usize {
        let now = clock::now();
        let is_over = |at: &Instant| now.duration_since(*at) >= DAY;
        while self.0.front().is_some_and(is_over) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len()
    }
}

#[tokio::test(start_paused = true)]
async fn no_24_hours_have_more_calls_than_a_day_allows_and_nearly_as_many_are_made() {
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (budget, mut crm) = (budget_of(fast(0, 200, 1.0)), CountsDays::default());
        let (start, mut calls, mut most) = (Stopwatch::start(), 0_u32, 0);
        while start.elapsed() < 6 * DAY {
            let permit = spend(&budget, Lane::CallPop).await.unwrap();
            // A call may arrive as late as its time-out.
            sleep(ms(random.u64(0..5_000))).await;
            most = most.max(crm.call());
            match random.u8(0..10) {
                0 => drop(permit),
                _ => ends(permit).await,
            }
            calls += 1;
            sleep(SECOND * random.u32(0..600)).await;
            if random.u8(..) == 0 {
                budget.sweep();
            }
        }
        assert_eq!(most, 200, "seed {seed}");
        assert!(calls >= 6 * 200 - 60, "seed {seed}: {calls} in six days");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_not_made_does_not_count_in_a_day_and_the_background_takes_its_share() {
    let budget = budget_of(fast(0, 10, 0.5));
    for _ in 0..30 {
        let permit = is_granted(&budget, Lane::CallPop, 5 * SECOND).await;
        permit.unwrap().give_back();
    }
    for _ in 0..5 {
        let permit = is_granted(&budget, Lane::Prefetch, 10 * SECOND).await;
        ends(permit.unwrap()).await;
    }
    let more = is_granted(&budget, Lane::Prefetch, 60 * SECOND).await;
    assert!(more.is_none(), "half of a day is for phones");
    for _ in 0..5 {
        let permit = is_granted(&budget, Lane::CallPop, 10 * SECOND).await;
        ends(permit.unwrap()).await;
    }
    let full = pop_within(&budget, CallKind::Other, 60 * SECOND).await;
    let retry_after = full.unwrap_err().retry_after;
    let latest = DAY + Duration::from_secs(15 * 60) + TIMEOUT;
    assert!(
        retry_after > DAY - 600 * SECOND && retry_after <= latest,
        "{retry_after:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn another_limit_applies_at_once_to_calls_that_wait() {
    let budget = budget_of(fast(1, 0, 1.0));
    let _held = is_granted(&budget, Lane::CallPop, ms(1)).await.unwrap();
    let raised = async {
        sleep(ms(500)).await;
        budget.set(fast(2, 0, 1.0), Duration::ZERO);
    };
    let waiting = async {
        let stopwatch = Stopwatch::start();
        let permit = spend(&budget, Lane::CallPop).await.unwrap();
        (permit, stopwatch.elapsed())
    };
    let ((_permit, waited), ()) = tokio::join!(waiting, raised);
    assert!(waited >= ms(500) && waited < ms(520), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_calls_at_once_that_is_new_waits_for_the_calls_under_way() {
    let budget = budget_of(fast(0, 0, 1.0));
    let _held = is_granted(&budget, Lane::CallPop, ms(1)).await.unwrap();
    budget.set(fast(1, 0, 1.0), Duration::ZERO);
    assert!(is_granted(&budget, Lane::CallPop, TIMEOUT).await.is_none());
    assert!(is_granted(&budget, Lane::CallPop, SECOND).await.is_some());
}
