//! Events that end trust or change answers take effect even while the CRM is being asked.

use std::time::Duration;

use contactd::clock;
use contactd::pb::v1::Source;
use tonic::Code;

use crate::identity::tenants;
use crate::support::chaos::{ChaosProxy, Mode};
use crate::support::crm::Seen;
use crate::support::daemon::{Changed as _, details, names};
use crate::support::fleet::{everything, forget, number, replica, source};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find};

#[tokio::test]
async fn a_limit_met_by_a_credentials_first_search_pauses_the_quota_of_its_owner() {
    let limited = |seen: &Seen| match seen.asks_who() {
        true => tenants(seen).after(Duration::from_millis(100)),
        false => Reply::status(429).header("retry-after", "60"),
    };
    let crm = FakeCrm::start(limited).await;
    let daemon = TestDaemon::over(&crm).await;
    let first = daemon
        .find(find().auth("Bearer alice.1"))
        .await
        .unwrap_err();
    assert_eq!(details(&first).reason, "CRM_RATE_LIMITED");
    eventually("the CRM has said who it is", || crm.asked_who() == 1).await;
    clock::sleep(Duration::from_millis(300)).await;
    let again = find()
        .auth("Bearer alice.1")
        .number(&number(1))
        .within(Duration::from_secs(2));
    assert_eq!(
        details(&daemon.find(again).await.unwrap_err()).reason,
        "BUDGET_EXHAUSTED"
    );
    assert_eq!(crm.searches(), 1, "the CRM wants no call for a minute");
}

#[tokio::test]
async fn what_is_forgotten_while_trust_is_renewed_is_not_served() {
    let crm = FakeCrm::start(tenants).await;
    let cache = "[cache]\nadmitted = \"10m\"\nfound = { fresh = \"2h\", stale = \"24h\" }\n";
    let daemon = TestDaemon::with(&crm, "example", cache).await;
    daemon.find(find().auth("Bearer alice.1")).await.unwrap();
    daemon.clock.advance(Duration::from_secs(3600));
    crm.becomes(|seen| {
        if seen.asks_who() {
            tenants(seen).after(Duration::from_millis(500))
        } else {
            renamed(seen)
        }
    });
    let asking = async { daemon.find(find().auth("Bearer alice.1")).await.unwrap() };
    let forgetting = async {
        eventually("trust is being renewed", || crm.asked_who() == 2).await;
        forget(&daemon, everything()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(asking, forgetting);
    assert_eq!(
        (names(&answer), source(&answer)),
        (vec!["Alicia"], Source::Crm)
    );
}

fn renamed(seen: &Seen) -> Reply {
    crate::support::crm::example(
        seen,
        &[contact(
            1,
            "Alicia",
            seen.param("phone").unwrap_or_default(),
        )],
    )
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_refusal_that_could_not_be_told_is_told_as_soon_as_redis_is_back() {
    let (crm, redis) = (FakeCrm::start(tenants).await, RedisServer::start().await);
    let proxy = ChaosProxy::before(([127, 0, 0, 1], redis.port).into()).await;
    let apart = replica(&crm, &format!("redis://{}", proxy.addr), "").await;
    let other = replica(&crm, &redis.url(), "").await;
    for daemon in [&apart, &other] {
        daemon.find(find().auth("Bearer alice.1")).await.unwrap();
    }
    proxy.becomes(Mode::Refuse).await;
    crm.becomes(|_| Reply::status(401));
    let refused = apart
        .find(find().auth("Bearer alice.1").number(&number(1)))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(
        other.find(find().auth("Bearer alice.1")).await.is_ok(),
        "it cannot know yet"
    );
    proxy.restore().await;
    let told = async {
        while other.find(find().auth("Bearer alice.1")).await.is_ok() {
            clock::sleep(Duration::from_millis(50)).await;
        }
    };
    clock::timeout(Duration::from_secs(20), told)
        .await
        .expect("no replica trusts a refused credential");
    let late = replica(&crm, &redis.url(), "").await;
    let refused = late.find(find().auth("Bearer alice.1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}
