//! A Redis that is there and refuses: what daemons do, say and count.

use std::time::Duration;

use contactd::clock::{Stopwatch, sleep};
use contactd::pb::v1::Source;

use super::loopback;
use crate::prefetch::{batch, run};
use crate::redis_tier::refusals::{rule, set_user, url};
use crate::support::chaos::ChaosProxy;
use crate::support::daemon::{Changed as _, TestDaemon, find, get, refresh};
use crate::support::fleet::{
    ada, answers, everything, forget, named, number, redis_is, replica, source, the_number,
};
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, eventually};

/// Waits until what one of them loads is a Redis hit for the other one.
async fn share_within(limit: Duration, daemons: [&TestDaemon; 2], first: usize) {
    let watch = Stopwatch::start();
    for n in first.. {
        daemons[0].find(find().number(&number(n))).await.unwrap();
        let answer = daemons[1].find(find().number(&number(n))).await.unwrap();
        if source(&answer) == Source::Redis {
            return;
        }
        assert!(watch.elapsed() < limit, "they do not share answers");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn replicas_follow_a_failover_behind_one_name_and_hear_each_other_there() {
    let (crm, old, new) = (
        FakeCrm::start(ada).await,
        RedisServer::start().await,
        RedisServer::start().await,
    );
    let proxy = ChaosProxy::before(loopback(old.port)).await;
    let name = format!("redis://{}", proxy.addr);
    let (one, other) = (
        replica(&crm, &name, "").await,
        replica(&crm, &name, "").await,
    );
    share_within(Duration::from_secs(5), [&one, &other], 0).await;
    old.run::<()>(&["REPLICAOF", "127.0.0.1", &new.port.to_string()]);
    proxy.leads_to(loopback(new.port));
    share_within(Duration::from_secs(5), [&one, &other], 1000).await;
    assert!(
        new.keys().iter().any(|key| key.contains(":a:")),
        "on the new master"
    );
    for daemon in [&one, &other] {
        daemon.find(find()).await.unwrap();
        redis_is(daemon, true).await;
    }
    crm.becomes(|seen| named("Ada King", seen));
    forget(&one, the_number()).await.unwrap();
    answers(&other, "Ada King", Duration::from_secs(2)).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn under_the_documented_rule_nothing_that_a_daemon_does_is_refused() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    set_user(&redis, &rule());
    let (one, other) = (
        replica(&crm, &url(&redis), "").await,
        replica(&crm, &url(&redis), "").await,
    );
    share_within(Duration::from_secs(5), [&one, &other], 0).await;
    one.find(refresh()).await.unwrap();
    let told = run(&one, batch((100..150).map(number).collect())).await;
    assert_eq!(told.finished.unwrap().found, 50);
    forget(&one, the_number()).await.unwrap();
    forget(&one, everything()).await.unwrap();
    for status in [429, 401] {
        crm.becomes(move |_| Reply::status(status).header("retry-after", "1"));
        one.find(find().user("another").number(&number(200)))
            .await
            .unwrap_err();
    }
    for daemon in [&one, &other] {
        let (_, metrics) = daemon.page("/metrics").await;
        assert!(
            !metrics.contains("contactd_redis_refused_total{"),
            "{metrics}"
        );
        assert_eq!(daemon.metric("contactd_redis_up").await, Some(1.0));
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn another_type_where_replicas_are_counted_is_said_and_they_hear_each_other_all_the_same() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let (one, other) = (
        replica(&crm, &redis.url(), "").await,
        replica(&crm, &redis.url(), "").await,
    );
    for daemon in [&one, &other] {
        daemon.find(find()).await.unwrap();
    }
    let replace = "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], 'not ours')";
    redis.run::<()>(&["EVAL", replace, "1", "contactd:{log}:r"]);
    redis_is(&other, false).await;
    crm.becomes(|seen| named("Ada King", seen));
    forget(&one, the_number()).await.unwrap();
    answers(&other, "Ada King", Duration::from_secs(2)).await;

    let toml = format!(
        "[redis]\nurl = \"{}\"\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        redis.url(),
        crm.url()
    );
    let program = Program::start_with(&toml, "info", &[]).await;
    eventually("the key is named", || {
        program.log().contains("contactd:{log}:r")
    })
    .await;
    redis.run::<()>(&["DEL", "contactd:{log}:r"]);
    redis_is(&one, true).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_full_or_read_only_redis_is_said_once_and_counted() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let toml = format!(
        "[redis]\nurl = \"{}\"\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        redis.url(),
        crm.url()
    );
    let program = Program::start_with(&toml, "info", &[]).await;
    let metrics = format!("{}/metrics", program.ops);
    let lines = |text: &str| {
        program
            .log()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    };
    let port = free_port().to_string();
    let (full, free) = (
        ["CONFIG", "SET", "maxmemory", "1"],
        ["CONFIG", "SET", "maxmemory", "0"],
    );
    let (follow, lead) = (
        ["REPLICAOF", "127.0.0.1", &port],
        ["REPLICAOF", "NO", "ONE"],
    );
    for (round, code, fault, remedy) in [
        (1, "OOM", &full[..], &free[..]),
        (2, "READONLY", &follow[..], &lead[..]),
    ] {
        eventually("it is connected", || lines("connected to Redis") == round).await;
        redis.run::<()>(fault);
        eventually("it is said", || lines(code) > 0).await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(lines(code), 1, "{}", program.log());
        let said = program
            .log()
            .lines()
            .find(|line| line.contains(code))
            .unwrap()
            .to_owned();
        assert!(
            said.contains("storing answers") && said.contains("sharing quotas"),
            "{said}"
        );
        let (_, page) = get(&metrics).await;
        let count = page
            .lines()
            .find(|line| line.contains("redis_refused_total") && line.contains(code));
        let count: u32 = count
            .and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{page}"));
        assert!(count >= 5, "{count} refused {code}");
        assert!(page.contains("contactd_redis_up 0"), "{code}");
        redis.run::<()>(remedy);
    }
    eventually("it is sound again", || lines("connected to Redis") == 3).await;
}
