//! A CRM that refuses a call if too many others are on the wire, over a connection whose latency
//! changes.

use std::sync::Arc;
use std::time::Duration;

use contactd::clock::{self, Instant};
use parking_lot::Mutex;

use super::crm::example;
use super::{FakeCrm, Reply};

pub(crate) struct AtOnceCrm {
    pub(crate) crm: FakeCrm,
    wire: Arc<Mutex<Wire>>,
}

#[derive(Default)]
struct Wire {
    /// When the replies to calls are sent.
    ends: Vec<Instant>,
    most: usize,
    calls: usize,
    refused: usize,
}

impl AtOnceCrm {
    /// So many calls at once. A call is on its way for 10 to 90 ms, and then takes up to `takes`.
    pub(crate) async fn start(limit: usize, takes: Duration, seed: u64) -> Self {
        let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        let wire = Arc::<Mutex<Wire>>::default();
        let (on_its_way, counted) = (Arc::clone(&random), Arc::clone(&wire));
        let line = move || Duration::from_millis(on_its_way.lock().u64(10..=90));
        let crm = FakeCrm::behind(line, move |seen| {
            let (mut wire, now) = (counted.lock(), clock::now());
            wire.ends.retain(|end| *end > now);
            wire.calls += 1;
            if wire.ends.len() >= limit {
                wire.refused += 1;
                return Reply::status(429);
            }
            let takes = takes.mul_f64(random.lock().f64());
            wire.ends.push(now + takes);
            wire.most = wire.most.max(wire.ends.len());
            example(seen, &[]).after(takes)
        })
        .await;
        Self { crm, wire }
    }

    pub(crate) fn calls(&self) -> usize {
        self.wire.lock().calls
    }

    pub(crate) fn refused(&self) -> usize {
        self.wire.lock().refused
    }

    /// The most calls that it had at once.
    pub(crate) fn most(&self) -> usize {
        self.wire.lock().most
    }
}
