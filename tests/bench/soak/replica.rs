//! One replica: a process that can be killed and started again, and its connection to Redis.

use std::time::Duration;

use contactd::clock::{self, Instant};
use nix::sys::signal::Signal;
use parking_lot::Mutex;

use super::Soak;
use super::memory::SentCredentials;
use super::processor::ProcessorWaits;
use super::troubles::Whose;
use super::verdicts::Wrong;
use crate::support::chaos::ChaosProxy;
use crate::support::clocks::FakeClock;
use crate::support::program::Program;

/// Keeps the daemon about as large as what it holds: huge pages, and pages that wait to be given
/// back, would hide a leak of some MiB behind a swing of twenty.
const ALLOCATOR: [(&str, &str); 2] = [("MIMALLOC_ALLOW_THP", "0"), ("MIMALLOC_PURGE_DELAY", "0")];

/// Where a replica listens.
#[derive(Debug, Clone)]
pub(crate) struct Doors {
    pub(crate) grpc: String,
    pub(crate) ops: String,
    pub(crate) pid: u32,
}

pub(crate) struct Replica {
    pub(crate) index: usize,
    settings: String,
    pub(crate) clock: FakeClock,
    pub(crate) to_redis: ChaosProxy,
    running: Mutex<Option<Program>>,
    doors: Mutex<Option<Doors>>,
    /// The credentials that the running process was sent.
    pub(crate) sent: SentCredentials,
    waits: ProcessorWaits,
}

impl Replica {
    /// It does not run yet.
    pub(crate) fn new(
        index: usize,
        settings: String,
        clock: FakeClock,
        to_redis: ChaosProxy,
    ) -> Self {
        Self {
            index,
            settings,
            clock,
            to_redis,
            running: Mutex::default(),
            doors: Mutex::default(),
            sent: SentCredentials::default(),
            waits: ProcessorWaits::default(),
        }
    }

    /// Reads for how long its threads have waited for a processor.
    pub(crate) fn read_processor_waits(&self) {
        if let Some(doors) = self.doors() {
            self.waits.read(doors.pid);
        }
    }

    /// For how long it has waited for a processor since `from`.
    pub(crate) fn waited_for_processor(&self, from: Instant) -> Duration {
        self.read_processor_waits();
        self.waits.since(from)
    }

    pub(crate) async fn start(&self) {
        let clock = self.clock.env();
        let clock = clock
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let env: Vec<_> = ALLOCATOR.into_iter().chain(clock).collect();
        let program = Program::start_with(&self.settings, "info", &env).await;
        self.sent.forget();
        *self.doors.lock() = Some(Doors {
            grpc: program.grpc.clone(),
            ops: program.ops.clone(),
            pid: program.pid(),
        });
        *self.running.lock() = Some(program);
    }

    /// Where it listens, or listened last.
    pub(crate) fn doors(&self) -> Option<Doors> {
        self.doors.lock().clone()
    }

    fn signal(&self, signal: Signal) {
        if let Some(program) = &*self.running.lock() {
            program.signal(signal);
        }
    }

    /// Kills it. Returns its log.
    fn kill(&self) -> String {
        let program = self.running.lock().take();
        program.map(|program| program.log()).unwrap_or_default()
    }

    /// Stops it in order. Returns what was wrong with how it ended, if anything was.
    pub(crate) async fn stop(&self) -> Option<String> {
        let program = self.running.lock().take()?;
        program.signal(Signal::SIGTERM);
        let (code, log) = program.end().await;
        (code != Some(0))
            .then(|| format!("it ended with {code:?}"))
            .or_else(|| panicked(&log))
    }
}

fn panicked(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("panicked"))?;
    Some(line.to_owned())
}

impl Soak {
    fn blame(&self, replica: &Replica, fault: Option<String>) {
        if let Some(what) = fault {
            self.verdicts
                .wrong(Wrong::ReplicaFailed, Some(replica.index), what);
        }
    }

    /// Kills a replica, and starts it again after `away`.
    pub(crate) async fn kill(&self, replica: &Replica, away: Duration) {
        self.troubles.begins(Whose::Replica(replica.index));
        let log = replica.kill();
        self.blame(replica, panicked(&log));
        clock::sleep(away).await;
        replica.start().await;
        self.troubles.ends(Whose::Replica(replica.index));
    }

    /// Stops a replica in order and starts it again.
    pub(crate) async fn roll(&self, replica: &Replica) {
        self.troubles.begins(Whose::Replica(replica.index));
        let fault = replica.stop().await;
        self.blame(replica, fault);
        replica.start().await;
        self.troubles.ends(Whose::Replica(replica.index));
    }

    /// A replica stands still for `lasts`.
    pub(crate) async fn freeze(&self, replica: &Replica, lasts: Duration) {
        self.troubles.begins(Whose::Replica(replica.index));
        replica.signal(Signal::SIGSTOP);
        clock::sleep(lasts).await;
        replica.signal(Signal::SIGCONT);
        self.troubles.ends(Whose::Replica(replica.index));
    }

    /// All replicas stop in order, at the end.
    pub(crate) async fn stop_all(&self) {
        for replica in &self.replicas {
            let fault = replica.stop().await;
            self.blame(replica, fault);
        }
    }
}
