//! Kamailio asks contactd who calls before a phone rings, and the call goes through in any case.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;

use super::sip::{Exchange, Invite};
use super::words;
use crate::deploy::repo;
use crate::support::ports::free_address;
use crate::support::program::Program;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, crm, eventually};

/// It came in time, and nothing in it comes from contactd.
fn is_unchanged(invite: &Invite, caller: &str) {
    let from = invite.header("From").unwrap();
    assert!(
        from.starts_with(&format!("\"Somebody\" <{caller}>;tag=")),
        "{from}"
    );
    assert_eq!(invite.header("Call-Info"), None);
    assert!(invite.took < 1.5, "{invite:?}");
}

#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn a_phone_shows_who_calls_as_the_page_says() {
    let daemon = Program::on_defaults(&[]).await;
    let exchange = Exchange::with(&daemon.grpc).await;
    let known = "sip:+15125373573@example.com";
    let _ = exchange.rings(known).await;
    let blocks = exchange.example().blocks("sh");
    let printed = words(&exchange.example().run(&blocks[4], &[]).await);
    // Tags differ, and lines of SIP end with a carriage return.
    let is_left_out = |c: char| c.is_ascii_digit() || matches!(c, '-' | '\r');
    let tagless = |text: &str| text.replace(is_left_out, "");
    let expected = &exchange.example().blocks("text")[0];
    assert_eq!(tagless(&printed), tagless(expected));

    let several = exchange.rings("sip:+16176850366@example.com").await;
    assert_eq!(several.shown(), "Radia Keller +3");
    let records = several.header("Call-Info").unwrap();
    assert_eq!(records.matches("contacts/").count(), 4, "{records}");

    for stranger in [
        "sip:+12067931283@example.com",
        "sip:anonymous@anonymous.invalid",
        "sip:alice@example.com",
    ] {
        is_unchanged(&exchange.rings(stranger).await, stranger);
    }
    let log = exchange.log();
    assert!(!log.contains("ERROR"), "{log}");
}

/// The caller must not read under which name they are stored: neither in replies nor in the BYE of
/// the phone.
#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn a_caller_does_not_see_their_name() {
    let crm = FakeCrm::with(vec![contact(1, "Never answer", "+15125373573")]).await;
    let daemon = TestDaemon::over(&crm).await;
    let exchange = Exchange::with(&format!("http://{}", daemon.grpc)).await;
    let invite = exchange.rings("sip:+15125373573@example.com").await;
    assert_eq!(invite.shown(), "Never answer");
    let of_caller = exchange.text("caller-15125373573.txt");
    assert!(
        of_caller.contains("\nBYE ") && of_caller.contains("180 Ringing"),
        "{of_caller}"
    );
    assert!(!of_caller.contains("Never answer"), "{of_caller}");
}

#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn the_identity_that_a_trunk_asserts_shows_the_name_too() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+15125373573")]).await;
    let daemon = TestDaemon::over(&crm).await;
    let exchange = Exchange::with(&format!("http://{}", daemon.grpc)).await;
    let scenario = exchange.example().path().join("call.xml");
    let plain = std::fs::read_to_string(&scenario).unwrap();
    for (identity, expected) in [
        (
            "<sip:+15125373573@trunk.example>",
            "\"Ada\" <sip:+15125373573@trunk.example>",
        ),
        (
            "<sip:+16505550000@trunk.example>",
            "<sip:+16505550000@trunk.example>",
        ),
    ] {
        let header = format!("P-Asserted-Identity: {identity}\nCall-Info:");
        std::fs::write(&scenario, plain.replace("Call-Info:", &header)).unwrap();
        // Each call has a log of its own.
        let caller = format!("sip:+15125373573@example.com;n={}", expected.len());
        let invite = exchange.rings(&caller).await;
        assert_eq!(invite.header("P-Asserted-Identity"), Some(expected));
    }
}

#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn with_a_shared_login_the_proxy_holds_no_credential() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+15125373573")]).await;
    let login = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(login.path(), "Bearer shared").unwrap();
    let credential = format!("credential = {{ file = {:?} }}", login.path());
    let url = crm.url();
    let daemon = TestDaemon::start(&format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{url}\"\n{credential}\n"
    ))
    .await;
    let contactd = format!("http://{}", daemon.grpc);
    let exchange = Exchange::without("authHeader", &contactd).await;
    let invite = exchange.rings("sip:+15125373573@example.com").await;
    assert_eq!(invite.shown(), "Ada");
    let mut logins = crm
        .seen()
        .into_iter()
        .map(|seen| seen.authorization.unwrap());
    assert!(logins.all(|login| login == "Bearer shared"));
}

#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn a_call_goes_through_in_time_if_the_crm_is_slow_and_has_its_name_the_next_time() {
    let found = |seen: &crm::Seen| crm::example(seen, &[contact(1, "Ada", "+15125373573")]);
    let slow = move |seen: &crm::Seen| found(seen).after(Duration::from_secs(2));
    let crm = FakeCrm::start(slow).await;
    let daemon = TestDaemon::over(&crm).await;
    let exchange = Exchange::with(&format!("http://{}", daemon.grpc)).await;
    let caller = "sip:+15125373573@example.com";
    let invite = exchange.rings(caller).await;
    is_unchanged(&invite, caller);
    assert!(invite.took > 0.8, "it waited for the name: {invite:?}");
    let log = exchange.log();
    assert!(
        log.contains("status 504") && !log.contains("does not answer"),
        "{log}"
    );
    crm.becomes(found);
    let mut names = Vec::new();
    for number in 0..20 {
        let again = exchange.rings(&format!("{caller};n={number}")).await;
        names.push(again.shown());
        if names.last().unwrap() == "Ada" {
            return;
        }
    }
    panic!("{names:?}");
}

#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn a_refused_look_up_is_logged_with_its_reason() {
    let crm = FakeCrm::start(|_| Reply::status(401)).await;
    let daemon = TestDaemon::over(&crm).await;
    let exchange = Exchange::with(&format!("http://{}", daemon.grpc)).await;
    let caller = "sip:+15125373573@example.com";
    is_unchanged(&exchange.rings(caller).await, caller);
    let log = exchange.log();
    assert!(log.contains("status 401 CRM_UNAUTHENTICATED"), "{log}");
    assert!(
        !log.contains("5125373573") && !log.contains("Bearer"),
        "{log}"
    );
}

/// Many phones ring at once while contactd takes connections and says nothing.
#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn calls_go_through_in_time_if_contactd_hangs() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let exchange = Exchange::with(&format!("http://{}", silent.local_addr().unwrap())).await;
    let caller = "sip:+15125373573@example.com";
    let output = exchange.call(caller, "burst.txt", "-m 40 -r 100").await;
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    exchange.rang(40).await;
    let first_of_each = |log: &str| {
        let mut seen = std::collections::BTreeMap::new();
        for (at, lines) in exchange.messages(log) {
            if lines[0].starts_with("INVITE ") {
                let id = lines.iter().find(|line| line.starts_with("Call-ID: "));
                seen.entry(id.unwrap().clone()).or_insert(at);
            }
        }
        seen
    };
    let (sent, received) = (first_of_each("burst.txt"), first_of_each("phone.txt"));
    assert_eq!(received.len(), 40);
    for (id, at) in received {
        assert!(at - sent[&id] < 1.8, "{id}: {}", at - sent[&id]);
    }
    // Later calls do not even wait.
    let later = exchange.rings("sip:+15125373574@example.com").await;
    is_unchanged(&later, "sip:+15125373574@example.com");
    assert!(later.took < 0.5, "{later:?}");
}

#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn a_call_goes_through_at_once_if_contactd_is_down() {
    let nobody = free_address();
    let exchange = Exchange::with(&format!("http://{nobody}")).await;
    let caller = "sip:+15125373573@example.com";
    let invite = exchange.rings(caller).await;
    is_unchanged(&invite, caller);
    assert!(invite.took < 0.5, "{invite:?}");
    assert!(exchange.log().contains("contactd does not answer"));
}

/// A caller who hangs up during the look-up is heard at once, and no phone rings.
#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn a_caller_who_hangs_up_during_the_look_up_makes_no_phone_ring() {
    let contactd =
        FakeCrm::start(|_| Reply::json(json!({})).after(Duration::from_millis(700))).await;
    let exchange = Exchange::with(&contactd.url()).await;
    let scenario = exchange.example().path().join("call.xml");
    std::fs::copy(repo("tests/it/examples/cancel.xml"), scenario).unwrap();
    let output = exchange
        .call("sip:+15125373573@example.com", "cancel.txt", "")
        .await;
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let messages = exchange.messages("cancel.txt");
    let at = |begin: &str| {
        messages
            .iter()
            .find(|(_, lines)| lines[0].starts_with(begin))
            .unwrap()
            .0
    };
    assert!(at("SIP/2.0 487") - at("CANCEL") < 0.4, "{messages:?}");
    // The look-up ends, and with it what is left of the call.
    eventually("the look-up ended", || {
        exchange.log().contains("transaction")
    })
    .await;
    assert!(exchange.messages("phone.txt").is_empty());
}
