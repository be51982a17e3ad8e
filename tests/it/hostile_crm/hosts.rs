//! Where a name that a user gives may lead, and where a credential may go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use contactd::connector::Dns;
use serde_json::json;
use tonic::Code;

use super::example_at;
use crate::support::daemon::{Changed as _, details, names};
use crate::support::raw::{RawCrm, Said};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find};

const PIPEDRIVE: &str = "[connectors.pipedrive]\nkind = \"pipedrive\"\n";

/// Every name has these addresses, with the port of the trap.
fn leading_to(addresses: &'static [&'static str], port: u16) -> (Dns, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&asked);
    let dns = Dns::by(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            Ok(addresses
                .iter()
                .map(|text| (text.parse::<std::net::IpAddr>().unwrap(), port).into())
                .collect())
        }
    });
    (dns, asked)
}

#[tokio::test]
async fn a_users_host_that_leads_into_the_private_network_is_not_called() {
    let trap = RawCrm::over_tcp(Said::once("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")).await;
    for addresses in [
        &["127.0.0.1"][..],
        &["::ffff:127.0.0.1"],
        &["0.0.0.0", "127.0.0.2"],
        &["169.254.169.254"],
        &[
            "10.0.0.1",
            "192.168.0.1",
            "172.16.0.1",
            "100.64.0.1",
            "fd00:ec2::254",
            "fe80::1",
            "::1",
        ],
        &["64:ff9b::7f00:1", "2002:7f00:1::1", "2001:0:7f00:1::1"],
    ] {
        let (dns, asked) = leading_to(addresses, trap.addr.port());
        let daemon = TestDaemon::resolving(PIPEDRIVE, &dns).await;
        let failure = daemon
            .find(find().platform("pipedrive").hostname("acme.pipedrive.com"))
            .await
            .unwrap_err();
        let reason = details(&failure).reason;
        assert_eq!(
            (failure.code(), reason.as_str()),
            (Code::Unavailable, "CRM_UNAVAILABLE"),
            "{addresses:?}"
        );
        assert!(
            failure.message().contains("no public address"),
            "{failure:?}"
        );
        assert!(!format!("{failure:?}").contains("acme"), "{failure:?}");
        let resolved = asked.load(Ordering::Relaxed);
        assert!(
            (1..=2).contains(&resolved),
            "resolved for the search and for the call that asks whose credential it is, and no more"
        );
    }
    assert_eq!(trap.accepted(), 0);
}

#[tokio::test]
async fn a_base_url_may_lead_into_the_private_network() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let (dns, asked) = leading_to(&["127.0.0.1"], 0);
    let url = format!("http://crm.internal.example:{}", crm.addr.port());
    let daemon = TestDaemon::resolving(&example_at(&url), &dns).await;
    assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada"]);
    assert!(asked.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn a_name_that_is_nobodys_is_an_unavailable_crm() {
    let dns = Dns::by(|_| async { Err(std::io::ErrorKind::NotFound.into()) });
    let daemon = TestDaemon::resolving(PIPEDRIVE, &dns).await;
    let failure = daemon
        .find(find().platform("pipedrive").hostname("acme.pipedrive.com"))
        .await
        .unwrap_err();
    assert_eq!(details(&failure).reason, "CRM_UNAVAILABLE");
    let empty = Dns::by(|_| async { Ok(Vec::new()) });
    let daemon = TestDaemon::resolving(PIPEDRIVE, &empty).await;
    let failure = daemon
        .find(find().platform("pipedrive").hostname("acme.pipedrive.com"))
        .await
        .unwrap_err();
    assert_eq!(details(&failure).reason, "CRM_UNAVAILABLE");
}

#[tokio::test]
async fn no_link_or_redirect_takes_the_credential_elsewhere() {
    let trap = RawCrm::over_tcp(Said::once("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")).await;
    let port = trap.addr.port();
    let crm = FakeCrm::with(vec![]).await;
    let home = crm.addr.port();
    let daemon = TestDaemon::with(&crm, "clio", "").await;
    for target in [
        format!("http://127.0.0.1:{port}/api/v4/contacts.json?page=2"),
        format!("//127.0.0.1:{port}/"),
        format!("\\\\127.0.0.1:{port}\\"),
        format!("http:/\\127.0.0.1:{port}/"),
        format!("http://localhost:{home}/"),
        format!("https://127.0.0.1:{home}/"),
        format!("http://user@127.0.0.1:{home}/"),
        format!("http://user:password@127.0.0.1:{home}/"),
        format!("http://127.0.0.1:{home}@127.0.0.1:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("\t http://127.0.0.1:{port}/"),
        "file:///etc/passwd".to_owned(),
        "data:application/json,{}".to_owned(),
        "http://[".to_owned(),
    ] {
        let next = target.clone();
        crm.becomes(move |_| Reply::json(json!({"data": [], "meta": {"paging": {"next": next}}})));
        let failure = daemon
            .find(find().platform("clio").user(&format!("n{target}")))
            .await
            .unwrap_err();
        assert_eq!(details(&failure).reason, "CRM_BAD_REPLY", "{target}");
        assert!(!format!("{failure:?}").contains("127.0.0.1"), "{failure:?}");
        if !target.starts_with('\t') {
            let location = target.clone();
            crm.becomes(move |_| Reply::status(307).header("location", location.clone()));
            let failure = daemon
                .find(find().platform("clio").user(&format!("r{target}")))
                .await
                .unwrap_err();
            assert_eq!(details(&failure).reason, "CRM_BAD_REPLY", "{target}");
        }
    }
    assert_eq!(trap.accepted(), 0);
}

#[tokio::test]
async fn ids_and_cursors_of_a_crm_stay_within_their_path() {
    for id in [
        "../../admin",
        "..",
        "%2e%2e/x",
        "1/../../x",
        "1?a=b",
        "1#x",
        "//evil.example/",
        "\\\\evil.example\\",
    ] {
        let crm = FakeCrm::with(vec![
            json!({"id": id, "kind": "person", "name": "Ada", "phones": []}),
        ])
        .await;
        let daemon = TestDaemon::over(&crm).await;
        daemon.find(find()).await.unwrap();
        for seen in crm.seen() {
            assert!(
                seen.path.starts_with("/api/v1/contacts"),
                "{id}: {}",
                seen.path
            );
            assert!(
                seen.path == "/api/v1/contacts" || seen.path.ends_with("/deals"),
                "{id}: {}",
                seen.path
            );
        }
    }
}

#[tokio::test]
async fn a_crm_plants_no_cookie() {
    let crm = FakeCrm::start(|seen| {
        assert_eq!(seen.cookie, None);
        crate::support::crm::example(seen, &[]).header("set-cookie", "session=1; Path=/")
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    for number in ["+16505550001", "+16505550002"] {
        daemon.find(find().number(number)).await.unwrap();
    }
    assert_eq!(crm.seen().len(), 2);
}
