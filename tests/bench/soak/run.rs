//! Three replicas over one Redis and a CRM, steady load, faults planned from a seed, and a checker
//! that knows the truth.
//!
//! The benchmark `soak` and the test `soak` run the same. Phones ring, batches run, contacts are
//! edited and forgotten, tokens change, are revoked and made up, and clients break every rule. The
//! plan says which faults happen when, and is printed first: the same seed means the same faults,
//! in the same order, at the same moments. What they hit depends on how the machine lets the
//! processes run. Whatever contradicts the truth is printed at once, with its kind, the replica,
//! the time and the faults that were active.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use contactd::clock::{self, Instant};
use fastrand::Rng;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::FakeCrm;
use crate::support::chaos::ChaosProxy;
use crate::support::clocks::Clocks;
use crate::support::raw::{RawCrm, Said};
use callers::{edit, misbehave, ring, take_hints, warm_up};
use check::{ABSENT, FOUND, LOOKUP_TIMEOUT};
use crm::{Crm, PER, RATE};
use figures::{Figures, Sample, judge, sample, watch_over};
use late::Lateness;
use plan::{Fault, KINDS, Times, plan};
use redis::RedisPair;
use repeats::Repeats;
use replica::{Doors, Replica};
use troubles::Troubles;
use truth::Truth;
use verdicts::{Verdicts, Wrong};

mod callers;
mod check;
mod crm;
mod figures;
mod in_time;
mod inject;
mod late;
pub(crate) mod memory;
pub(crate) mod plan;
mod processor;
mod redis;
mod repeats;
mod replica;
mod troubles;
mod truth;
mod verdicts;

pub(crate) const REPLICAS: usize = 3;

/// How long nobody calls before memory is read: longer than the settings below keep an answer or a
/// credential, and than an idle connection stays.
const REST: Duration = Duration::from_secs(60);
/// The time within which everything that clients have left behind must be gone.
const LEFT: Duration = Duration::from_secs(30);
/// How many of a hundred repeats must be hits after the faults. 83 to 100 were. If replicas cannot
/// read what others have stored in Redis, 36 to 50 are.
const REPEATS_HIT: usize = 70;

/// Who calls, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) callers: u64,
    /// Between two calls of a caller, on average.
    pub(crate) pause_ms: u64,
    pub(crate) batches: u64,
    pub(crate) editors: u64,
    pub(crate) rude: u64,
}

/// What takes part.
pub(crate) struct Soak {
    pub(crate) times: Times,
    pub(crate) load: Load,
    pub(crate) plan: Vec<Fault>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) truth: Truth,
    pub(crate) repeats: Repeats,
    pub(crate) crm: Crm,
    pub(crate) verdicts: Verdicts,
    pub(crate) troubles: Troubles,
    pub(crate) lateness: Lateness,
    pub(crate) figures: Figures,
    began: Instant,
    ended: CancellationToken,
    resting: watch::Sender<bool>,
}

/// Where a replica is that was never started.
fn nowhere() -> Doors {
    Doors {
        grpc: "http://127.0.0.1:1".to_owned(),
        ops: "http://127.0.0.1:1".to_owned(),
        pid: 0,
    }
}

impl Soak {
    /// Waits for `duration`, and then for the end of a rest. Returns whether the soak continues.
    pub(crate) async fn goes_on_after(&self, duration: Duration) -> bool {
        let waited = async {
            clock::sleep(duration).await;
            let mut resting = self.resting.subscribe();
            // The sender is this soak's own.
            let _ = resting.wait_for(|rests| !rests).await;
        };
        self.ended.run_until_cancelled(waited).await.is_some()
    }

    /// The moment of the plan's time.
    pub(crate) fn moment(&self, at: Duration) -> Instant {
        let rested = self.times.rest_at.is_some_and(|rest| at >= rest);
        self.began + at + if rested { REST } else { Duration::ZERO }
    }

    /// Waits until `moment`. Returns whether the soak continues.
    pub(crate) async fn until(&self, moment: Instant) -> bool {
        let waited = self.ended.run_until_cancelled(clock::sleep_until(moment));
        waited.await.is_some()
    }

    /// Has everybody pause, and reads the replicas when nothing is left of what they did.
    async fn rest(&self) -> Vec<Option<Sample>> {
        self.resting.send_replace(true);
        clock::sleep(REST).await;
        let read = self.read().await;
        self.resting.send_replace(false);
        read
    }

    /// All replicas as they are now; none of those that are down.
    pub(crate) async fn read(&self) -> Vec<Option<Sample>> {
        let reads = self.replicas.iter().map(async |replica| {
            let (began, doors) = (clock::now(), replica.doors().unwrap_or_else(nowhere));
            let read = sample(&doors, replica.sent.remembered(began)).await;
            let was_down = || {
                self.troubles
                    .replica_was_down(replica.index, began, clock::now())
            };
            match read {
                Ok(sample) => Some(sample),
                Err(_) if was_down() => None,
                Err(error) => {
                    self.verdicts
                        .wrong(Wrong::Unreachable, Some(replica.index), error);
                    None
                }
            }
        });
        join_all(reads).await
    }

    /// The length of the run with its rest.
    fn whole(&self) -> Instant {
        self.moment(self.times.length)
    }
}

/// Runs for `length`. Fails if anything contradicts the truth.
pub(crate) async fn run(length: Duration, seed: u64, load: Load) -> anyhow::Result<()> {
    let times = Times::of(length, length >= memory::JUDGED_FROM);
    let plan = plan(seed, times);
    println!(
        "seed {seed}, {} s: {} faults of {KINDS} kinds",
        length.as_secs(),
        plan.len()
    );
    plan.iter().for_each(|fault| println!("{fault}"));
    let clocks = Clocks::compile();
    let redis = RedisPair::start(clocks.clock("redis")).await;
    let crm = FakeCrm::start(|_| crate::support::Reply::status(503)).await;
    let hints = RawCrm::over_tcp(Said::for_ever(
        "",
        "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",
    ))
    .await;
    let mut replicas = Vec::new();
    for n in 0..REPLICAS {
        let to_redis = ChaosProxy::before(([127, 0, 0, 1], redis.current().port).into()).await;
        let settings = settings(&crm, &hints, &to_redis);
        let replica = Replica::new(n, settings, clocks.clock(&n.to_string()), to_redis);
        replica.start().await;
        replicas.push(replica);
    }
    let began = clock::now();
    let soak = Arc::new(Soak {
        times,
        load,
        plan,
        replicas,
        truth: Truth::new(),
        repeats: Repeats::default(),
        crm: Crm::default(),
        verdicts: Verdicts::new(began),
        troubles: Troubles::default(),
        lateness: Lateness::default(),
        figures: Figures::new(),
        began,
        ended: CancellationToken::new(),
        resting: watch::Sender::new(false),
    });
    let truth = Arc::clone(&soak);
    crm.becomes(move |seen| truth.reply(seen));
    let outcome = tokio::select! {
        outcome = play(&soak, seed, redis) => outcome,
        () = soak.lateness.measure() => unreachable!("it measures for ever"),
        () = soak.read_processor_waits() => unreachable!("it reads for ever"),
        () = forget(&crm) => unreachable!("it forgets for ever"),
    };
    crm.becomes(|_| crate::support::Reply::status(503));
    outcome
}

/// What the CRM was asked is not needed.
async fn forget(crm: &FakeCrm) {
    loop {
        clock::sleep(Duration::from_secs(1)).await;
        crm.forget();
    }
}

fn spawn_callers(soak: &Arc<Soak>, seed: u64) -> JoinSet<anyhow::Result<()>> {
    let (mut parts, load) = (JoinSet::new(), soak.load);
    let with = |n: u64| {
        (
            Arc::clone(soak),
            Rng::with_seed(seed.wrapping_mul(1_000) + n),
        )
    };
    for n in 0..load.callers {
        let (soak, rng) = with(n);
        parts.spawn(ring(soak, rng));
    }
    for n in 0..load.rude {
        let (soak, rng) = with(100 + n);
        parts.spawn(misbehave(soak, rng));
    }
    for n in 0..load.batches {
        let (soak, rng) = with(200 + n);
        parts.spawn(warm_up(soak, rng));
    }
    for n in 0..load.editors {
        let (soak, rng) = with(300 + n);
        parts.spawn(edit(soak, rng));
    }
    let (soak, rng) = with(400);
    parts.spawn(take_hints(soak, rng));
    parts
}

/// Plays the plan under load, and judges the end.
async fn play(soak: &Arc<Soak>, seed: u64, redis: RedisPair) -> anyhow::Result<()> {
    let parts = spawn_callers(soak, seed);
    let stop = async {
        let mut first_rest = Vec::new();
        if let Some(rest) = soak.times.rest_at {
            clock::sleep_until(soak.began + rest).await;
            first_rest = soak.rest().await;
        }
        clock::sleep_until(soak.whole()).await;
        soak.ended.cancel();
        first_rest
    };
    let (first_rest, (), redis, (), under_load) = tokio::join!(
        stop,
        soak.trouble_replicas(),
        soak.trouble_redis(redis),
        soak.trouble_crm(),
        watch_over(soak),
    );
    let ended = parts.join_all().await;
    ended.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
    judge_hits(soak)?;
    let last_rest = leave(soak).await;
    soak.stop_all().await;
    drop(redis);
    let grown = judge(&first_rest, &last_rest, &under_load, soak.times.length);
    println!("{}", soak.verdicts.report());
    println!("seed {seed}: {} s", soak.times.length.as_secs());
    ensure!(grown.is_empty(), "growth: {}", grown.join(", "));
    let wrong = soak.verdicts.contradictions();
    ensure!(wrong == 0, "{wrong} contradictions");
    println!("no fault");
    Ok(())
}

/// Prints the shares of hits before the first fault, during the faults and after the last one.
/// After it, repeats must be hits again.
fn judge_hits(soak: &Soak) -> anyhow::Result<()> {
    let Times { length, calm, .. } = soak.times;
    let end = soak.whole() - soak.began;
    let phases = [
        (calm / 2, calm, "before the faults"),
        (calm, length - calm, "during them"),
        (end - calm, end, "after them"),
    ];
    for (from, to, when) in phases {
        let (answers, repeats) = (
            soak.figures.answers(from, to),
            soak.figures.repeats(from, to),
        );
        println!(
            "hits {when}: {} % of {} answers, {} % of {} repeats",
            answers.percent(),
            answers.all,
            repeats.percent(),
            repeats.all,
        );
        ensure!(answers.all > 0, "no answers {when}");
    }
    let after = soak.figures.repeats(end - calm, end);
    if after.percent() < REPEATS_HIT {
        soak.verdicts.wrong(
            Wrong::HitRate,
            None,
            format!("{} % of the repeats", after.percent()),
        );
    }
    let fullest = soak.crm.fullest.load(std::sync::atomic::Ordering::Relaxed);
    let calls = soak.crm.calls.load(std::sync::atomic::Ordering::Relaxed);
    println!(
        "the CRM got {calls} calls, at most {fullest} of {RATE} of a credential in one window"
    );
    Ok(())
}

/// Everybody has left: soon nothing may be left of them.
async fn leave(soak: &Soak) -> Vec<Option<Sample>> {
    if soak.times.rest_at.is_some() {
        clock::sleep(REST).await;
    }
    let gone = clock::timeout(LEFT, async {
        loop {
            let now = soak.read().await;
            let is_gone = |sample: &Sample| sample.jobs == 0.0 && sample.files < 100.0;
            if now
                .iter()
                .all(|sample| sample.as_ref().is_some_and(is_gone))
            {
                return now;
            }
            clock::sleep(Duration::from_millis(500)).await;
        }
    });
    let read = match gone.await {
        Some(read) => read,
        None => soak.read().await,
    };
    for (n, sample) in read.iter().enumerate() {
        println!("replica {n} alone: {sample:?}");
        if sample.is_none_or(|sample| sample.jobs != 0.0 || sample.files >= 100.0) {
            soak.verdicts
                .wrong(Wrong::LeftOver, Some(n), format!("{sample:?}"));
        }
    }
    read
}

/// Short ages, so that everything that happens in a day happens in a minute.
fn settings(crm: &FakeCrm, hints: &RawCrm, to_redis: &ChaosProxy) -> String {
    format!(
        "[grpc]\nmax_connection_age = '1m'\n\
         [cache]\nmemory = '8MiB'\nadmitted = '20s'\n\
         found = {{ fresh = '{}s', stale = '{}s' }}\nabsent = {{ fresh = '{}s', stale = '{}s' }}\n\
         [redis]\nurl = 'redis://{}'\nreplicas = {REPLICAS}\ntimeout = '200ms'\n\
         [lookup]\ntimeout = '{}s'\ncall_timeout = '1s'\nmax_reply = '256KiB'\n\
         [connectors.example]\nkind = 'example'\nbase_url = '{}'\n\
         quota = {{ rate = {RATE}, per = '{}s', burst = {RATE} }}\n\
         [connectors.hints]\nkind = 'example'\nbase_url = 'http://{}'\n",
        FOUND.fresh.as_secs(),
        FOUND.end.as_secs(),
        ABSENT.fresh.as_secs(),
        ABSENT.end.as_secs(),
        to_redis.addr,
        LOOKUP_TIMEOUT.as_secs(),
        crm.url(),
        PER.as_secs(),
        hints.addr
    )
}
