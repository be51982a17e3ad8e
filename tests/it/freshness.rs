//! Fresh, stale, expired; found and absent; the three triggers.

use std::time::Duration;

use contactd::clock;
use contactd::pb::v1::{FindContactRequest, Freshness, Source, Trigger};
use tonic::Code;

use crate::support::crm::example;
use crate::support::daemon::{Changed as _, details, names};
use crate::support::fleet::answers;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find, refresh};

const AGES: &str = "[cache]\nfound = { fresh = \"10m\", stale = \"1h\" }\nabsent = { fresh = \"1m\", stale = \"5m\" }\n";

async fn ada() -> (FakeCrm, TestDaemon) {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::with(&crm, "example", AGES).await;
    (crm, daemon)
}

#[tokio::test]
async fn a_found_contact_is_fresh_then_stale_then_asked_for_again() {
    let (crm, daemon) = ada().await;
    daemon.find(find()).await.unwrap();
    daemon.clock.advance(Duration::from_secs(530));
    let lookup = daemon.find(find()).await.unwrap().lookup.unwrap();
    assert_eq!(
        (
            lookup.source(),
            lookup.freshness(),
            lookup.age.unwrap().seconds
        ),
        (Source::Memory, Freshness::Fresh, 530)
    );
    assert_eq!(crm.searches(), 1);

    crm.becomes(|seen| example(seen, &[contact(1, "Ada King", "+16505551234")]));
    daemon.clock.advance(Duration::from_secs(71));
    let stale = daemon.find(find()).await.unwrap();
    assert_eq!(names(&stale), ["Ada"]);
    assert_eq!(stale.lookup.unwrap().freshness(), Freshness::Stale);
    assert!(
        stale
            .return_message
            .unwrap()
            .message
            .contains("earlier look-up")
    );
    eventually("the stale answer is refreshed behind the caller", || {
        crm.searches() == 2
    })
    .await;
    let mut renewed = daemon.find(find()).await.unwrap();
    for _ in 0..100 {
        if names(&renewed) == ["Ada King"] {
            break;
        }
        contactd::clock::sleep(Duration::from_millis(10)).await;
        renewed = daemon.find(find()).await.unwrap();
    }
    assert_eq!(names(&renewed), ["Ada King"]);
    assert_eq!(renewed.lookup.unwrap().freshness(), Freshness::Fresh);

    daemon.clock.advance(Duration::from_secs(3600));
    let lookup = daemon.find(find()).await.unwrap().lookup.unwrap();
    assert_eq!(
        (lookup.source(), lookup.freshness()),
        (Source::Crm, Freshness::Fresh)
    );
}

#[tokio::test]
async fn absence_is_remembered_for_its_own_shorter_time() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::with(&crm, "example", AGES).await;
    for _ in 0..20 {
        assert!(names(&daemon.find(find()).await.unwrap()).is_empty());
    }
    assert_eq!(crm.searches(), 1);
    daemon.clock.advance(Duration::from_secs(300));
    crm.becomes(|seen| example(seen, &[contact(1, "Ada", "+16505551234")]));
    assert_eq!(
        names(&daemon.find(find()).await.unwrap()),
        ["Ada"],
        "expired, so the CRM was asked"
    );
}

#[tokio::test]
async fn a_stale_answer_is_served_while_the_crm_is_down_until_its_hard_end() {
    let (crm, daemon) = ada().await;
    daemon.find(find()).await.unwrap();
    crm.becomes(|_| Reply::status(500));
    daemon.clock.advance(Duration::from_secs(700));
    for _ in 0..5 {
        assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada"]);
    }
    eventually("a refresh was tried", || crm.searches() > 1).await;
    assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada"]);
    daemon.clock.advance(Duration::from_secs(2900));
    assert_eq!(
        daemon.find(find()).await.unwrap_err().code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn absence_is_proven_only_by_a_complete_reply_over_all_spellings() {
    let crm = FakeCrm::start(|seen| {
        if seen.param("phone") == Some("(650) 555-1234") {
            Reply::status(500)
        } else {
            example(seen, &[])
        }
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let request = find().formats(&["(###) ###-####"]);
    assert_eq!(
        daemon.find(request.clone()).await.unwrap_err().code(),
        Code::Unavailable
    );
    crm.becomes(|seen| {
        let hit = seen.param("phone") == Some("(650) 555-1234");
        example(
            seen,
            &if hit {
                vec![contact(1, "Ada", "(650) 555-1234")]
            } else {
                vec![]
            },
        )
    });
    assert_eq!(names(&daemon.find(request).await.unwrap()), ["Ada"]);
}

#[tokio::test]
async fn a_manual_refresh_replaces_and_removes() {
    let (crm, daemon) = ada().await;
    daemon.find(find()).await.unwrap();
    crm.becomes(|seen| example(seen, &[contact(1, "Ada King", "+16505551234")]));
    assert_eq!(names(&daemon.find(refresh()).await.unwrap()), ["Ada King"]);
    assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada King"]);
    crm.becomes(|seen| example(seen, &[]));
    assert!(names(&daemon.find(refresh()).await.unwrap()).is_empty());
    let gone = daemon.find(find()).await.unwrap();
    assert!(names(&gone).is_empty());
    assert_eq!(
        gone.lookup.unwrap().source(),
        Source::Memory,
        "what is gone is known to be gone"
    );
}

#[tokio::test]
async fn only_if_cached_makes_no_crm_call() {
    let (crm, daemon) = ada().await;
    let mut cached = find();
    cached.only_if_cached = true;
    let status = daemon.find(cached.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), details(&status).reason.as_str()),
        (Code::NotFound, "NOT_CACHED")
    );
    assert!(crm.seen().is_empty());
    daemon.find(find()).await.unwrap();
    let calls = || crm.seen().len() + crm.asked_who();
    let made = calls();
    daemon.clock.advance(Duration::from_secs(700));
    let stale = daemon.find(cached.clone()).await.unwrap();
    assert_eq!(stale.lookup.unwrap().freshness(), Freshness::Stale);
    // The trust in the credential ends soon: other look-ups would ask the CRM about it.
    daemon.clock.advance(Duration::from_secs(2200));
    for _ in 0..20 {
        daemon.find(cached.clone()).await.unwrap();
    }
    daemon.clock.advance(Duration::from_secs(1400));
    assert!(
        daemon.find(cached).await.is_err(),
        "an expired answer is none"
    );
    assert_eq!(calls(), made);
}

#[tokio::test]
async fn the_initial_match_takes_stored_answers_and_is_counted_as_such() {
    let (crm, daemon) = ada().await;
    let initial = FindContactRequest {
        trigger: Trigger::InitialMatch.into(),
        ..find()
    };
    assert_eq!(names(&daemon.find(initial.clone()).await.unwrap()), ["Ada"]);
    assert_eq!(
        daemon
            .find(initial.within(Duration::from_secs(5)))
            .await
            .unwrap()
            .lookup
            .unwrap()
            .source(),
        Source::Memory
    );
    assert_eq!(crm.searches(), 1);
    for (source, outcome) in [("crm", "found"), ("memory", "found")] {
        let series = format!(
            "contactd_lookups_total{{platform=\"example\",trigger=\"initial_match\",source=\"{source}\",outcome=\"{outcome}\"}}"
        );
        assert_eq!(daemon.metric(&series).await, Some(1.0), "{series}");
    }
}

#[tokio::test]
async fn a_refresh_that_takes_longer_than_the_soft_deadline_is_answered_with_what_is_stored_and_goes_on()
 {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::with(&crm, "example", "[lookup]\nsoft_deadline = \"200ms\"\n").await;
    crm.becomes(|seen| {
        example(seen, &[contact(1, "Ada", "+16505551234")]).after(Duration::from_millis(400))
    });
    assert_eq!(
        names(&daemon.find(refresh()).await.unwrap()),
        ["Ada"],
        "nothing is stored, so it waits"
    );
    crm.becomes(|seen| {
        example(seen, &[contact(1, "Ada King", "+16505551234")]).after(Duration::from_millis(600))
    });
    let earlier = daemon.find(refresh()).await.unwrap();
    assert_eq!(names(&earlier), ["Ada"]);
    assert_eq!(earlier.lookup.unwrap().freshness(), Freshness::Stale);
    answers(&daemon, "Ada King", Duration::from_secs(10)).await;
}

#[tokio::test]
async fn absence_that_was_found_again_is_fresh_for_twice_as_long() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::with(&crm, "example", AGES).await;
    daemon.find(find()).await.unwrap();
    daemon.clock.advance(Duration::from_secs(61));
    let again = daemon.find(find()).await.unwrap().lookup.unwrap();
    assert_eq!(
        (again.source(), again.freshness()),
        (Source::Crm, Freshness::Fresh),
        "the phone waits for news"
    );
    // Twice a minute, shortened by a tenth at most.
    daemon.clock.advance(Duration::from_secs(105));
    assert_eq!(
        daemon
            .find(find())
            .await
            .unwrap()
            .lookup
            .unwrap()
            .freshness(),
        Freshness::Fresh
    );
    assert_eq!(crm.searches(), 2);
}

#[tokio::test]
async fn after_a_failed_refresh_the_crm_is_left_alone_for_half_a_minute() {
    let (crm, daemon) = ada().await;
    daemon.find(find()).await.unwrap();
    crm.becomes(|_| Reply::status(500));
    daemon.clock.advance(Duration::from_secs(700));
    for round in 2..4 {
        daemon.find(find()).await.unwrap();
        eventually("a refresh is tried", || crm.searches() == round).await;
        for _ in 0..50 {
            clock::sleep(Duration::from_millis(10)).await;
            assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada"]);
        }
        assert_eq!(crm.searches(), round);
        daemon.clock.advance(Duration::from_secs(31));
    }
}

#[tokio::test]
async fn answers_of_one_moment_do_not_all_become_stale_at_once() {
    let crm = FakeCrm::start(crate::support::fleet::ada).await;
    let quota = "[connectors.example.quota]\nrate = 1000\nper = \"1s\"\nburst = 1000\n";
    let daemon = TestDaemon::with(&crm, "example", &format!("{AGES}{quota}")).await;
    let numbers: Vec<String> = (0..60).map(crate::support::fleet::number).collect();
    for number in &numbers {
        daemon.find(find().number(number)).await.unwrap();
    }
    // Ten minutes, shortened by up to a tenth.
    daemon.clock.advance(Duration::from_secs(570));
    let mut fresh = 0;
    for number in &numbers {
        let cached = FindContactRequest {
            only_if_cached: true,
            ..find().number(number)
        };
        fresh += usize::from(
            daemon
                .find(cached)
                .await
                .unwrap()
                .lookup
                .unwrap()
                .freshness()
                == Freshness::Fresh,
        );
    }
    assert!((5..=55).contains(&fresh), "{fresh} of 60 are fresh");
}
