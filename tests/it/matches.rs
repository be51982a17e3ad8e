//! How sure a match is, where the stored numbers were typed, and extensions beside them.

use std::time::Duration;

use contactd::clock;
use contactd::pb::v1::prefetch_contacts_response::Event;
use contactd::pb::v1::{
    FindContactRequest, FindContactResponse, InvalidateContactsRequest, MatchQuality, PhoneNumbers,
    PrefetchContactsRequest, PrefetchOutcome, Source, User, invalidate_contacts_request::Scope,
};
use serde_json::json;
use tonic::Code;

use crate::support::crm::{example, person};
use crate::support::daemon::{Changed as _, names};
use crate::support::fleet::{redis_is, source};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find};

async fn daemon(crm: &FakeCrm, kind: &str, region: &str) -> TestDaemon {
    let url = crm.url();
    TestDaemon::start(&format!(
        "[connectors.{kind}]\nkind = \"{kind}\"\nbase_url = \"{url}\"\n{region}\n"
    ))
    .await
}

fn qualities(response: &FindContactResponse) -> Vec<MatchQuality> {
    let real = response
        .matched_contact_info
        .iter()
        .filter(|contact| !contact.is_new_contact);
    real.map(contactd::pb::v1::ContactInfo::match_quality)
        .collect()
}

#[tokio::test]
async fn likely_matches_stand_between_exact_and_unverified_ones_and_are_counted() {
    let crm = FakeCrm::with(vec![
        json!({"id": 1, "name": "No phone field", "phones": []}),
        contact(2, "Bare digits", "(207) 946-0018"),
        contact(3, "Sure", "020 7946 0018"),
        contact(4, "Somebody in Maine", "+1 207 946 0018"),
    ])
    .await;
    let daemon = daemon(&crm, "example", "region = \"GB\"").await;
    for _ in 0..2 {
        let response = daemon.find(find().number("+442079460018")).await.unwrap();
        assert_eq!(names(&response), ["Sure", "Bare digits", "No phone field"]);
        assert_eq!(
            qualities(&response),
            [
                MatchQuality::Exact,
                MatchQuality::Likely,
                MatchQuality::Unverified
            ]
        );
    }
    crm.becomes(|seen| example(seen, &[contact(2, "Bare digits", "(207) 946-0018")]));
    daemon
        .find(find().user("user-2").number("+442079460018"))
        .await
        .unwrap();
    crm.becomes(|seen| example(seen, &[]));
    daemon
        .find(find().user("user-3").number("+442079460018"))
        .await
        .unwrap();
    for (quality, count) in [("exact", 2.0), ("likely", 1.0), ("unverified", 0.0)] {
        let series = format!(
            "contactd_answers_by_quality_total{{platform=\"example\",quality=\"{quality}\"}}"
        );
        assert_eq!(daemon.metric(&series).await, Some(count), "{quality}");
    }
}

#[tokio::test]
async fn the_region_of_the_connector_reads_what_is_stored_and_the_users_what_is_called() {
    for (user, connector, number, stored, expected) in [
        (
            "GB",
            "region = \"US\"",
            "+552125550188",
            "(212) 555-0188",
            None,
        ),
        (
            "GB",
            "region = \"US\"",
            "+12125550188",
            "(212) 555-0188",
            Some(MatchQuality::Exact),
        ),
        (
            "US",
            "region = \"GB\"",
            "(207) 946-0018",
            "020 7946 0018",
            None,
        ),
        (
            "GB",
            "region = \"US\"",
            "020 7946 0018",
            "020 7946 0018",
            Some(MatchQuality::Likely),
        ),
        (
            "GB",
            "",
            "020 7946 0018",
            "020 7946 0018",
            Some(MatchQuality::Exact),
        ),
        (
            "",
            "",
            "+442079460018",
            "020 7946 0018",
            Some(MatchQuality::Likely),
        ),
        (
            "",
            "region = [\"US\", \"GB\"]",
            "+442079460018",
            "020 7946 0018",
            Some(MatchQuality::Exact),
        ),
        (
            "",
            "region = [\"DE\", \"IT\"]",
            "+49305551234",
            "030 5551234",
            Some(MatchQuality::Likely),
        ),
    ] {
        let crm = FakeCrm::with(vec![contact(1, "Ada", stored)]).await;
        let daemon = daemon(&crm, "example", connector).await;
        let response = daemon
            .find(find().region(user).number(number))
            .await
            .unwrap();
        assert_eq!(
            qualities(&response),
            expected.into_iter().collect::<Vec<_>>(),
            "{number} ~ {stored} [{connector}]"
        );
    }
}

#[tokio::test]
async fn a_format_that_finds_the_same_digits_elsewhere_shows_nobody() {
    let crm = FakeCrm::start(|seen| {
        let hit = seen.param("phone") == Some("(21) 2555-0188")
            || seen.param("phone") == Some("(212) 555-0188");
        let contacts = if hit {
            vec![contact(1, "New Yorker", "(212) 555-0188")]
        } else {
            vec![]
        };
        example(seen, &contacts)
    })
    .await;
    let daemon = daemon(&crm, "example", "region = \"US\"").await;
    let response = daemon
        .find(find().number("+552125550188").formats(&["(###) ###-####"]))
        .await
        .unwrap();
    assert!(names(&response).is_empty());
    assert_eq!(crm.searches(), 2, "the second one found somebody else");
}

#[tokio::test]
async fn both_forms_of_a_subscriber_are_searched() {
    for (kind, number, searched) in [
        (
            "example",
            "+5521987654321",
            ["+5521987654321", "+552187654321"],
        ),
        (
            "example",
            "+5215512345678",
            ["+5215512345678", "+525512345678"],
        ),
        ("pipedrive", "+22504123456", ["04123456", "0504123456"]),
    ] {
        let crm = FakeCrm::start(|seen| match seen.path.as_str() {
            "/api/v2/persons/search" if seen.param("term") == Some("0504123456") => {
                Reply::json(json!({"success": true, "data": {"items": [person(1, "Ada", &["05 04 12 34 56"])]}}))
            }
            "/api/v2/persons/search" => Reply::json(json!({"success": true, "data": {"items": []}})),
            "/api/v1/contacts" => match seen.param("phone").unwrap() {
                "+552187654321" => example(seen, &[contact(1, "Ada", "+55 21 8765-4321")]),
                "+525512345678" => example(seen, &[contact(1, "Ada", "+52 55 1234 5678")]),
                _ => example(seen, &[]),
            },
            _ => Reply::json(json!({"success": true, "data": [], "deals": []})),
        })
        .await;
        let daemon = daemon(&crm, kind, "region = \"CI\"").await;
        let response = daemon
            .find(find().platform(kind).number(number))
            .await
            .unwrap();
        assert_eq!(
            (names(&response), qualities(&response)),
            (vec!["Ada"], vec![MatchQuality::Exact]),
            "{number}"
        );
        let seen = crm.seen();
        let terms: Vec<_> = seen
            .iter()
            .filter_map(|seen| seen.param("phone").or(seen.param("term")))
            .collect();
        assert_eq!(terms, searched);
    }
}

fn colleagues() -> Vec<serde_json::Value> {
    vec![
        contact(1, "Three", "+1 503 555 0100 x3"),
        contact(2, "Front desk", "(503) 555-0100"),
        contact(3, "Two", "503-555-0100 ext. 2"),
        json!({"id": 4, "name": "No phone field", "phones": []}),
    ]
}

fn asked(extension: &str) -> FindContactRequest {
    find()
        .region("US")
        .number(&format!("+1 503 555 0100{extension}"))
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn the_extension_asked_for_ranks_the_contacts_of_one_stored_answer() {
    let crm = FakeCrm::with(colleagues()).await;
    let server = RedisServer::start().await;
    let toml = format!(
        "[redis]\nurl = \"{}\"\ntimeout = \"500ms\"\n\
         [connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\nregion = \"US\"\n",
        server.url(),
        crm.url()
    );
    let (first, second) = (
        TestDaemon::start(&toml).await,
        TestDaemon::start(&toml).await,
    );
    for daemon in [&first, &second] {
        // The first reading of the log empties memory once; it follows within milliseconds.
        redis_is(daemon, true).await;
        clock::sleep(Duration::from_millis(150)).await;
    }
    let plain = ["Three", "Front desk", "Two", "No phone field"];
    let two = ["Two", "Front desk", "Three", "No phone field"];
    let batch = PrefetchContactsRequest {
        user: asked("").user,
        auth_header: asked("").auth_header,
        phone_numbers: vec!["+15035550100".to_owned()],
        ..Default::default()
    };
    let mut events = first
        .client
        .clone()
        .prefetch_contacts(batch)
        .await
        .unwrap()
        .into_inner();
    while events.message().await.unwrap().is_some() {}
    for (daemon, from) in [
        (&first, Source::Memory),
        (&second, Source::Redis),
        (&second, Source::Memory),
    ] {
        let response = daemon.find(asked(";ext=2")).await.unwrap();
        assert_eq!(
            (names(&response).as_slice(), source(&response)),
            (&two[..], from)
        );
        assert!(response.matched_contact_info.last().unwrap().is_new_contact);
        assert!(response.lookup.unwrap().complete);
    }
    for daemon in [&first, &second] {
        assert_eq!(names(&daemon.find(asked("")).await.unwrap()), plain);
        assert_eq!(names(&daemon.find(asked(" x3")).await.unwrap()), plain);
        assert_eq!(names(&daemon.find(asked("x2")).await.unwrap()), two);
        assert_eq!(
            names(&daemon.find(asked("x9")).await.unwrap())[0],
            "Front desk"
        );
    }
    assert_eq!(crm.searches(), 1);
}

#[tokio::test]
async fn batches_and_invalidations_read_numbers_as_look_ups_do() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+1 650 555 1234")]).await;
    let daemon = daemon(&crm, "example", "region = \"US\"").await;
    let texts = [
        "<sip:+16505551234@10.0.0.5>",
        "Private Caller",
        "00000000",
        "911",
        "5551234",
        "hello",
        "+16505551234",
    ];
    let request = PrefetchContactsRequest {
        user: find().region("US").user,
        auth_header: find().auth_header,
        phone_numbers: texts.map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let mut events = daemon
        .client
        .clone()
        .prefetch_contacts(request)
        .await
        .unwrap()
        .into_inner();
    let mut results = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        if let Some(Event::Result(result)) = event.event {
            results.push((result.phone_number.clone(), result.outcome(), result.reason));
        }
    }
    let reason = |text: &str| {
        results
            .iter()
            .find(|(number, ..)| number == text)
            .map(|(_, what, why)| (*what, why.as_str()))
    };
    let invalid = |why| Some((PrefetchOutcome::InvalidNumber, why));
    assert_eq!(reason("+16505551234"), Some((PrefetchOutcome::Found, "")));
    assert_eq!(reason("Private Caller"), invalid("is withheld"));
    assert_eq!(reason("00000000"), invalid("is withheld"));
    assert_eq!(
        reason("911"),
        invalid("is a short code, such as an emergency number")
    );
    assert_eq!(
        reason("5551234"),
        invalid("is too short for a telephone number of its country")
    );
    assert_eq!(reason("hello"), invalid("is not a telephone number"));
    assert_eq!((results.len(), crm.searches()), (6, 1));

    let forget = |region: &str, text: &str| {
        let user = User {
            region: region.to_owned(),
            ..find().user.unwrap()
        };
        let scope = Some(Scope::Numbers(PhoneNumbers {
            phone_numbers: vec![text.to_owned()],
        }));
        let mut client = daemon.client.clone();
        async move {
            client
                .invalidate_contacts(InvalidateContactsRequest {
                    user: Some(user),
                    scope,
                })
                .await
        }
    };
    for harmless in ["anonymous", "5551234", "+1555"] {
        assert!(forget("US", harmless).await.is_ok(), "{harmless}");
    }
    for unread in [
        "6505551234",
        "hello",
        "+16505551234 +16505551235",
        "+16505551234,+16505551235",
        "650555123465055512356505551236",
    ] {
        assert_eq!(
            forget("", unread).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{unread}"
        );
    }
    assert_eq!(
        source(&daemon.find(find().region("US")).await.unwrap()),
        Source::Memory
    );
    assert!(
        forget("", "\"Ada\" <sip:+16505551234@pbx.example>")
            .await
            .is_ok()
    );
    assert_eq!(
        source(&daemon.find(find().region("US")).await.unwrap()),
        Source::Crm
    );
}
