//! The CRM behind a fault proxy.

use std::time::Duration;

use contactd::pb::v1::Freshness;
use futures_util::future::join_all;
use tonic::Code;

use super::promptly;
use crate::support::FakeCrm;
use crate::support::chaos::{ChaosProxy, Mode};
use crate::support::daemon::{TestDaemon, names};
use crate::support::fleet::ada;

/// A daemon whose CRM is behind a proxy.
async fn behind_a_proxy(crm: &FakeCrm, call_timeout: &str) -> (ChaosProxy, TestDaemon) {
    let proxy = ChaosProxy::before(crm.addr).await;
    let toml = format!(
        "[lookup]\ncall_timeout = \"{call_timeout}\"\n[connectors.example]\nkind = \"example\"\nbase_url = \"http://{}\"\n",
        proxy.addr
    );
    let daemon = TestDaemon::start(&toml).await;
    (proxy, daemon)
}

#[tokio::test]
async fn whatever_the_crms_connection_does_stored_answers_are_served_and_the_rest_fails_in_time() {
    let crm = FakeCrm::start(ada).await;
    let (proxy, daemon) = behind_a_proxy(&crm, "500ms").await;
    for (round, mode) in [Mode::Refuse, Mode::Stall, Mode::Cut]
        .into_iter()
        .enumerate()
    {
        let first = round * 100;
        promptly(&daemon, first).await.unwrap();
        proxy.becomes(mode).await;
        for status in join_all((1..10).map(|n| promptly(&daemon, first + n))).await {
            assert_eq!(status.unwrap_err().code(), Code::Unavailable, "{mode:?}");
        }
        assert_eq!(
            names(&promptly(&daemon, first).await.unwrap()),
            ["Ada"],
            "{mode:?}: fresh"
        );
        daemon.clock.advance(Duration::from_secs(3000));
        let stale = promptly(&daemon, first).await.unwrap();
        assert_eq!(names(&stale), ["Ada"]);
        assert_eq!(
            stale.lookup.unwrap().freshness(),
            Freshness::Stale,
            "{mode:?}"
        );
        proxy.restore().await;
        // What was said while the CRM was away was not kept.
        for answer in join_all((1..10).map(|n| promptly(&daemon, first + n))).await {
            assert_eq!(names(&answer.unwrap()), ["Ada"], "{mode:?}: it is back");
        }
    }
}

#[tokio::test]
async fn a_slow_crm_delays_its_own_look_ups_only() {
    let crm = FakeCrm::start(ada).await;
    let (proxy, daemon) = behind_a_proxy(&crm, "3s").await;
    promptly(&daemon, 0).await.unwrap();
    proxy.becomes(Mode::Slow(Duration::from_millis(200))).await;
    let unknown = join_all((1..30).map(|n| promptly(&daemon, n)));
    let known = async {
        for _ in 0..30 {
            assert_eq!(names(&promptly(&daemon, 0).await.unwrap()), ["Ada"]);
        }
    };
    let (unknown, ()) = tokio::join!(unknown, known);
    assert!(unknown.iter().all(Result::is_ok));
}
