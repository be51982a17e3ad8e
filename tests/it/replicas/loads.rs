//! One load for all replicas: at first, when it is stale, and when its holder dies.

use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1::{Freshness, Source};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use tonic::transport::Endpoint;

use crate::prefetch::batch;
use crate::support::daemon::{Changed as _, names};
use crate::support::fleet::{ada, answers, named, number, redis_is, replica, replicas, source};
use crate::support::program::Program;
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, eventually, find, refresh};

/// These tests are about what replicas share, on machines that may be busy.
const PATIENT: &str = "timeout = \"500ms\"";

/// Past the fresh age of what is found, before its hard end, and before credentials lapse.
const STALE: Duration = Duration::from_secs(3000);

/// Waits until the only lease has been renewed for longer than it lives without that.
async fn outlives_its_term(redis: &RedisServer) {
    let mut keys = redis.keys().into_iter();
    let lease = keys.find(|key| key.contains(":l:")).expect("a lease");
    let left = || redis.run::<i64>(&["PTTL", &lease]);
    let (mut renewals, mut before) = (0, left());
    let renewed = async {
        // It lives for three seconds and is renewed each second.
        while renewals < 4 {
            clock::sleep(Duration::from_millis(50)).await;
            let now = left();
            renewals += i32::from(now > before);
            before = now;
        }
    };
    let renewed = clock::timeout(Duration::from_secs(30), renewed).await;
    renewed.expect("its holder renews the lease");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_replica_that_is_killed_in_the_middle_of_a_load_leaves_it_to_another_within_seconds() {
    let redis = RedisServer::start().await;
    // The first search never gets its answer.
    let first = std::sync::atomic::AtomicBool::new(true);
    let crm = FakeCrm::start(move |seen| {
        let stuck = seen.path == "/api/v1/contacts"
            && first.swap(false, std::sync::atomic::Ordering::SeqCst);
        ada(seen).after(if stuck {
            Duration::from_secs(600)
        } else {
            Duration::ZERO
        })
    })
    .await;
    let toml = format!(
        "[redis]\nurl = \"{}\"\ntimeout = \"500ms\"\n[lookup]\ncall_timeout = \"60s\"\ntimeout = \"60s\"\n[connectors.example]\nkind = \
         \"example\"\nbase_url = \"{}\"\n",
        redis.url(),
        crm.url()
    );
    let doomed = Program::start(&toml).await;
    let survivor = replica(&crm, &redis.url(), PATIENT).await;
    let channel = Endpoint::from_shared(doomed.grpc.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = ContactServiceClient::new(channel);
    let kill = async {
        eventually("the lease's holder asks the CRM", || crm.searches() == 1).await;
        let (waiting, stopwatch) = (survivor.find(find()), async {
            outlives_its_term(&redis).await;
            assert_eq!(
                crm.searches(),
                1,
                "as long as its holder lives the lease is kept"
            );
            doomed.signal(Signal::SIGKILL);
            Stopwatch::start()
        });
        let (answer, stopwatch) = tokio::join!(waiting, stopwatch);
        assert_eq!(names(&answer.unwrap()), ["Ada"]);
        assert!(
            stopwatch.elapsed() < Duration::from_secs(8),
            "{:?}",
            stopwatch.elapsed()
        );
    };
    let (lost, ()) = tokio::join!(client.find_contact(find()), kill);
    lost.unwrap_err();
    assert_eq!(crm.searches(), 2);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn three_replicas_refresh_a_stale_answer_once() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 3).await;
    for daemon in &daemons {
        assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada"]);
    }
    assert_eq!(crm.searches(), 1);
    crm.becomes(|seen| named("Ada King", seen).after(Duration::from_millis(100)));
    for daemon in &daemons {
        daemon.clock.advance(STALE);
    }
    let stale = join_all(
        daemons
            .iter()
            .flat_map(|daemon| [daemon.find(find()), daemon.find(find())]),
    )
    .await;
    for answer in stale {
        let answer = answer.unwrap();
        assert_eq!(
            (names(&answer), freshness(&answer)),
            (vec!["Ada"], Freshness::Stale)
        );
    }
    join_all(daemons.iter().map(renewed)).await;
    assert_eq!(crm.searches(), 2, "the others have found it in Redis");
}

/// Asks until the answer is the fresh one.
async fn renewed(daemon: &TestDaemon) {
    let fresh = async {
        loop {
            let answer = daemon.find(find()).await.unwrap();
            if freshness(&answer) == Freshness::Fresh {
                return assert_eq!(names(&answer), ["Ada King"]);
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    clock::timeout(Duration::from_secs(10), fresh)
        .await
        .expect("the stale answer is refreshed");
}

fn freshness(answer: &contactd::pb::v1::FindContactResponse) -> Freshness {
    answer.lookup.as_ref().unwrap().freshness()
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_stale_answer_of_redis_is_served_at_once_while_the_crm_is_down() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 2).await;
    daemons[0].find(find()).await.unwrap();
    crm.becomes(|_| Reply::status(500));
    daemons[1].clock.advance(STALE);
    let stale = daemons[1].find(find()).await.unwrap();
    assert_eq!(
        (names(&stale), source(&stale), freshness(&stale)),
        (vec!["Ada"], Source::Redis, Freshness::Stale)
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_refresh_that_takes_too_long_is_answered_with_what_redis_holds() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let other = replica(&crm, &redis.url(), PATIENT).await;
    other.find(find()).await.unwrap();
    let settings = format!("{PATIENT}\n[lookup]\nsoft_deadline = \"200ms\"");
    let daemon = replica(&crm, &redis.url(), &settings).await;
    crm.becomes(|seen| named("Ada King", seen).after(Duration::from_secs(2)));
    let earlier = daemon.find(refresh()).await.unwrap();
    assert_eq!(
        (names(&earlier), freshness(&earlier)),
        (vec!["Ada"], Freshness::Stale)
    );
    answers(&daemon, "Ada King", Duration::from_secs(10)).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_phone_that_rings_does_not_wait_for_the_batch_of_another_replica() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let quota =
        "[connectors.example.quota]\nrate = 4\nper = \"1s\"\nburst = 1\nprefetch_share = 0.5\n";
    let toml = |crm: &FakeCrm| {
        let (redis, crm) = (redis.url(), crm.url());
        format!(
            "[redis]\nurl = \"{redis}\"\n{PATIENT}\n[connectors.example]\nkind = \"example\"\nbase_url = \"{crm}\"\n{quota}"
        )
    };
    let (warming, ringing) = (
        TestDaemon::start(&toml(&crm)).await,
        TestDaemon::start(&toml(&crm)).await,
    );
    for daemon in [&warming, &ringing] {
        redis_is(daemon, true).await;
    }
    // Sixty calls of two a second: the thirtieth number's turn comes after half a minute.
    let mut job = warming
        .client
        .clone()
        .prefetch_contacts(batch((0..30).map(number).collect()))
        .await
        .unwrap();
    eventually("the batch is under way", || crm.searches() >= 2).await;
    let answer = ringing
        .find(find().number(&number(29)).within(Duration::from_secs(12)))
        .await
        .unwrap();
    assert_eq!(
        (names(&answer), source(&answer)),
        (vec!["Ada"], Source::Crm)
    );
    drop(job.get_mut().message().await);
}
