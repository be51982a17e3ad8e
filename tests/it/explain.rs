//! `ExplainContact`: what it says of a number, and that it changes nothing and tells nobody else.

use std::time::Duration;

use contactd::pb::v1::{
    ExplainContactRequest, ExplainContactResponse, FindContactRequest, Freshness, Source, Trigger,
};
use tonic::{Code, IntoRequest, Request, Status};

use crate::clients::{sha256, with_token};
use crate::support::crm::{Seen, example, user_named};
use crate::support::daemon::{Changed as _, details, names};
use crate::support::fleet::{forget, replica, the_number};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find, refresh};

mod fronts;
mod live;
mod quota;

const AGES: &str = "[cache]\nadmitted = \"30m\"\nfound = { fresh = \"10m\", stale = \"1h\" }\nabsent = { fresh = \"1m\", stale = \"5m\" }\n";

/// A question to explain.
fn about(question: FindContactRequest, live: bool) -> ExplainContactRequest {
    ExplainContactRequest {
        question: Some(question),
        live,
    }
}

async fn ask(
    daemon: &TestDaemon,
    request: impl IntoRequest<ExplainContactRequest>,
) -> Result<ExplainContactResponse, Status> {
    let mut client = daemon.client.clone();
    let explained = client.explain_contact(request).await;
    explained.map(tonic::Response::into_inner)
}

async fn explain(daemon: &TestDaemon, question: FindContactRequest) -> ExplainContactResponse {
    ask(daemon, about(question, false)).await.unwrap()
}

fn standing(explained: &ExplainContactResponse) -> &str {
    &explained.credential.as_ref().unwrap().standing
}

fn seconds(duration: Option<prost_types::Duration>) -> i64 {
    duration.unwrap().seconds
}

/// A CRM that knows two tokens of one user, and somebody else's.
fn guarded(seen: &Seen) -> Reply {
    let owner = match seen.authorization.as_deref() {
        Some("Bearer token-1" | "Bearer token-2") => "ada",
        Some("Bearer others") => "eve",
        _ => return Reply::status(401),
    };
    if seen.asks_who() {
        return user_named(owner);
    }
    let phone = seen.param("phone").unwrap_or_default().to_owned();
    example(seen, &[contact(1, "Ada", &phone)])
}

#[tokio::test]
async fn the_decision_is_what_the_next_look_up_does() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::with(&crm, "example", AGES).await;
    let cached = || FindContactRequest {
        only_if_cached: true,
        ..find()
    };
    let decided = async |question| {
        let explained = explain(&daemon, question).await;
        (explained.decision, explained.because)
    };
    let (decision, because) = decided(find()).await;
    assert_eq!(decision, "ask_crm");
    assert!(
        because.contains("has not accepted this credential"),
        "{because}"
    );
    assert_eq!(decided(cached()).await.0, "refuse");
    assert_eq!(
        daemon.find(cached()).await.unwrap_err().code(),
        Code::NotFound
    );

    let found = daemon.find(find()).await.unwrap();
    assert_eq!(found.lookup.unwrap().source(), Source::Crm);
    assert_eq!(decided(find()).await.0, "serve_fresh");
    assert_eq!(decided(refresh()).await.0, "ask_crm");
    let (decision, because) = decided(find().number("+16502000000")).await;
    assert_eq!(decision, "ask_crm");
    assert!(because.contains("Nothing is stored"), "{because}");
    let lookup = daemon.find(find()).await.unwrap().lookup.unwrap();
    assert_eq!(lookup.freshness(), Freshness::Fresh);

    daemon.clock.advance(Duration::from_secs(700));
    assert_eq!(decided(cached()).await.0, "serve_stale");
    let (decision, because) = decided(find()).await;
    assert_eq!(decision, "serve_stale");
    assert!(because.contains("refreshed in the background"), "{because}");
    let lookup = daemon.find(find()).await.unwrap().lookup.unwrap();
    assert_eq!(lookup.freshness(), Freshness::Stale);

    // Trust is counted from the refresh on.
    eventually("the stale answer is refreshed", || crm.searches() == 2).await;
    daemon.clock.advance(Duration::from_secs(1_900));
    let (decision, because) = decided(find().number("+16502000000")).await;
    assert_eq!(decision, "ask_crm");
    assert!(because.contains("cache.admitted"), "{because}");
}

#[tokio::test]
async fn a_ringing_phone_waits_for_news_about_a_stale_nobody_unless_the_crm_is_down() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::with(&crm, "example", AGES).await;
    daemon.find(find()).await.unwrap();
    daemon.clock.advance(Duration::from_secs(61));
    assert_eq!(explain(&daemon, find()).await.decision, "wait_for_crm");
    let initial = FindContactRequest {
        trigger: Trigger::InitialMatch.into(),
        ..find()
    };
    assert_eq!(
        explain(&daemon, initial.clone()).await.decision,
        "serve_stale"
    );

    crm.becomes(|_| Reply::status(500));
    let searches = crm.searches();
    daemon.find(initial).await.unwrap();
    eventually("its refresh has failed", || crm.searches() > searches).await;
    let mut explained = explain(&daemon, find()).await;
    for _ in 0..200 {
        if explained.decision == "serve_stale" {
            break;
        }
        contactd::clock::sleep(Duration::from_millis(10)).await;
        explained = explain(&daemon, find()).await;
    }
    assert_eq!(explained.decision, "serve_stale");
    assert!(
        explained.because.contains("failed a moment ago"),
        "{}",
        explained.because
    );
}

#[tokio::test]
async fn a_text_is_read_as_a_look_up_reads_it() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    let extension = FindContactRequest {
        is_extension: true,
        ..find().number("1042")
    };
    for (question, reading, number) in [
        (find(), "number", "+16505551234"),
        (
            find().number("(650) 555-1234").region("US"),
            "number",
            "+16505551234",
        ),
        (
            find().number("sip:+16505551234@pbx.example"),
            "number",
            "+16505551234",
        ),
        (extension, "extension", "1042"),
        (find().number("anonymous"), "withheld", ""),
        (find().number("911").region("US"), "short_code", ""),
        (find().number("+1650"), "number", ""),
    ] {
        let shown = question.phone_number.clone();
        let explained = explain(&daemon, question).await;
        let read = (explained.reading.as_str(), explained.phone_number.as_str());
        assert_eq!(read, (reading, number), "{shown}");
        if number.is_empty() {
            assert_eq!(explained.decision, "refuse", "{shown}");
            assert!(explained.spellings.is_empty() && explained.quota.is_none());
        } else {
            assert!(!explained.spellings.is_empty(), "{shown}");
        }
        assert!(explained.because.ends_with('.'), "{}", explained.because);
    }
    assert!(crm.seen().is_empty());
}

#[tokio::test]
async fn spellings_are_in_the_order_that_the_account_has_taught() {
    let crm = FakeCrm::start(|seen| {
        let text = seen.param("phone").unwrap_or_default().to_owned();
        let is_local = text.starts_with('(');
        let found = is_local.then(|| contact(1, "Ada", &text));
        example(seen, &found.into_iter().collect::<Vec<_>>())
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let question = |number: &str| {
        find()
            .number(number)
            .region("US")
            .formats(&["(###) ###-####"])
    };
    let before = explain(&daemon, question("+16502000000")).await;
    assert_eq!(before.spellings, ["+16502000000", "(650) 200-0000"]);
    // The first answer also tells whose account it is.
    for number in ["+16505551234", "+16505551235"] {
        daemon.find(question(number)).await.unwrap();
    }
    let after = explain(&daemon, question("+16502000000")).await;
    assert_eq!(after.spellings, ["(650) 200-0000", "+16502000000"]);
    let asked = crm.searches();
    daemon.find(question("+16502000000")).await.unwrap();
    assert_eq!(crm.searches(), asked + 1, "that one is asked for first");
}

#[tokio::test]
async fn memory_shows_count_completeness_and_ages() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::with(&crm, "example", AGES).await;
    daemon.find(find()).await.unwrap();
    daemon.clock.advance(Duration::from_secs(100));
    let explained = explain(&daemon, find()).await;
    let [stored] = explained.stored.as_slice() else {
        panic!("{:?}", explained.stored)
    };
    assert_eq!(
        (
            stored.tier(),
            stored.match_count,
            stored.complete,
            stored.freshness()
        ),
        (Source::Memory, 1, true, Freshness::Fresh)
    );
    let [age, fresh, served] = [stored.age, stored.fresh_for, stored.served_for].map(seconds);
    assert_eq!(age, 100);
    // A life is shortened by up to a tenth, so that not all end together.
    assert!(
        (440..=500).contains(&fresh) && (3140..=3500).contains(&served),
        "{stored:?}"
    );

    daemon.clock.advance(Duration::from_secs(600));
    let stale = explain(&daemon, find()).await.stored[0];
    assert_eq!(stale.freshness(), Freshness::Stale);
    assert_eq!((seconds(stale.age), seconds(stale.fresh_for)), (700, 0));
    assert_eq!(seconds(stale.served_for), served - 600);
}

#[tokio::test]
async fn an_explanation_changes_no_answer_no_age_and_no_figure() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::with(&crm, "example", AGES).await;
    daemon.find(find()).await.unwrap();
    daemon.clock.advance(Duration::from_secs(700));
    let calls = (crm.seen().len(), crm.asked_who());
    let (_, before) = daemon.page("/metrics").await;
    for question in [
        find(),
        refresh(),
        find().number("+16502000000"),
        find().auth("Bearer new"),
    ] {
        explain(&daemon, question.clone()).await;
        explain(&daemon, question).await;
    }
    assert_eq!((crm.seen().len(), crm.asked_who()), calls);
    let (_, after) = daemon.page("/metrics").await;
    let counted = |page: &str| {
        let lines = page.lines().filter(|line| {
            [
                "contactd_lookups",
                "contactd_cache_requests",
                "contactd_crm",
                "contactd_quota",
            ]
            .iter()
            .any(|family| line.starts_with(family))
        });
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(counted(&before), counted(&after));
    let lookup = daemon.find(find()).await.unwrap().lookup.unwrap();
    assert_eq!(
        (lookup.source(), lookup.freshness(), seconds(lookup.age)),
        (Source::Memory, Freshness::Stale, 700)
    );
}

#[tokio::test]
async fn without_proof_nothing_stored_is_shown_or_hinted_at() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::with(&crm, "example", AGES).await;
    daemon.find(find()).await.unwrap();
    assert_eq!(standing(&explain(&daemon, find()).await), "proven");
    let same_for_all = async |auth: &str, expected: &str| {
        let of = |number: &str| find().number(number).auth(auth);
        let stored = explain(&daemon, of("+16505551234")).await;
        let other = explain(&daemon, of("+16502000000")).await;
        assert_eq!(standing(&stored), expected);
        assert!(stored.stored.is_empty());
        let hint = "before anything stored is returned";
        assert!(stored.because.contains(hint), "{}", stored.because);
        assert_eq!(
            (&stored.decision, &stored.because, &stored.quota),
            (&other.decision, &other.because, &other.quota),
            "whether something is stored makes no difference"
        );
    };
    same_for_all("Bearer token-2", "unknown").await;
    same_for_all("Bearer false", "unknown").await;
    same_for_all("Bearer others", "unknown").await;

    // Somebody else's credential is proven by its own look-up, and sees nothing of this user's.
    daemon
        .find(find().number("+16502000001").auth("Bearer others"))
        .await
        .unwrap();
    let others = explain(&daemon, find().auth("Bearer others")).await;
    assert_eq!((standing(&others), others.stored.len()), ("proven", 0));
    assert!(others.credential.unwrap().identity_known);
    assert!(
        others.because.contains("Nothing is stored"),
        "{}",
        others.because
    );

    daemon.clock.advance(Duration::from_secs(1_900));
    same_for_all("Bearer token-1", "lapsed").await;
    crm.becomes(|_| Reply::status(401));
    assert!(daemon.find(find()).await.is_err());
    same_for_all("Bearer token-1", "unknown").await;
}

#[tokio::test]
async fn an_identity_that_the_crm_does_not_name_is_not_known() {
    let crm = FakeCrm::start(|seen| {
        if seen.asks_who() {
            Reply::status(404)
        } else {
            guarded(seen)
        }
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    let explained = explain(&daemon, find()).await;
    let credential = explained.credential.unwrap();
    assert_eq!(
        (credential.standing.as_str(), credential.identity_known),
        ("proven", false)
    );
    assert_eq!(explained.stored.len(), 1);
}

#[tokio::test]
async fn only_clients_that_may_look_up_may_have_it_explained() {
    let crm = FakeCrm::start(guarded).await;
    let token = |name: &str, more: &str| {
        format!(
            "{{ name = \"{name}\", sha256 = \"{}\"{more} }}",
            sha256(name)
        )
    };
    let tokens = [
        token("pbx", ""),
        token("others", ", platforms = [\"pipedrive\"]"),
    ];
    let settings = format!(
        "[grpc]\ntokens = [{}]\n[connectors.pipedrive]\nkind = \"pipedrive\"\n",
        tokens.join(", ")
    );
    let daemon = TestDaemon::with(&crm, "example", &settings).await;
    for (header, live, refused) in [
        (
            None,
            false,
            Some((Code::Unauthenticated, "CALLER_UNAUTHENTICATED")),
        ),
        (
            Some("Bearer others"),
            false,
            Some((Code::PermissionDenied, "CALLER_FORBIDDEN")),
        ),
        (
            Some("Bearer others"),
            true,
            Some((Code::PermissionDenied, "CALLER_FORBIDDEN")),
        ),
        (Some("Bearer pbx"), false, None),
    ] {
        let request = match header {
            Some(header) => with_token(header, about(find(), live)),
            None => Request::new(about(find(), live)),
        };
        let refusal = ask(&daemon, request).await.err();
        let refusal = refusal.map(|status| (status.code(), details(&status).reason));
        let refused = refused.map(|(code, reason)| (code, reason.to_owned()));
        assert_eq!(refusal, refused, "{header:?}");
    }
    assert!(crm.seen().is_empty());
    for reason in ["caller_unauthenticated", "caller_forbidden"] {
        let series = format!("contactd_calls_refused_total{{reason=\"{reason}\"}}");
        assert!(daemon.metric(&series).await >= Some(1.0), "{reason}");
    }
}

#[tokio::test]
async fn a_question_that_is_wrong_is_refused_with_its_field() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::over(&crm).await;
    let cached = FindContactRequest {
        only_if_cached: true,
        ..find()
    };
    for (request, field) in [
        (ExplainContactRequest::default(), "question.user"),
        (
            about(find().platform("nobody"), false),
            "question.user.platform",
        ),
        (
            about(find().number("hello"), false),
            "question.phone_number",
        ),
        (about(find().auth(""), true), "question.auth_header"),
        (about(find().region("XX"), false), "question.user.region"),
        (about(cached, true), "question.only_if_cached"),
    ] {
        let status = ask(&daemon, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(details(&status).fields, [field]);
    }
    assert!(crm.seen().is_empty());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn both_tiers_are_shown_and_an_explanation_copies_nothing_between_them() {
    let server = RedisServer::start().await;
    let crm = FakeCrm::start(guarded).await;
    let more = format!("timeout = \"500ms\"\n{AGES}");
    let [one, two] = [
        replica(&crm, &server.url(), &more).await,
        replica(&crm, &server.url(), &more).await,
    ];
    one.find(find()).await.unwrap();
    let tiers = |explained: &ExplainContactResponse| {
        let tiers = explained.stored.iter().map(|stored| stored.tier());
        tiers.collect::<Vec<_>>()
    };
    let explained = explain(&one, find()).await;
    assert_eq!(tiers(&explained), [Source::Memory, Source::Redis]);
    for stored in &explained.stored {
        let [age, fresh, served] = [stored.age, stored.fresh_for, stored.served_for].map(seconds);
        assert_eq!((stored.match_count, stored.complete), (1, true));
        assert_eq!(stored.freshness(), Freshness::Fresh);
        assert!(age < 30 && (500..=600).contains(&fresh), "{stored:?}");
        assert!((3200..=3600).contains(&served), "{stored:?}");
    }
    for _ in 0..2 {
        // The other replica knows the credential from Redis, and has nothing in memory.
        let explained = explain(&two, find()).await;
        assert_eq!(
            (standing(&explained), tiers(&explained)),
            ("proven", vec![Source::Redis])
        );
        assert_eq!(explained.decision, "serve_fresh");
    }
    let answer = two.find(find()).await.unwrap();
    assert_eq!(answer.lookup.as_ref().unwrap().source(), Source::Redis);
    assert_eq!(names(&answer), ["Ada"]);

    forget(&one, the_number()).await.unwrap();
    let explained = explain(&one, find()).await;
    assert_eq!(
        (tiers(&explained), explained.decision.as_str()),
        (vec![], "ask_crm")
    );
    let calls = (crm.searches(), crm.asked_who());
    assert_eq!(calls, (1, 1));
    assert_eq!(
        explain(&two, find().auth("Bearer token-2")).await.stored,
        []
    );
}
