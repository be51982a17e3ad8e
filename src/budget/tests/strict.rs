//! A CRM that enforces its limit strictly, as the calls arrive, over a connection whose latency
//! changes.

use std::collections::VecDeque;

use super::*;

/// How a CRM counts.
#[derive(Debug, Clone, Copy)]
enum Counting {
    /// This many within any period as long as a window.
    Sliding,
    /// This many from each full window to the next.
    Fixed,
}

struct StrictCrm {
    counting: Counting,
    rate: usize,
    per: Duration,
    start: Instant,
    state: Mutex<State>,
}

struct State {
    random: fastrand::Rng,
    accepted: VecDeque<Instant>,
    refused: usize,
}

impl StrictCrm {
    fn new(counting: Counting, rate: u32, per: Duration, seed: u64) -> Arc<Self> {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            accepted: VecDeque::new(),
            refused: 0,
        };
        // Its windows do not start when the daemon does.
        let start = clock::now() - per.mul_f64(0.3);
        Arc::new(Self {
            counting,
            rate: rate as usize,
            per,
            start,
            state: Mutex::new(state),
        })
    }

    /// How long a call takes to arrive: 50 ms, plus or minus 40.
    fn delay(&self) -> Duration {
        ms(self.state.lock().random.u64(10..=90))
    }

    fn window(&self, at: Instant) -> u128 {
        at.duration_since(self.start).as_nanos() / self.per.as_nanos()
    }

    fn counts(&self, at: Instant, now: Instant) -> bool {
        match self.counting {
            Counting::Sliding => now.duration_since(at) < self.per,
            Counting::Fixed => self.window(at) == self.window(now),
        }
    }

    /// Whether it accepts the call.
    async fn call(&self) -> bool {
        sleep(self.delay()).await;
        let (mut state, now) = (self.state.lock(), clock::now());
        while state
            .accepted
            .front()
            .is_some_and(|at| !self.counts(*at, now))
        {
            state.accepted.pop_front();
        }
        let accepts = state.accepted.len() < self.rate;
        if accepts {
            state.accepted.push_back(now);
        } else {
            state.refused += 1;
        }
        accepts
    }

    fn refused(&self) -> usize {
        self.state.lock().refused
    }
}

/// Makes calls in a lane as fast as the budget allows, from many tasks. Returns how long that took.
async fn call_all(
    budget: &Arc<Budget>,
    crm: &Arc<StrictCrm>,
    lane: Lane,
    calls: usize,
) -> Duration {
    let (start, mut tasks) = (Stopwatch::start(), JoinSet::new());
    for _ in 0..calls {
        let (budget, crm) = (Arc::clone(budget), Arc::clone(crm));
        tasks.spawn(async move {
            let permit = spend(&budget, lane).await.unwrap();
            let refused = !crm.call().await;
            permit
                .observe(&RateHint {
                    refused,
                    ..RateHint::default()
                })
                .await;
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    start.elapsed()
}

fn cold(quota: Quota) -> Arc<Budget> {
    let config = BudgetConfig {
        call_timeout: 5 * SECOND,
        is_past_known: false,
        ..BudgetConfig::default()
    };
    Arc::new(Budget::new(
        quota,
        &config,
        "test",
        &Metrics::default(),
        None,
    ))
}

const WINDOWS: usize = 40;

/// From a cold start and after idle time, in every lane: nothing is refused.
async fn is_never_refused(counting: Counting, per: Duration, rate: u32, burst: u32, seed: u64) {
    let quota = Quota::new(rate, per, burst, Scope::User, 1.0).unwrap();
    let (budget, crm) = (cold(quota), StrictCrm::new(counting, rate, per, seed));
    for (lane, windows) in [
        (Lane::Prefetch, WINDOWS / 2),
        (Lane::CallPop, WINDOWS / 4),
        (Lane::Revalidate, WINDOWS / 4),
    ] {
        call_all(&budget, &crm, lane, windows * rate as usize).await;
        sleep(per.mul_f64(1.7)).await;
        let (background, pops) = tokio::join!(
            call_all(&budget, &crm, Lane::Prefetch, 2 * rate as usize),
            call_all(&budget, &crm, Lane::CallPop, rate as usize / 2),
        );
        assert!(background >= pops);
    }
    assert_eq!(
        crm.refused(),
        0,
        "{counting:?}, {rate} in {per:?}, burst {burst}, seed {seed}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_strict_crm_refuses_nothing() {
    for seed in 0..4 {
        for counting in [Counting::Sliding, Counting::Fixed] {
            for (rate, seconds, burst) in [
                (10, 1, 10),
                (40, 2, 40),
                (10, 2, 3),
                (50, 60, 10),
                (50, 60, 50),
                (1, 1, 1),
            ] {
                is_never_refused(counting, Duration::from_secs(seconds), rate, burst, seed).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_uses_what_the_crm_allows() {
    for (rate, seconds, burst) in [
        (10, 1, 10),
        (40, 2, 40),
        (10, 2, 1),
        (50, 60, 10),
        (400, 1, 400),
    ] {
        let per = Duration::from_secs(seconds);
        let quota = Quota::new(rate, per, burst, Scope::User, 1.0).unwrap();
        let (budget, crm) = (cold(quota), StrictCrm::new(Counting::Sliding, rate, per, 1));
        let calls = 20 * rate;
        let took = call_all(&budget, &crm, Lane::Prefetch, calls as usize).await;
        let round_trip = ms(50);
        let least = per.mul_f64(f64::from(calls) / f64::from(rate));
        let most = least.mul_f64(1.1 * (1.0 + round_trip.as_secs_f64() / per.as_secs_f64()));
        assert!(
            took <= most,
            "{took:?} of {most:?} for {calls} at {rate} in {per:?}"
        );
        assert_eq!(crm.refused(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_waits_for_what_it_does_not_remember() {
    let (per, rate) = (2 * SECOND, 10);
    let quota = Quota::new(rate, per, rate, Scope::User, 1.0).unwrap();
    let crm = StrictCrm::new(Counting::Sliding, rate, per, 1);
    for _ in 0..10 {
        call_all(&cold(quota), &crm, Lane::CallPop, 15).await;
    }
    assert_eq!(crm.refused(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_set_too_high_is_found_out_with_few_refusals() {
    let quota = Quota::new(50, SECOND, 50, Scope::User, 0.5).unwrap();
    let (budget, crm) = (cold(quota), StrictCrm::new(Counting::Sliding, 5, SECOND, 1));
    let (start, mut tasks) = (Stopwatch::start(), JoinSet::new());
    for _ in 0..60 {
        let (budget, crm) = (Arc::clone(&budget), Arc::clone(&crm));
        tasks.spawn(async move {
            loop {
                let permit = spend(&budget, Lane::Prefetch).await.unwrap();
                let refused = !crm.call().await;
                permit
                    .observe(&RateHint {
                        refused,
                        ..RateHint::default()
                    })
                    .await;
                if !refused {
                    break;
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert!(crm.refused() <= 12, "{} refusals", crm.refused());
    assert!(start.elapsed() <= 20 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_strict_crm_refuses_nothing_while_the_quota_changes() {
    for seed in 0..4 {
        let (per, full) = (2 * SECOND, 20);
        let quota = |rate, per| Quota::new(rate, per, rate, Scope::User, 1.0).unwrap();
        let (budget, crm) = (
            cold(quota(full, per)),
            StrictCrm::new(Counting::Sliding, full, per, seed),
        );
        let changes = async {
            for (rate, per) in [
                (5, per),
                (full, per),
                (10, SECOND),
                (full, per),
                (1, per),
                (full, per),
            ] {
                sleep(per.mul_f64(3.3)).await;
                budget.set(quota(rate, per), SECOND);
            }
            let apart = Quotas {
                search: Some(quota(full, per)),
                ..quota(full, per).into()
            };
            for quotas in [apart, quota(full, per).into()] {
                sleep(per.mul_f64(3.3)).await;
                budget.set(quotas, SECOND);
            }
        };
        tokio::join!(
            changes,
            call_all(&budget, &crm, Lane::Prefetch, 200),
            call_all(&budget, &crm, Lane::CallPop, 200),
        );
        assert_eq!(crm.refused(), 0, "seed {seed}");
    }
}
