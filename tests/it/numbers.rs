//! Which texts are numbers, and which of them cost a CRM call.

use contactd::pb::v1::Source;
use tonic::Code;

use crate::support::daemon::{Changed as _, details, names};
use crate::support::{FakeCrm, TestDaemon, contact, find};

#[tokio::test]
async fn every_spelling_of_a_number_is_one_look_up() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "(650) 555-1234")]).await;
    let daemon = TestDaemon::over(&crm).await;
    for spelling in [
        "+16505551234",
        "+1 (650) 555-1234",
        "tel:+1-650-555-1234",
        "tel:+16505551234;ext=42",
        "+16505551234;ext=42",
        "650.555.1234",
        "011 1 650 555 1234",
        "sip:+16505551234@pbx.example.com",
        "sip:%2B16505551234@pbx.example",
        "<sip:+16505551234@10.0.0.5;user=phone>",
        "\"Room 12\" <sip:+16505551234@pbx.example>",
        "+16505551234@10.0.0.5",
        "+1\u{202f}650\u{200e}5551234",
    ] {
        let response = daemon
            .find(find().region("US").number(spelling))
            .await
            .unwrap();
        assert_eq!(names(&response), ["Ada"], "{spelling}");
        assert_eq!(response.lookup.unwrap().phone_number, "+16505551234");
    }
    assert_eq!(crm.searches(), 1);
    // Stored spellings are read by the region too, so it makes another question.
    let elsewhere = daemon
        .find(find().region("DE").number("00 1 650 5551234"))
        .await
        .unwrap()
        .lookup
        .unwrap();
    assert_eq!(
        (elsewhere.source(), elsewhere.phone_number.as_str()),
        (Source::Crm, "+16505551234")
    );
}

#[tokio::test]
async fn a_call_without_a_usable_number_gets_an_empty_answer_without_a_crm_call() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "(650) 555-1234")]).await;
    let daemon =
        TestDaemon::with(&crm, "example", "[lookup]\nwithheld = [\"Kein Anschluss\"]").await;
    let (withheld, service, part) = (
        "The caller withheld the number",
        "Short codes, such as emergency numbers, belong to no contact",
        "No complete telephone number came with the call",
    );
    for (number, message) in [
        ("anonymous", withheld),
        ("Restricted", withheld),
        ("", withheld),
        (" ", withheld),
        ("00000000", withheld),
        ("\"Anonymous\" <sip:anonymous@anonymous.invalid>", withheld),
        ("Out of Area", withheld),
        ("+86282452253", withheld),
        ("KEIN ANSCHLUSS", withheld),
        ("911", service),
        ("112", service),
        ("22000", service),
        ("7", service),
        ("+1555", part),
        ("5551234", part),
        ("+99912345678", part),
        ("+1650555\r\n1234567", part),
    ] {
        let response = daemon
            .find(find().region("US").number(number))
            .await
            .unwrap();
        assert!(response.matched_contact_info.is_empty(), "{number}");
        let shown = response.return_message.unwrap();
        assert_eq!(
            (shown.message.as_str(), shown.message_type.as_str()),
            (message, "warning"),
            "{number:?}"
        );
        assert!(
            !format!("{shown:?}").contains(number) || number.len() < 4,
            "{shown:?}"
        );
        assert_eq!(response.lookup.unwrap().source(), Source::Unspecified);
    }
    let national = daemon.find(find().number("650 555 1234")).await.unwrap();
    assert!(format!("{:?}", national.return_message).contains("user.region"));
    assert!(crm.seen().is_empty());
}

#[tokio::test]
async fn a_text_without_a_digit_or_a_known_word_is_refused_with_the_field_and_reaches_no_crm() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    for number in ["hello", "sip:alice@pbx.example", &"1".repeat(257)] {
        let status = daemon
            .find(find().region("US").number(number))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{number:?}");
        let details = details(&status);
        assert_eq!(
            (details.reason.as_str(), details.domain.as_str()),
            ("INVALID_REQUEST", "contactd")
        );
        assert_eq!(details.fields, ["phone_number"], "{number:?}");
        assert!(!status.message().contains(number), "{}", status.message());
    }
    assert!(crm.seen().is_empty());
}

#[tokio::test]
async fn an_extension_is_searched_only_in_a_crm_that_can() {
    let crm = FakeCrm::with(vec![contact(7, "Colleague", "+16505550000")]).await;
    let daemon = TestDaemon::start(&format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{url}\"\n\
         [connectors.pipedrive]\nkind = \"pipedrive\"\nbase_url = \"{url}\"\n",
        url = crm.url()
    ))
    .await;
    let mut extension = find().number("1042");
    extension.is_extension = true;

    let nobody = daemon
        .find(extension.clone().platform("pipedrive"))
        .await
        .unwrap();
    assert!(nobody.matched_contact_info.is_empty());
    assert!(
        nobody
            .return_message
            .unwrap()
            .message
            .contains("extensions")
    );
    assert!(crm.seen().is_empty());

    let found = daemon.find(extension.clone()).await.unwrap();
    assert_eq!(names(&found), ["Colleague"]);
    assert_eq!(found.lookup.unwrap().phone_number, "1042");
    assert_eq!(crm.seen()[0].param("extension"), Some("1042"));

    let status = daemon.find(extension.number("x1042")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_users_formats_are_searched_in_order_until_a_contact_is_found() {
    let crm = FakeCrm::start(|seen| {
        let hit = seen.param("phone") == Some("1 (650) 555-1234");
        let contacts = if hit {
            vec![contact(1, "Ada", "1 (650) 555-1234")]
        } else {
            vec![]
        };
        crate::support::crm::example(seen, &contacts)
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let formats = [
        "(###) ###-####",
        "",
        "no placeholder",
        "###-####",
        "##########-##",
        "(***) ***-****",
        "1 (***) ###-****",
        "+1.###.###.####",
    ];
    let response = daemon.find(find().formats(&formats)).await.unwrap();
    assert_eq!(names(&response), ["Ada"]);
    let searched: Vec<_> = crm
        .seen()
        .iter()
        .filter_map(|seen| seen.param("phone").map(str::to_owned))
        .collect();
    assert_eq!(
        searched,
        ["+16505551234", "(650) 555-1234", "1 (650) 555-1234"]
    );
    assert_eq!(
        response.lookup.unwrap().crm_requests,
        4,
        "three searches and the deals"
    );
}

#[tokio::test]
async fn search_texts_are_encoded_where_they_are_put() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon
        .find(find().formats(&["a&b=c %2B/ü?##########"]))
        .await
        .unwrap();
    let seen = crm.seen();
    assert!(
        seen[0].raw_query.starts_with("phone=%2B16505551234&"),
        "{}",
        seen[0].raw_query
    );
    assert_eq!(seen[1].param("phone"), Some("a&b=c %2B/ü?6505551234"));
    assert_eq!(seen[1].param("b"), None);
}

#[tokio::test]
async fn more_formats_than_anybody_has_are_refused() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    let status = daemon
        .find(find().formats(&["##########"; 17]))
        .await
        .unwrap_err();
    assert_eq!(details(&status).fields, ["overriding_formats"]);
}
