//! Contacts whose fields are too long, too many or not what they should be.

use prost::Message as _;
use serde_json::{Value, json};

use super::{LIMITS, example_at};
use crate::support::crm::example;
use crate::support::daemon::{Changed as _, names};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find, refresh};

async fn answer_to(
    contacts: Vec<Value>,
    deals: Value,
) -> (TestDaemon, contactd::pb::v1::FindContactResponse) {
    let crm = FakeCrm::start(move |seen| match seen.path.as_str() {
        "/api/v1/contacts" => example(seen, &contacts),
        _ => Reply::json(json!({"deals": deals, "next_page": null})),
    })
    .await;
    // These tests are about what an answer holds, however long a busy machine takes for it.
    let patient = "[lookup]\ncall_timeout = \"30s\"\ntimeout = \"60s\"\n";
    let daemon = TestDaemon::start(&example_at(&crm.url()).replace(LIMITS, patient)).await;
    // Who presses refresh waits for all deals.
    let answer = daemon.find(refresh()).await.unwrap();
    (daemon, answer)
}

#[tokio::test]
async fn a_contact_with_a_name_of_three_megabytes_is_served_and_stored_cut() {
    let mut ada = contact(1, &"A".repeat(3_000_000), "+16505551234");
    ada["email"] = "e".repeat(500_000).into();
    ada["company"] = "c".repeat(100_000).into();
    let (daemon, answer) = answer_to(vec![ada], json!([])).await;
    let contact = &answer.matched_contact_info[0];
    assert_eq!(contact.name, format!("{}…", "A".repeat(511)));
    assert_eq!(
        (contact.company.chars().count(), contact.email.as_str()),
        (512, "")
    );
    assert!(
        answer.lookup.as_ref().unwrap().complete,
        "nothing that is needed is missing"
    );
    assert!(answer.encoded_len() < 3_000);
    assert!(daemon.metric("contactd_cache_bytes").await.unwrap() < 5_000.0);
}

#[tokio::test]
async fn a_contact_without_a_name_is_shown_by_its_company_or_its_address() {
    for name in [
        json!(null),
        json!(""),
        json!("  "),
        json!("\u{200b}\u{a0}"),
        json!("\t"),
        json!(false),
        json!({}),
        json!([]),
    ] {
        let mut fjord = contact(1, "", "+16505551234");
        (fjord["name"], fjord["company"], fjord["email"]) = (
            name.clone(),
            "Fjord Fittings".into(),
            "post@fjord.example".into(),
        );
        let mut post = fjord.clone();
        (post["id"], post["company"]) = (2.into(), name.clone());
        let mut nothing = post.clone();
        (nothing["id"], nothing["email"]) = (3.into(), json!(null));
        let (_daemon, answer) = answer_to(vec![fjord, post, nothing], json!([])).await;
        assert_eq!(
            names(&answer),
            ["Fjord Fittings", "post@fjord.example", ""],
            "{name}"
        );
        assert!(answer.lookup.unwrap().complete, "{name}");
    }
}

#[tokio::test]
async fn a_record_with_an_unusable_id_is_left_out() {
    let contacts = vec![
        json!({"id": "i".repeat(1_000_000), "name": "Mallory", "phones": [{"number": "+16505551234"}]}),
        json!({"id": "1\r\n2", "name": "Mallory", "phones": [{"number": "+16505551234"}]}),
        contact(2, "Ada", "+16505551234"),
    ];
    let (_daemon, answer) = answer_to(contacts, json!([])).await;
    assert_eq!(names(&answer), ["Ada"]);
    assert!(!answer.lookup.unwrap().complete);
}

#[tokio::test]
async fn fields_of_other_types_are_empty_and_harm_nothing() {
    for odd in [
        json!(null),
        json!(1.5e300),
        json!(true),
        json!([[["x"]]]),
        json!({"a": {"b": "c"}}),
        json!("\u{0}\u{1b}[2J"),
    ] {
        let contacts = vec![
            json!({"id": 1, "kind": odd, "name": odd, "title": odd, "company": odd, "email": odd,
            "created_at": odd, "phones": [{"number": "+16505551234"}, odd, {"number": odd}]}),
        ];
        let (_daemon, answer) = answer_to(contacts, json!([{"id": odd, "title": odd}, odd])).await;
        let contact = &answer.matched_contact_info[0];
        assert_eq!(contact.id, "1", "{odd}");
        assert!(
            !format!("{contact:?}").contains(['\u{0}', '\u{1b}']),
            "{odd}"
        );
    }
    for odd in [json!(null), json!(1), json!("text"), json!([]), json!({})] {
        let (_daemon, answer) = answer_to(
            vec![odd.clone(), contact(2, "Ada", "+16505551234")],
            json!([]),
        )
        .await;
        assert!(names(&answer).contains(&"Ada"), "{odd}");
    }
}

#[tokio::test]
async fn phone_fields_beyond_the_hundredth_and_text_beyond_256_bytes_are_not_compared() {
    let number = json!({"number": "+16505551234"});
    let after_others = |count: usize| {
        let mut phones = vec![json!({"number": "+12125550000"}); count];
        phones.push(number.clone());
        json!(phones)
    };
    let behind_text = |bytes: usize| json!([format!("{}+16505551234", "x".repeat(bytes))]);
    for (phones, is_found) in [
        (after_others(99), true),
        (after_others(100), false),
        (behind_text(256 - "+16505551234".len()), true),
        (behind_text(256), false),
    ] {
        let mut ada = contact(1, "Ada", "");
        ada["phones"] = phones;
        let (_daemon, answer) = answer_to(vec![ada], json!([])).await;
        let found: &[&str] = if is_found { &["Ada"] } else { &[] };
        assert_eq!(names(&answer), found);
    }
}

#[tokio::test]
async fn many_contacts_with_many_deals_stay_within_one_message() {
    let contacts: Vec<Value> = (0..30)
        .map(|n| contact(n, &"N".repeat(5_000), "+16505551234"))
        .collect();
    let deals: Vec<Value> = (0..3_000)
        .map(|n| json!({"id": n, "title": "t".repeat(1_000)}))
        .collect();
    let (_daemon, answer) = answer_to(contacts, deals.into()).await;
    assert_eq!(names(&answer).len(), 25, "lookup.max_contacts");
    assert!(!answer.lookup.as_ref().unwrap().complete);
    let bytes = answer.encoded_len();
    assert!(
        (300_000..1_000_000).contains(&bytes),
        "{bytes} bytes: below the 4 MB that clients take"
    );
}

#[tokio::test]
async fn a_page_of_phone_fields_that_take_long_to_compare_does_not_stop_others() {
    // Each text is read as 64 numbers, and there are 25,000 of them: seconds of work at several
    // microseconds each.
    let phone = json!({"number": "1,".repeat(64)});
    let phones = vec![phone; 100];
    let contacts: Vec<Value> = (0..250)
        .map(|n| json!({"id": n, "name": "M", "phones": phones}))
        .collect();
    let crm = FakeCrm::start(move |seen| match seen.param("phone") {
        Some("+16505551234") => example(seen, &contacts),
        _ => example(seen, &[contact(1, "Ada", "+16505550000")]),
    })
    .await;
    let daemon = TestDaemon::start(&example_at(&crm.url())).await;
    let hostile = daemon.find(find());
    let other = daemon.find(find().user("other").number("+16505550000"));
    let (hostile, other) = tokio::join!(hostile, other);
    assert_eq!(names(&other.unwrap()), ["Ada"]);
    // Nobody, or the time limit: whichever comes first on this machine.
    assert!(hostile.is_err() || names(&hostile.unwrap()).is_empty());
}
