//! How late this process itself is: on a machine that is starved, a call that was answered in time
//! seems late.

use std::collections::VecDeque;
use std::time::Duration;

use contactd::clock::{self, Instant};
use parking_lot::Mutex;

const EVERY: Duration = Duration::from_millis(10);
/// Delays below this are how sleeping works.
const ORDINARY: Duration = Duration::from_millis(5);
/// How long delays are kept: no call takes longer.
pub(crate) const KEPT: Duration = Duration::from_secs(60);

/// The delays of a clock that ticks, and when they ended.
#[derive(Debug, Default)]
pub(crate) struct Lateness(Mutex<VecDeque<(Instant, Duration)>>);

impl Lateness {
    /// Measures for ever.
    pub(crate) async fn measure(&self) {
        loop {
            let due = clock::now() + EVERY;
            clock::sleep_until(due).await;
            let now = clock::now();
            let late = now.saturating_duration_since(due);
            if late > ORDINARY {
                let mut all = self.0.lock();
                all.push_back((now, late));
                while all.front().is_some_and(|(at, _)| *at + KEPT < now) {
                    all.pop_front();
                }
            }
        }
    }

    /// The longest delay from one moment to another.
    pub(crate) fn longest(&self, from: Instant, to: Instant) -> Duration {
        let all = self.0.lock();
        let within = all
            .iter()
            .filter(|(at, late)| *at >= from && *at - *late <= to)
            .map(|(_, late)| *late);
        within.max().unwrap_or_default()
    }
}
