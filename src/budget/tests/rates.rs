//! In any order of arrivals, there are never more calls than the quota allows.

use proptest::prelude::*;

use super::super::quota::TokenBucket;
use super::*;

#[derive(Debug, Clone, Copy)]
struct Arrival {
    after: u64,
    lane: Lane,
    patience: Option<u64>,
    leaves: Option<u64>,
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let lane = prop::sample::select(Lane::ALL.to_vec());
    let arrival = (
        0..400_u64,
        lane,
        prop::option::of(0..800_u64),
        prop::option::of(0..800_u64),
    )
        .prop_map(|(after, lane, patience, leaves)| Arrival {
            after,
            lane,
            patience,
            leaves,
        });
    prop::collection::vec(arrival, 1..80)
}

/// Runs the arrivals during a prefetch. Returns when calls were granted, and whether each was a
/// background call.
async fn run(budget: Arc<Budget>, arrivals: Vec<Arrival>) -> Vec<(Duration, bool)> {
    let (start, granted, mut tasks) = (
        Stopwatch::start(),
        Arc::new(Mutex::new(Vec::new())),
        JoinSet::new(),
    );
    for arrival in arrivals {
        let (budget, granted) = (Arc::clone(&budget), Arc::clone(&granted));
        tasks.spawn(async move {
            let deadline = arrival.patience.map(|patience| clock::now() + ms(patience));
            let urgency = Urgency::new(arrival.lane, deadline);
            let acquire = budget.acquire(scope("a"), CallKind::Search, &urgency);
            match timeout(ms(arrival.leaves.unwrap_or(1_000_000)), acquire).await {
                Some(Ok(_)) => granted
                    .lock()
                    .push((start.elapsed(), arrival.lane.is_background())),
                Some(Err(_)) => assert!(
                    clock::now() <= deadline.unwrap(),
                    "told while there was somebody to tell"
                ),
                None => {}
            }
        });
        sleep(ms(arrival.after / 4)).await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    Arc::into_inner(granted).unwrap().into_inner()
}

/// No window of time holds more than its burst and its rate.
fn check(times: &[Duration], pace: TokenBucket) {
    for (first, from) in times.iter().enumerate() {
        for (last, to) in times.iter().enumerate().skip(first) {
            let allowed = u128::from(pace.burst.get())
                + (*to - *from).as_micros() / pace.interval.as_micros();
            assert!(
                (last - first + 1) as u128 <= allowed,
                "{} in {:?}",
                last - first + 1,
                *to - *from
            );
        }
    }
}

/// No window, wherever it starts, holds more than its limit.
fn check_windows(times: &[Duration], limit: u32) {
    for (first, from) in times.iter().enumerate() {
        let within = times[first..]
            .iter()
            .take_while(|at| **at < *from + SECOND)
            .count();
        assert!(within <= limit as usize, "{within} from {from:?} on");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn grants_never_exceed_burst_and_rate(
        rate in 1..60_u32, burst in 0..=100_u32, share in 0.05..=1.0_f64, arrivals in arrivals(),
    ) {
        let burst = (rate * burst / 100).max(1);
        let quota = Quota::new(rate, SECOND, burst, Scope::User, share).unwrap();
        let budget = Arc::new(Budget::new(quota, &BudgetConfig::default(), "test", &Metrics::default(), None));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let grants = runtime.block_on(run(Arc::clone(&budget), arrivals));
        let all: Vec<_> = grants.iter().map(|(at, _)| *at).collect();
        check(&all, quota.bucket());
        check_windows(&all, rate);
        let background: Vec<_> = grants.iter().filter(|(_, background)| *background).map(|(at, _)| *at).collect();
        check(&background, quota.background_bucket());
        check_windows(&background, quota.limits(None).background);
        budget.sweep();
        pause_and_sweep(&runtime, &budget);
        prop_assert!(budget.all.gates.lock().is_empty());
    }
}

fn pause_and_sweep(runtime: &tokio::runtime::Runtime, budget: &Budget) {
    runtime.block_on(async {
        sleep(1_000 * SECOND).await;
        budget.sweep();
    });
}
