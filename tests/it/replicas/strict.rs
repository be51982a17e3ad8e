//! Three replicas and a CRM that enforces its limit strictly: it never has to refuse a call,
//! whatever becomes of Redis.

use std::time::Duration;

use contactd::clock::{Stopwatch, sleep};
use contactd::pb::v1::PrefetchContactsRequest;
use futures_util::future::{join, join_all};
use tonic::Status;

use crate::support::daemon::Changed as _;
use crate::support::fleet::number;
use crate::support::ports::free_port;
use crate::support::redis::RedisServer;
use crate::support::strict::StrictCrm;
use crate::support::{TestDaemon, find};

pub(super) const RATE: usize = 10;
pub(super) const PER: Duration = Duration::from_secs(1);
/// Enough for thirty windows at the full rate.
const CALLS: usize = 32 * RATE;

/// Longer than a call pop waits until the replica gives Redis up and the call pops ahead are
/// served.
const PATIENCE: Duration = Duration::from_secs(8);

/// Three replicas that start one after another.
async fn fleet(strict: &StrictCrm, redis: &str) -> Vec<TestDaemon> {
    fleet_at(strict, [redis; 3]).await
}

/// Three replicas, each with its own way to Redis.
pub(super) async fn fleet_at(strict: &StrictCrm, redis: [&str; 3]) -> Vec<TestDaemon> {
    let mut daemons = Vec::new();
    for redis in redis {
        let toml = format!(
            "[redis]\nurl = \"{redis}\"\nreplicas = 3\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n\
             quota = {{ rate = {RATE}, per = \"1s\", burst = {RATE}, prefetch_share = 1.0 }}\n",
            strict.crm.url()
        );
        daemons.push(TestDaemon::after_others(&toml).await);
    }
    daemons
}

/// Phones that ring at all replicas, and a batch at each, until `calls` numbers are looked up.
/// Returns what the phones without an answer got instead, and the longest time that a phone waited.
async fn load(daemons: &[TestDaemon], first: usize, calls: usize) -> (Vec<Status>, Duration) {
    let batches = daemons.iter().enumerate().map(async |(replica, daemon)| {
        let from = first + replica * calls / 6;
        let request = PrefetchContactsRequest {
            user: find().user,
            auth_header: find().auth_header,
            phone_numbers: (from..from + calls / 6).map(number).collect(),
            overriding_formats: Vec::new(),
        };
        let mut events = daemon
            .client
            .clone()
            .prefetch_contacts(request)
            .await
            .unwrap()
            .into_inner();
        while events.message().await.unwrap().is_some() {}
    });
    let phones = (first + calls / 2..first + calls).map(async |n| {
        // A few at once, then none for a while. While calls wait for what Redis has lost, there is
        // room for hardly more than six in a window.
        sleep(PER * 3 * u32::try_from((n - first - calls / 2) / 12).unwrap()).await;
        let request = find().number(&number(n)).within(Duration::from_secs(30));
        let stopwatch = Stopwatch::start();
        let failure = daemons[n % daemons.len()].find(request).await.err();
        (failure, stopwatch.elapsed())
    });
    let (_, answered) = join(join_all(batches), join_all(phones)).await;
    let longest = answered.iter().map(|(_, waited)| *waited).max();
    let refusals = answered.into_iter().filter_map(|(failure, _)| failure);
    (refusals.collect(), longest.unwrap_or_default())
}

pub(super) async fn refuses_nothing(strict: &StrictCrm, daemons: &[TestDaemon], name: &str) {
    let (unanswered, longest) = load(daemons, 0, CALLS).await;
    let (calls, windows) = (strict.calls(), strict.windows());
    report(&format!(
        "{name}: {} of {calls} calls refused in {windows:.1} windows, a phone waited for {longest:?}",
        strict.refused()
    ));
    assert_eq!(
        strict.refused(),
        0,
        "{name}: of {calls} calls in {windows:.1} windows"
    );
    assert!(
        unanswered.is_empty(),
        "{name}: phones without an answer: {unanswered:?}"
    );
    assert!(
        longest < PATIENCE,
        "{name}: a phone waited for {longest:?} beside a batch"
    );
}

#[expect(
    clippy::print_stdout,
    reason = "figures for whoever runs the test with --nocapture"
)]
fn report(figures: &str) {
    println!("{figures}");
}

async fn with_redis(args: &[&str], name: &str, seed: u64) {
    let (strict, redis) = (
        StrictCrm::start(RATE, PER, seed).await,
        RedisServer::with(args).await,
    );
    let daemons = fleet(&strict, &redis.url()).await;
    refuses_nothing(&strict, &daemons, name).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_strict_crm_refuses_a_fleet_nothing_whether_redis_is_there_or_cannot_be_used() {
    let away = async {
        let strict = StrictCrm::start(RATE, PER, 2).await;
        let daemons = fleet(&strict, "redis://127.0.0.1:1").await;
        refuses_nothing(&strict, &daemons, "away").await;
    };
    let replica = async {
        let primary = RedisServer::start().await;
        let port = primary.port.to_string();
        with_redis(&["--replicaof", "127.0.0.1", &port], "read-only", 4).await;
    };
    let scripts = [
        "--user",
        "default",
        "on",
        "nopass",
        "~*",
        "&*",
        "+@all",
        "-@scripting",
    ];
    tokio::join!(
        with_redis(&[], "there", 1),
        away,
        with_redis(
            &["--maxmemory", "1", "--maxmemory-policy", "noeviction"],
            "full",
            3
        ),
        replica,
        with_redis(&scripts, "refusing scripts", 5),
        node_of_a_cluster(),
        killed_and_back(),
        restarted(),
    );
}

/// A cluster's node that is used as a single server. Its counts and its log are in different slots.
async fn node_of_a_cluster() {
    // By default the port of the cluster's bus is 10,000 higher, where any connection may be.
    let bus = free_port().to_string();
    let (strict, redis) = (
        StrictCrm::start(RATE, PER, 7).await,
        RedisServer::with(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await,
    );
    redis.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let daemons = fleet(&strict, &redis.url()).await;
    refuses_nothing(&strict, &daemons, "node of a cluster").await;
    let is_shared = redis.keys().iter().any(|key| key.contains("{q:"));
    assert!(is_shared, "the replicas count in Redis");
}

/// Redis is killed while the quota is in use, and comes back empty.
async fn killed_and_back() {
    let (strict, mut redis) = (
        StrictCrm::start(RATE, PER, 6).await,
        RedisServer::start().await,
    );
    let daemons = fleet(&strict, &redis.url()).await;
    let outages = async {
        for (up, down) in [(6, 4_000), (6, 300), (6, 1_200)] {
            sleep(Duration::from_secs(up)).await;
            redis.stop();
            sleep(Duration::from_millis(down)).await;
            redis.restart().await;
        }
    };
    tokio::join!(
        refuses_nothing(&strict, &daemons, "killed and back, empty"),
        outages
    );
}

/// One daemon without Redis that starts again and again.
async fn restarted() {
    let strict = StrictCrm::start(RATE, PER, 7).await;
    let toml = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\nquota = {{ rate = {RATE}, per = \"1s\", burst = {RATE} }}\n",
        strict.crm.url()
    );
    for start in 0..15 {
        let daemon = TestDaemon::after_others(&toml).await;
        let calls = (0..2 * RATE).map(|n| {
            let user = format!("user-{n}");
            let mut request = find().number(&number(start * 1_000 + n));
            request.user.as_mut().unwrap().id = user;
            daemon.find(request.within(Duration::from_secs(20)))
        });
        for answer in join_all(calls).await {
            answer.unwrap();
        }
    }
    report(&format!(
        "restarted: {} of {} calls refused",
        strict.refused(),
        strict.calls()
    ));
    assert_eq!(strict.refused(), 0, "of {} calls", strict.calls());
}
