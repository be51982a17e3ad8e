//! A replay gives calls their turns when the budget of a daemon does.

use super::*;
use crate::budget::{ReplayBudget, ReplayCall, Turn};
use crate::clock::ReplayClock;

/// How long a call takes.
const TAKES: Duration = Duration::from_millis(120);

/// A call that comes then, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    at: u64,
    lane: Lane,
    patience: Option<u64>,
}

fn arrivals(seed: u64) -> Vec<Arrival> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut at = 0;
    let arrival = |_| {
        at += random.u64(1..90);
        let is_pop = random.bool();
        Arrival {
            at,
            lane: if is_pop {
                Lane::CallPop
            } else {
                Lane::Revalidate
            },
            patience: is_pop.then_some(2_000),
        }
    };
    (0..120).map(arrival).collect()
}

/// When each call is made by the budget of a daemon; `None` if it is refused.
async fn by_the_daemon(quota: Quota, arrivals: &[Arrival]) -> Vec<Option<u64>> {
    let config = BudgetConfig {
        call_timeout: Duration::from_secs(5),
        ..BudgetConfig::default()
    };
    let budget = Budget::new(quota, &config, "test", &Metrics::default(), None);
    let start = clock::now();
    let call = |arrival: &Arrival| {
        let (budget, arrival) = (&budget, *arrival);
        async move {
            let comes = start + Duration::from_millis(arrival.at);
            clock::sleep_until(comes).await;
            let deadline = arrival
                .patience
                .map(|patience| comes + Duration::from_millis(patience));
            let urgency = Urgency::new(arrival.lane, deadline);
            urgency.set_verified(true);
            let permit = budget
                .acquire(scope("a"), CallKind::Other, &urgency)
                .await
                .ok()?;
            let made = clock::now() - start;
            clock::sleep(TAKES).await;
            permit.end_since(clock::now());
            Some(u64::try_from(made.as_millis()).unwrap())
        }
    };
    futures_util::future::join_all(arrivals.iter().map(call)).await
}

/// The same in a replay.
fn by_a_replay(quota: Quota, arrivals: &[Arrival]) -> Vec<Option<u64>> {
    let clock = ReplayClock::start();
    let limits = (Duration::from_secs(5), Duration::ZERO);
    let mut budget = ReplayBudget::new(&quota.into(), limits, clock.clone());
    let mut made = vec![None; arrivals.len()];
    // Arrivals, replies and wakes, in the order of their time.
    let mut events = std::collections::BTreeMap::new();
    for (n, arrival) in arrivals.iter().enumerate() {
        events.insert((arrival.at * 1000, n), Event::Arrival(n));
    }
    let mut sequence = arrivals.len();
    while let Some(((now, _), event)) = events.pop_first() {
        clock.set(now);
        let mut turns = Vec::new();
        let wake = match event {
            Event::Arrival(n) => {
                let Arrival { lane, patience, .. } = arrivals[n];
                let call = ReplayCall {
                    ticket: u32::try_from(n).unwrap(),
                    scope: scope("a"),
                    kind: CallKind::Other,
                    lane,
                    is_verified: true,
                    began: now,
                    deadline: patience.map(|patience| now + patience * 1000),
                };
                budget.ask(call, &mut turns)
            }
            Event::Wake(gate) => budget.wake(gate, &mut turns),
            Event::Reply(slot) => budget.end(&slot, &mut turns),
        };
        let mut plan = |at, event| {
            sequence += 1;
            events.insert((at, sequence), event);
        };
        if let Some((gate, at)) = wake {
            plan(at, Event::Wake(gate));
        }
        for (ticket, turn) in turns {
            if let Turn::Granted(slot) = turn {
                made[ticket as usize] = Some(now / 1000);
                plan(
                    now + u64::try_from(TAKES.as_micros()).unwrap(),
                    Event::Reply(slot),
                );
            }
        }
    }
    made
}

enum Event {
    Arrival(usize),
    Wake(crate::budget::GateId),
    Reply(crate::budget::ReplaySlot),
}

/// Calls that were made until then.
fn made_until(made: &[Option<u64>], moment: u64) -> usize {
    let by_then = made.iter().flatten().filter(|at| **at <= moment);
    by_then.count()
}

/// A replay spends a quota as a daemon does. A few refusals differ, because a daemon's timers end
/// up to a millisecond late, and so does each call after them.
#[tokio::test(start_paused = true)]
async fn a_replay_makes_as_many_calls_in_any_time_as_a_daemon() {
    let second = Duration::from_secs(1);
    let quota =
        |rate, burst, share| Quota::new(rate, second, burst, Scope::Account, share).unwrap();
    for (quota, seed) in [
        (quota(10, 10, 0.5), 1),
        (quota(8, 2, 0.5), 2),
        (quota(20, 20, 1.0), 3),
        (quota(6, 3, 0.3), 4),
    ] {
        let arrivals = arrivals(seed);
        let real = by_the_daemon(quota, &arrivals).await;
        let replayed = by_a_replay(quota, &arrivals);
        let last = real.iter().chain(&replayed).flatten().max().copied();
        // Timers of tokio have whole milliseconds, and each wait may end one later.
        for moment in (0..last.unwrap()).step_by(100) {
            let counts = [&real, &replayed].map(|made| made_until(made, moment));
            assert!(
                counts[0].abs_diff(counts[1]) <= 5,
                "{quota:?} {moment}: {counts:?}"
            );
        }
        let refused = [&real, &replayed].map(|made| made.iter().filter(|at| at.is_none()).count());
        assert!(refused[0].abs_diff(refused[1]) <= 2, "{refused:?}");
    }
}
