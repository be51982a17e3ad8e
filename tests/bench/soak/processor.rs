//! How long a replica waits for a processor while it has work, by the count of the kernel: such
//! delays are the machine's. A replica that is late for another reason waits for no processor.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::time::Duration;

use contactd::clock::{self, Instant};
use parking_lot::Mutex;

use super::Soak;
use super::late::KEPT;

const EVERY: Duration = Duration::from_millis(50);

/// The waits of one replica's threads.
#[derive(Debug, Default)]
pub(crate) struct ProcessorWaits(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// How long each thread has waited since it began.
    threads: HashMap<String, Duration>,
    /// By how much the longest wait of a thread grew, and when that was read.
    growth: VecDeque<(Instant, Duration)>,
}

impl ProcessorWaits {
    /// Reads how long the threads of a process have waited.
    pub(crate) fn read(&self, pid: u32) {
        let (threads, now) = (waits_of(pid), clock::now());
        let mut seen = self.0.lock();
        let grew = |(thread, waited): (&String, &Duration)| {
            waited.saturating_sub(seen.threads.get(thread).copied().unwrap_or_default())
        };
        let longest = threads.iter().map(grew).max().unwrap_or_default();
        seen.threads = threads;
        seen.growth.push_back((now, longest));
        while seen.growth.front().is_some_and(|(at, _)| *at + KEPT < now) {
            seen.growth.pop_front();
        }
    }

    /// For how long it waited since `from`.
    pub(crate) fn since(&self, from: Instant) -> Duration {
        let seen = self.0.lock();
        let later = seen.growth.iter().filter(|(at, _)| *at >= from);
        later.map(|(_, grew)| *grew).sum()
    }
}

impl Soak {
    /// Reads the waits of all replicas, for ever.
    pub(crate) async fn read_processor_waits(&self) {
        loop {
            for replica in &self.replicas {
                replica.read_processor_waits();
            }
            clock::sleep(EVERY).await;
        }
    }
}

/// For each thread of a process, how long it was ready to run and no processor was free: the second
/// field of `schedstat` (Linux, Documentation/scheduler/sched-stats.rst), in nanoseconds. Empty if
/// the system does not count it.
fn waits_of(pid: u32) -> HashMap<String, Duration> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return HashMap::new();
    };
    let wait = |thread: fs::DirEntry| {
        let counts = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let waited = counts.split_whitespace().nth(1)?.parse().ok()?;
        let id = thread.file_name().into_string().ok()?;
        Some((id, Duration::from_nanos(waited)))
    };
    threads.flatten().filter_map(wait).collect()
}
