//! A CRM that enforces its limit strictly, in a sliding window, as the calls arrive over a
//! connection whose latency changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use contactd::clock::{self, Instant, Stopwatch};
use parking_lot::Mutex;

use super::crm::example;
use super::{FakeCrm, Reply};

pub(crate) struct StrictCrm {
    pub(crate) crm: FakeCrm,
    count: Arc<Mutex<Count>>,
    began: Stopwatch,
    per: Duration,
}

#[derive(Default)]
struct Count {
    accepted: VecDeque<Instant>,
    calls: usize,
    refused: usize,
}

impl StrictCrm {
    /// So many calls in any `per`. A call is on its way for 10 to 90 ms, in an order that depends
    /// on `seed`.
    pub(crate) async fn start(limit: usize, per: Duration, seed: u64) -> Self {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        let count = Arc::<Mutex<Count>>::default();
        let counted = Arc::clone(&count);
        let line = move || Duration::from_millis(random.lock().u64(10..=90));
        let crm = FakeCrm::behind(line, move |seen| {
            let (mut count, now) = (counted.lock(), clock::now());
            while count
                .accepted
                .front()
                .is_some_and(|at| now.duration_since(*at) >= per)
            {
                count.accepted.pop_front();
            }
            count.calls += 1;
            if count.accepted.len() >= limit {
                count.refused += 1;
                return Reply::status(429);
            }
            count.accepted.push_back(now);
            example(seen, &[])
        })
        .await;
        Self {
            crm,
            count,
            began: Stopwatch::start(),
            per,
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.count.lock().calls
    }

    pub(crate) fn refused(&self) -> usize {
        self.count.lock().refused
    }

    /// How many windows have passed.
    pub(crate) fn windows(&self) -> f64 {
        self.began.elapsed().as_secs_f64() / self.per.as_secs_f64()
    }
}
