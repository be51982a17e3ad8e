//! Replicas over a real Redis Cluster of three nodes.

use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::pb::v1::InvalidateContactsRequest;
use contactd::pb::v1::Source;
use contactd::pb::v1::invalidate_contacts_request::Scope;
use futures_util::future::join_all;

use crate::prefetch::{batch, run};
use crate::support::cluster::RedisCluster;
use crate::support::daemon::{Changed as _, TestDaemon, find, names};
use crate::support::fleet::{
    ada, answers, everything, forget, named, number, redis_is, replica, replicas, source,
    the_number,
};
use crate::support::{FakeCrm, eventually};

/// Enough users that each node has some.
const USERS: usize = 24;

fn user(n: usize) -> String {
    format!("user-{n}")
}

/// The keys that belong to users, on all nodes.
async fn users(cluster: &RedisCluster) -> Vec<Vec<String>> {
    let of_users = |keys: Vec<String>| {
        keys.into_iter()
            .filter(|key| key.contains("}:a:"))
            .collect()
    };
    cluster.keys().await.into_iter().map(of_users).collect()
}

#[tokio::test]
async fn answers_are_shared_and_forgotten_on_all_nodes() {
    let (crm, cluster) = (FakeCrm::start(ada).await, RedisCluster::start().await);
    let daemons = replicas(&crm, &cluster.url(), 2).await;
    for n in 0..USERS {
        daemons[0].find(find().user(&user(n))).await.unwrap();
    }
    let searches = crm.searches();
    for n in 0..USERS {
        let answer = daemons[1].find(find().user(&user(n))).await.unwrap();
        assert_eq!(
            (names(&answer), source(&answer)),
            (vec!["Ada"], Source::Redis)
        );
    }
    assert_eq!(crm.searches(), searches);
    assert!(
        users(&cluster).await.iter().all(|keys| !keys.is_empty()),
        "each node has users of its own"
    );

    crm.becomes(|seen| named("Ada King", seen));
    forget(&daemons[0], the_number()).await.unwrap();
    for daemon in &daemons {
        answers(daemon, "Ada King", Duration::from_secs(5)).await;
    }
    crm.becomes(|seen| named("Ada Byron", seen));
    forget(&daemons[1], everything()).await.unwrap();
    for daemon in &daemons {
        answers(daemon, "Ada Byron", Duration::from_secs(5)).await;
    }
    for n in 0..USERS {
        let request = InvalidateContactsRequest {
            user: find().user(&user(n)).user,
            scope: Some(Scope::Everything(true)),
        };
        daemons[n % 2]
            .client
            .clone()
            .invalidate_contacts(request)
            .await
            .unwrap();
    }
    assert_eq!(
        users(&cluster).await.concat(),
        Vec::<String>::new(),
        "erased users leave no answer on any node"
    );
}

/// Time for Redis, and a quota that is in nobody's way.
const PATIENT: &str =
    "timeout = \"2s\"\n[connectors.example.quota]\nrate = 10000\nper = \"1s\"\nburst = 10000\n";

#[tokio::test]
async fn a_batch_of_many_keys_is_found_again_by_another_replica() {
    let (crm, cluster) = (FakeCrm::start(ada).await, RedisCluster::start().await);
    // On a busy machine some would come too late, and be asked for again.
    let url = cluster.url();
    let patient = || replica(&crm, &url, PATIENT);
    let daemons = [patient().await, patient().await];
    let numbers: Vec<String> = (0..700).map(number).collect();
    let first = run(&daemons[0], batch(numbers.clone()))
        .await
        .finished
        .unwrap();
    assert_eq!((first.found, first.failed), (700, 0));
    let asked = crm.seen().len();
    let again = run(&daemons[1], batch(numbers)).await.finished.unwrap();
    assert_eq!(
        (again.already_cached + again.found, again.crm_requests),
        (700, 0)
    );
    assert_eq!(crm.seen().len(), asked);
}

#[tokio::test]
async fn one_replica_loads_for_the_others_and_the_quota_is_kept_by_all() {
    let crm = FakeCrm::start(|seen| ada(seen).after(Duration::from_millis(150))).await;
    let cluster = RedisCluster::start().await;
    let daemons = replicas(&crm, &cluster.url(), 3).await;
    for n in 0..USERS {
        let of_user = || find().user(&user(n));
        let callers = daemons
            .iter()
            .flat_map(|daemon| (0..10).map(|_| daemon.find(of_user())));
        for answer in join_all(callers).await {
            assert_eq!(names(&answer.unwrap()), ["Ada"]);
        }
        assert_eq!(
            crm.searches(),
            n + 1,
            "thirty callers make the calls of one"
        );
    }

    let quota = "quota = { rate = 10, per = \"1s\", burst = 5 }";
    let toml = format!(
        "[redis]\nurl = \"{}\"\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}\n",
        cluster.url(),
        crm.url()
    );
    let limited = join_all((0..3).map(|_| TestDaemon::start(&toml))).await;
    for daemon in &limited {
        redis_is(daemon, true).await;
    }
    let stopwatch = Stopwatch::start();
    let calls = (0..30)
        .map(|n| limited[n % 3].find(find().number(&number(n)).within(Duration::from_secs(60))));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    // Thirty look-ups of two calls at ten a second, less the first burst.
    assert!(
        stopwatch.elapsed() >= Duration::from_millis(5400),
        "{:?}",
        stopwatch.elapsed()
    );
}

#[tokio::test]
async fn a_node_that_dies_fails_and_delays_no_look_up_and_is_used_again_when_it_is_back() {
    let (crm, mut cluster) = (FakeCrm::start(ada).await, RedisCluster::start().await);
    let daemons = replicas(&crm, &cluster.url(), 2).await;
    for n in 0..USERS {
        daemons[0].find(find().user(&user(n))).await.unwrap();
    }
    cluster.kill(1);
    // Before, while and after the cluster notices, which takes it two seconds.
    let stopwatch = Stopwatch::start();
    for round in 0.. {
        for n in 0..USERS {
            for number in [number(0), number(1000 + round * USERS + n)] {
                let stopwatch = Stopwatch::start();
                let answer = daemons[round % 2]
                    .find(find().user(&user(n)).number(&number))
                    .await
                    .unwrap();
                assert_eq!(names(&answer), ["Ada"]);
                assert!(
                    stopwatch.elapsed() < Duration::from_secs(2),
                    "{:?}",
                    stopwatch.elapsed()
                );
            }
        }
        if stopwatch.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    for daemon in &daemons {
        redis_is(daemon, false).await;
    }
    cluster.restart(1).await;
    for daemon in &daemons {
        redis_is(daemon, true).await;
    }
    let kept = async {
        while !users(&cluster).await.iter().all(|keys| !keys.is_empty()) {
            for n in 0..USERS {
                daemons[0]
                    .find(find().user(&user(n)).number("+16505559999"))
                    .await
                    .unwrap();
                forget(&daemons[0], the_number()).await.unwrap();
            }
            clock::sleep(Duration::from_millis(50)).await;
        }
    };
    clock::timeout(Duration::from_secs(20), kept)
        .await
        .expect("answers are kept on all nodes again");
    eventually("nothing is left to wait for", || true).await;
}
