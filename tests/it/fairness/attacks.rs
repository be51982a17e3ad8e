//! Floods. The attackers are a process of their own on one core. Meanwhile a good client asks the
//! same daemon for an answer from memory, and measures how much a thread of the daemon works before
//! the answer comes: that is the work that its call had to wait for. A clock would also count
//! everything else that this machine does meanwhile.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::pb::v1::{FindContactResponse, Source};
use prost::Message as _;

use crate::support::attack::{self, Attack, Attackers};
use crate::support::daemon::{Changed as _, find};
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::wire::{FIND, call, connect, frame, head};
use crate::support::{FakeCrm, contact};

#[tokio::test]
#[ignore = "the other tests run it, as a process of its own"]
async fn as_a_process_of_its_own() {
    attack::attack().await;
}

/// How often the good client calls, and when it opens a new connection.
const CALLS: usize = 400;
const EVERY: Duration = Duration::from_millis(5);
const ON_ONE_CONNECTION: usize = 40;

/// How often it is measured at most. Something else that this machine does may spoil one
/// measurement; a fault spoils all of them.
const TRIES: usize = 5;

/// What a thread may work at most before 99 of 100 answers, in a build that is not optimised.
const WORK: Duration = Duration::from_millis(50);

/// How long half of the answers may take at most: a call that waits for a place uses no CPU time.
const WAIT: Duration = Duration::from_millis(250);

/// What the good client met.
#[derive(Debug)]
struct Met {
    work_p99: Duration,
    wait_median: Duration,
    refused: usize,
    /// Answers that were not from memory.
    elsewhere: usize,
}

impl Met {
    fn is_good_enough(&self) -> bool {
        (self.refused, self.elsewhere) == (0, 0)
            && self.work_p99 <= WORK
            && self.wait_median <= WAIT
    }
}

async fn meet(pid: u32, daemon: SocketAddr) -> Met {
    let mut sender = connect(daemon).await;
    let (mut works, mut waits, mut refused, mut elsewhere) = (Vec::new(), Vec::new(), 0, 0);
    for n in 1..=CALLS {
        clock::sleep(EVERY).await;
        if n % ON_ONE_CONNECTION == 0 {
            sender = connect(daemon).await;
        }
        let (before, stopwatch) = (cpu_of_threads(pid), Stopwatch::start());
        match call(&sender, head(daemon, FIND), frame(&find().user("good"))).await {
            Ok(answer) => {
                let answer = FindContactResponse::decode(&answer[5..]).unwrap();
                elsewhere += usize::from(answer.lookup.unwrap().source() != Source::Memory);
            }
            Err(_) => refused += 1,
        }
        waits.push(stopwatch.elapsed());
        works.push(busiest_since(pid, &before));
    }
    waits.sort();
    works.sort();
    Met {
        work_p99: works[CALLS * 99 / 100],
        wait_median: waits[CALLS / 2],
        refused,
        elsewhere,
    }
}

/// The CPU time of each thread of a process.
fn cpu_of_threads(pid: u32) -> HashMap<OsString, Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let cpu_of = |thread: fs::DirEntry| {
        // A thread may end meanwhile.
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanos = text.split(' ').next()?.parse().ok()?;
        Some((thread.file_name(), Duration::from_nanos(nanos)))
    };
    threads.flatten().filter_map(cpu_of).collect()
}

/// What the thread that worked most has worked since then.
fn busiest_since(pid: u32, before: &HashMap<OsString, Duration>) -> Duration {
    let since = cpu_of_threads(pid).into_iter().map(|(thread, now)| {
        let then = before.get(&thread).copied().unwrap_or_default();
        now.saturating_sub(then)
    });
    since.max().unwrap()
}

async fn daemon(crm: &FakeCrm, evil: u16) -> (Program, SocketAddr) {
    let quota = "quota = { rate = 10000, per = \"1s\", burst = 10000, scope = \"user\", prefetch_share = 0.5 }";
    let program = Program::start_with(
        &format!(
            "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n\
             [connectors.evil]\nkind = \"example\"\nbase_url = \"http://127.0.0.1:{evil}\"\nidentity = \"caller\"\n{quota}\n",
            crm.url()
        ),
        "info",
        &[
            ("CONTACTD__LOOKUP__CALL_TIMEOUT", "1s"),
            ("CONTACTD__LOOKUP__TIMEOUT", "1500ms"),
            ("CONTACTD__GRPC__MAX_IN_FLIGHT", "128"),
            ("CONTACTD__GRPC__MAX_CONNECTIONS", "200"),
        ],
    )
    .await;
    let addr = program.grpc.trim_start_matches("http://").parse().unwrap();
    call(
        &connect(addr).await,
        head(addr, FIND),
        frame(&find().user("good")),
    )
    .await
    .unwrap();
    (program, addr)
}

#[expect(
    clippy::print_stdout,
    reason = "the figures, for whoever asks for them"
)]
async fn costs_others_little(attack: Attack) {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let evil = free_port();
    let (victim, addr) = daemon(&crm, evil).await;
    for tried in 1..=TRIES {
        let attackers = Attackers::start(attack, addr, evil).await;
        let met = meet(victim.pid(), addr).await;
        drop(attackers);
        println!("{attack:?}: {met:?}");
        if met.is_good_enough() {
            return;
        }
        assert!(tried < TRIES, "{attack:?}: {met:?}");
    }
}

#[tokio::test]
async fn half_requests_cost_others_little() {
    costs_others_little(Attack::HalfRequests).await;
}

#[tokio::test]
async fn callers_that_leave_at_once_cost_others_little() {
    costs_others_little(Attack::SmallDeadlines).await;
}

#[tokio::test]
async fn a_crm_that_hangs_costs_others_little() {
    costs_others_little(Attack::HangingCrm).await;
}

#[tokio::test]
async fn early_hints_without_end_cost_others_little() {
    costs_others_little(Attack::EarlyHints).await;
}

#[tokio::test]
async fn replies_of_many_records_cost_others_little() {
    costs_others_little(Attack::ManyRecords).await;
}

#[tokio::test]
async fn window_updates_without_end_cost_others_little() {
    costs_others_little(Attack::WindowUpdates).await;
}

#[tokio::test]
async fn priorities_without_end_cost_others_little() {
    costs_others_little(Attack::Priorities).await;
}

#[tokio::test]
async fn invalidations_without_end_cost_others_little() {
    costs_others_little(Attack::Invalidations).await;
}

#[tokio::test]
async fn idle_connections_cost_others_little() {
    costs_others_little(Attack::Connections).await;
}

#[tokio::test]
async fn batches_of_users_who_rest_cost_others_little() {
    costs_others_little(Attack::RestingBatches).await;
}
