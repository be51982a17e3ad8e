//! The quota's figures, while calls wait and while the CRM asks for a pause.

use contactd::pb::v1::{PrefetchContactsRequest, QuotaState};

use super::*;
use crate::support::fleet::number;

fn with_quota(rate: u32, per: &str, more: &str) -> String {
    format!("[connectors.example.quota]\nrate = {rate}\nburst = {rate}\nper = \"{per}\"\n{more}\n")
}

async fn quota(daemon: &TestDaemon) -> QuotaState {
    explain(daemon, find()).await.quota.unwrap()
}

/// Explains until the quota is as the test says; fails after ten seconds.
async fn until(daemon: &TestDaemon, what: &str, is_so: impl Fn(&QuotaState) -> bool) -> QuotaState {
    for _ in 0..1_000 {
        let quota = quota(daemon).await;
        if is_so(&quota) {
            return quota;
        }
        contactd::clock::sleep(Duration::from_millis(10)).await;
    }
    panic!("still not so: {what}")
}

#[tokio::test]
async fn the_quota_shows_what_is_used_and_who_waits_by_lane() {
    let crm = FakeCrm::start(guarded).await;
    let settings = with_quota(4, "1h", "[lookup]\ntimeout = \"2h\"");
    let daemon = TestDaemon::with(&crm, "example", &settings).await;
    let unused = quota(&daemon).await;
    assert_eq!(
        (unused.limit, seconds(unused.per), unused.used),
        (4, 3600, 0)
    );
    assert_eq!(
        (unused.waiting_call_pops, unused.waiting_background),
        (0, 0)
    );

    daemon.find(find()).await.unwrap();
    let spent = until(&daemon, "the calls are counted for their owner", |quota| {
        quota.used as usize == crm.seen().len() + crm.asked_who()
    })
    .await;
    assert!(
        spent.used >= 2 && seconds(spent.paused_for) == 0,
        "{spent:?}"
    );
    for n in 0..4 {
        let one = find().number(&number(n));
        // What no longer fits waits; whoever waits for it leaves.
        let asked = daemon.find(one.within(Duration::from_secs(5_000)));
        let _ = contactd::clock::timeout(Duration::from_millis(200), asked).await;
    }
    let full = until(&daemon, "call pops wait", |quota| {
        quota.waiting_call_pops > 0
    })
    .await;
    assert_eq!((full.limit, full.used), (4, 4));

    let batch = PrefetchContactsRequest {
        user: find().user,
        auth_header: find().auth_header,
        phone_numbers: (10..20).map(number).collect(),
        ..Default::default()
    };
    let mut client = daemon.client.clone();
    let _running = client.prefetch_contacts(batch).await.unwrap().into_inner();
    until(&daemon, "background calls wait", |quota| {
        quota.waiting_background > 0
    })
    .await;

    let soon = |question| {
        let mut request = Request::new(about(question, false));
        request.set_timeout(Duration::from_secs(30));
        request
    };
    let refused = ask(&daemon, soon(find().number(&number(99))))
        .await
        .unwrap();
    assert_eq!(refused.decision, "refuse");
    assert!(
        refused.because.contains("no call left before the deadline"),
        "{}",
        refused.because
    );
    let asked = find().number(&number(99)).within(Duration::from_secs(30));
    let status = daemon.find(asked).await.unwrap_err();
    assert_eq!(details(&status).reason, "BUDGET_EXHAUSTED", "as explained");
    let stored = ask(&daemon, soon(find())).await.unwrap();
    assert_eq!(
        stored.decision, "serve_fresh",
        "what is stored needs no call"
    );
}

#[tokio::test]
async fn a_pause_that_the_crm_asked_for_is_shown_and_refuses() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    crm.becomes(|_| Reply::status(429).header("retry-after", "120"));
    let other = || find().number("+16502000000");
    let status = daemon.find(other()).await.unwrap_err();
    assert_eq!(details(&status).reason, "CRM_RATE_LIMITED");
    let explained = explain(&daemon, other()).await;
    let paused = seconds(explained.quota.unwrap().paused_for);
    assert!((100..=120).contains(&paused), "{paused}");
    assert_eq!(explained.decision, "refuse");
    let status = daemon.find(other()).await.unwrap_err();
    assert_eq!(details(&status).reason, "BUDGET_EXHAUSTED", "as explained");
    assert_eq!(explain(&daemon, find()).await.decision, "serve_fresh");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn replicas_show_the_calls_that_all_of_them_have_made() {
    let server = RedisServer::start().await;
    let crm = FakeCrm::start(guarded).await;
    let more = format!("timeout = \"500ms\"\n{}", with_quota(50, "1h", ""));
    let [one, two] = [
        replica(&crm, &server.url(), &more).await,
        replica(&crm, &server.url(), &more).await,
    ];
    for n in 0..5 {
        one.find(find().number(&number(n))).await.unwrap();
    }
    let made = u32::try_from(crm.seen().len() + crm.asked_who()).unwrap();
    for daemon in [&one, &two] {
        let quota = until(daemon, "all calls count", |quota| quota.used == made).await;
        assert_eq!(quota.limit, 50);
    }
    for _ in 0..5 {
        quota(&two).await;
    }
    assert_eq!(
        quota(&two).await.used,
        made,
        "an explanation spends nothing"
    );
}
