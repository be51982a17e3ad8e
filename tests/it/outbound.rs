//! Where a credential may go: to the platform's host and nowhere else.

use serde_json::json;
use tonic::Code;

use crate::support::crm::example;
use crate::support::daemon::{Changed as _, details, names};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find};

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let elsewhere = FakeCrm::with(vec![contact(1, "Mallory", "+16505551234")]).await;
    for status in [301, 302, 303, 307, 308] {
        let target = format!("{}/api/v1/contacts?phone=1", elsewhere.url());
        let crm =
            FakeCrm::start(move |_| Reply::status(status).header("location", target.clone())).await;
        let daemon = TestDaemon::over(&crm).await;
        let failure = daemon.find(find()).await.unwrap_err();
        assert_eq!(
            (failure.code(), details(&failure).reason.as_str()),
            (Code::Internal, "CRM_BAD_REPLY"),
            "{status}"
        );
        assert_eq!(crm.seen().len(), 1);
    }
    assert!(
        elsewhere.seen().is_empty(),
        "no credential was sent elsewhere"
    );
}

#[tokio::test]
async fn a_redirect_within_the_host_is_followed_a_few_times() {
    let crm = FakeCrm::start(|seen| match seen.path.as_str() {
        "/api/v1/contacts" => {
            Reply::status(308).header("location", format!("/moved?{}", seen.raw_query))
        }
        "/moved" => {
            Reply::json(json!({"contacts": [contact(1, "Ada", "+16505551234")], "next_page": null}))
        }
        _ => example(seen, &[]),
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let response = daemon.find(find()).await.unwrap();
    assert_eq!(names(&response), ["Ada"]);
    assert_eq!(response.lookup.unwrap().crm_requests, 3);

    crm.becomes(|_| Reply::status(302).header("location", "/again"));
    let failure = daemon
        .find(find().number("+16505550000"))
        .await
        .unwrap_err();
    assert_eq!(details(&failure).reason, "CRM_BAD_REPLY");
    assert_eq!(crm.seen().len(), 3 + 4, "a loop ends after three redirects");
}

#[tokio::test]
async fn a_redirect_without_or_with_an_ill_formed_target_is_a_bad_reply() {
    for target in [
        None,
        Some("http://["),
        Some("//evil.example/"),
        Some("file:///etc/passwd"),
    ] {
        let crm = FakeCrm::start(move |_| match target {
            Some(target) => Reply::status(302).header("location", target),
            None => Reply::status(302),
        })
        .await;
        let daemon = TestDaemon::over(&crm).await;
        assert_eq!(
            details(&daemon.find(find()).await.unwrap_err()).reason,
            "CRM_BAD_REPLY",
            "{target:?}"
        );
    }
}

#[tokio::test]
async fn hostile_host_names_are_refused_and_reach_nothing() {
    let trap = FakeCrm::with(vec![contact(1, "Mallory", "+16505551234")]).await;
    let port = trap.addr.port();
    let without_base = TestDaemon::start("[connectors.pipedrive]\nkind = \"pipedrive\"\n").await;
    let with_base = TestDaemon::with(&trap, "pipedrive", "").await;
    let hosts = [
        format!("127.0.0.1:{port}"),
        format!("acme.pipedrive.com@127.0.0.1:{port}"),
        format!("127.0.0.1:{port}#.pipedrive.com"),
        format!("127.0.0.1:{port}/.pipedrive.com"),
        format!("127.0.0.1:{port}?.pipedrive.com"),
        format!("127.0.0.1:{port}\\.pipedrive.com"),
        format!("localhost:{port}"),
        "acme.pipedrive.com:443".to_owned(),
        "user:password@acme.pipedrive.com".to_owned(),
        "https://acme.pipedrive.com".to_owned(),
        "acme.pipedrive.com/".to_owned(),
        "acme.pipedrive.com\r\nX-Evil: 1".to_owned(),
        "acme.pipedrive.com%00".to_owned(),
        "acme.pipedrive.com.".to_owned(),
        "127.0.0.1".to_owned(),
        "127.1".to_owned(),
        "2130706433".to_owned(),
        "0x7f000001".to_owned(),
        "0x7f.1".to_owned(),
        "0177.0.0.1".to_owned(),
        "[::1]".to_owned(),
        "[::ffff:127.0.0.1]".to_owned(),
        "169.254.169.254".to_owned(),
        "localhost".to_owned(),
        "pipedrive.com".to_owned(),
        "evilpipedrive.com".to_owned(),
        "acme-pipedrive.com".to_owned(),
        "acme.pipedrive.com.evil.example".to_owned(),
        "acme.pipedrive.co".to_owned(),
        "acme.pipedrive.com,evil.example".to_owned(),
        "acme\u{3002}pipedrive.com".to_owned(),
        "acme.pıpedrive.com".to_owned(),
    ];
    for host in &hosts {
        for daemon in [&without_base, &with_base] {
            let failure = daemon
                .find(find().platform("pipedrive").hostname(host))
                .await
                .unwrap_err();
            assert_eq!(failure.code(), Code::InvalidArgument, "{host:?}");
            assert_eq!(details(&failure).fields, ["user.hostname"], "{host:?}");
            assert!(
                !failure.message().contains("evil") && !failure.message().contains("127"),
                "{}",
                failure.message()
            );
        }
    }
    let failure = without_base
        .find(find().platform("pipedrive"))
        .await
        .unwrap_err();
    assert_eq!(
        details(&failure).fields,
        ["user.hostname"],
        "a host is required where there is no base_url"
    );
    assert!(trap.seen().is_empty());
}

#[tokio::test]
async fn the_base_url_decides_where_the_calls_go() {
    let crm = FakeCrm::start(|seen| {
        assert!(seen.path.starts_with("/sim/v9/"), "{}", seen.path);
        Reply::json(json!({"success": true, "data": {"items": []}}))
    })
    .await;
    let toml = format!(
        "[connectors.pipedrive]\nkind = \"pipedrive\"\nbase_url = \"{}/sim/v9/\"\n",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    daemon
        .find(find().platform("pipedrive").hostname("acme.pipedrive.com"))
        .await
        .unwrap();
    let paths: Vec<String> = crm.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/sim/v9/api/v2/persons/search"]);
}
