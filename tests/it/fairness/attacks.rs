//! Floods. The attackers are a process of their own on one core. A good client's memory hits are
//! measured while they attack its daemon, and, as the control, while they attack another one: the
//! machine is as busy then, the daemon is not.

use std::net::SocketAddr;
use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::pb::v1::{FindContactResponse, Source};
use prost::Message as _;

use crate::support::attack::{self, Attack, Attackers};
use crate::support::daemon::{Changed as _, find};
use crate::support::program::Program;
use crate::support::redis::free_port;
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

/// What is good enough in any case.
const ENOUGH: Duration = Duration::from_millis(10);

/// What the good client met.
#[derive(Debug)]
struct Met {
    p99: Duration,
    refused: usize,
    /// Answers that were not from memory.
    elsewhere: usize,
}

impl Met {
    fn is_good_enough(&self, control: &Self) -> bool {
        (self.refused, self.elsewhere) == (0, 0) && self.p99 <= ENOUGH.max(control.p99 * 3)
    }
}

async fn meet(daemon: SocketAddr) -> Met {
    let mut sender = connect(daemon).await;
    let (mut times, mut refused, mut elsewhere) = (Vec::new(), 0, 0);
    for n in 1..=CALLS {
        clock::sleep(EVERY).await;
        if n % ON_ONE_CONNECTION == 0 {
            sender = connect(daemon).await;
        }
        let stopwatch = Stopwatch::start();
        match call(&sender, head(daemon, FIND), frame(&find().user("good"))).await {
            Ok(answer) => {
                let answer = FindContactResponse::decode(&answer[5..]).unwrap();
                elsewhere += usize::from(answer.lookup.unwrap().source() != Source::Memory);
            }
            Err(_) => refused += 1,
        }
        times.push(stopwatch.elapsed());
    }
    times.sort();
    Met {
        p99: times[CALLS * 99 / 100],
        refused,
        elsewhere,
    }
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

/// What the good client meets while the attackers are at work against that daemon.
async fn under(attack: Attack, (daemon, attacked, evil): (SocketAddr, SocketAddr, u16)) -> Met {
    let _attackers = Attackers::start(attack, attacked, evil).await;
    meet(daemon).await
}

#[expect(
    clippy::print_stdout,
    reason = "the figures, for whoever asks for them"
)]
async fn costs_others_little(attack: Attack) {
    let (crm, evil) = (
        FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await,
        free_port(),
    );
    let ((_victim, victim), (_other, other)) = (daemon(&crm, evil).await, daemon(&crm, evil).await);
    for tried in 1..=TRIES {
        let control = under(attack, (victim, other, evil)).await;
        let attacked = under(attack, (victim, victim, evil)).await;
        println!("{attack:?}: {attacked:?}; control {control:?}");
        if attacked.is_good_enough(&control) {
            return;
        }
        assert!(
            tried < TRIES,
            "{attack:?}: {attacked:?}, where the control is {control:?}"
        );
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
