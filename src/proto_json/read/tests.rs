use proptest::prelude::*;
use prost_reflect::Cardinality;
use serde_json::json;

use super::super::to_json;
use super::*;
use crate::pb::v1::{
    FindContactRequest, InvalidateContactsRequest, PrefetchContactsRequest, Trigger, User,
    invalidate_contacts_request::Scope,
};

fn find(text: &str) -> Result<FindContactRequest, JsonFault> {
    from_json(text.as_bytes())
}

fn fault(text: &str) -> (String, String) {
    let fault = find(text).expect_err(text);
    (fault.field, fault.what)
}

#[test]
fn a_request_is_read_with_the_names_of_json_and_of_the_proto() {
    for text in [
        r#"{"user":{"id":"7","accountId":"a","settings":{"on":{"value":true},"list":[1,"x",null]}},
            "authHeader":"Bearer x","phoneNumber":"+1","overridingFormats":["(##","*"],
            "isExtension":true,"trigger":"TRIGGER_MANUAL_REFRESH","onlyIfCached":null}"#,
        r#"{"user":{"id":"7","account_id":"a","settings":{"on":{"value":true},"list":[1.0,"x",null]}},
            "auth_header":"Bearer x","phone_number":"\u002b1","overriding_formats":["(##","*"],
            "is_extension":true,"trigger":2}"#,
    ] {
        let request = find(text).unwrap();
        let user = request.user.as_ref().unwrap();
        assert_eq!((&*user.id, &*user.account_id), ("7", "a"));
        assert_eq!(user.settings.as_ref().unwrap().fields.len(), 2);
        assert_eq!(request.phone_number, "+1");
        assert_eq!(request.overriding_formats, ["(##", "*"]);
        assert!(request.is_extension && !request.only_if_cached);
        assert_eq!(request.trigger(), Trigger::ManualRefresh);
    }
    assert_eq!(find("{}").unwrap(), FindContactRequest::default());
    let everything: InvalidateContactsRequest = from_json(br#"{"everything":true}"#).unwrap();
    assert_eq!(everything.scope, Some(Scope::Everything(true)));
}

#[test]
fn a_fault_names_the_field_and_says_what_it_must_be() {
    for (text, field, what) in [
        ("", "request", "is empty or ends too early"),
        (r#"{"user":"#, "request", "is empty or ends too early"),
        ("{]", "request", "is not JSON: line 1, column 2"),
        ("{} {}", "request", "is not JSON: line 1, column 4"),
        (
            "{\"user\":\n\"\u{1}\"}",
            "request",
            "is not JSON: line 2, column 2",
        ),
        ("null", "request", "must be an object"),
        ("[]", "request", "must be an object"),
        ("7", "request", "must be an object"),
        (r#"{"user":7}"#, "user", "must be an object"),
        (r#"{"user":{"id":7}}"#, "user.id", "must be a string"),
        (
            r#"{"phoneNumber":["+1"]}"#,
            "phone_number",
            "must be a string",
        ),
        (r#"{"phoneNumber":{}}"#, "phone_number", "must be a string"),
        (
            r#"{"isExtension":"true"}"#,
            "is_extension",
            "must be true or false",
        ),
        (
            r#"{"isExtension":1}"#,
            "is_extension",
            "must be true or false",
        ),
        (
            r#"{"trigger":"RING"}"#,
            "trigger",
            "must be the name of a value of contactd.v1.Trigger",
        ),
        (
            r#"{"trigger":1.5}"#,
            "trigger",
            "must be the name of a value of contactd.v1.Trigger",
        ),
        (
            r#"{"overridingFormats":"*"}"#,
            "overriding_formats",
            "must be a list",
        ),
        (
            r#"{"overridingFormats":["*",null]}"#,
            "overriding_formats[1]",
            "must be a string",
        ),
        (
            r#"{"overridingFormats":["*","*",7]}"#,
            "overriding_formats[2]",
            "must be a string",
        ),
        (
            r#"{"user":{"settings":[]}}"#,
            "user.settings",
            "must be an object",
        ),
        (
            r#"{"user":{"settings":{"a":{"b":1,"b":2}}}}"#,
            "user.settings",
            "has a name twice",
        ),
        (
            r#"{"user":{"id":"1","id":"2"}}"#,
            "user.id",
            "is given twice",
        ),
        (r#"{"user":null,"user":{}}"#, "user", "is given twice"),
        (
            r#"{"phoneNumber":"1","phone_number":"1"}"#,
            "phone_number",
            "is given twice",
        ),
        (
            r#"{"user":{"hostnam":"x"}}"#,
            "user.hostnam",
            "is not a field of contactd.v1.User",
        ),
        (
            r#"{"+16505551234":"x"}"#,
            "request",
            "has a field that contactd.v1.FindContactRequest does not have, with an unusual name",
        ),
    ] {
        assert_eq!(fault(text), (field.to_owned(), what.to_owned()), "{text}");
    }
    let both = from_json::<InvalidateContactsRequest>(br#"{"everything":false,"numbers":{}}"#);
    let both = both.unwrap_err();
    assert_eq!(
        (&*both.field, &*both.what),
        ("numbers", "contradicts everything: give one of them")
    );
    assert!(find("\u{feff}{}").is_err() && from_json::<User>(b"{\"id\":\"\xff\"}").is_err());
}

#[test]
fn depth_is_limited_wherever_it_is() {
    for (open, close) in [(r#"{"a":"#, "}"), (r#"{"a":["#, "]}")] {
        for levels in [25, 40, 100, 200, 100_000] {
            let (open, close) = (open.repeat(levels), close.repeat(levels));
            let text = format!(r#"{{"user":{{"settings":{open}1{close}}}}}"#);
            let deep = (
                "user.settings".to_owned(),
                "is nested too deeply".to_owned(),
            );
            assert_eq!(fault(&text), deep, "{levels}");
        }
        let text = format!(
            r#"{{"user":{{"settings":{}1{}}}}}"#,
            open.repeat(12),
            close.repeat(12)
        );
        assert!(find(&text).is_ok(), "{text}");
    }
    assert_eq!(fault(&"[".repeat(100_000)).1, "must be an object");
}

/// Half a million values of two bytes each would take half a gigabyte.
#[test]
fn values_without_end_are_refused_while_they_are_read() {
    let many = |value: &str, count: usize| vec![value; count].join(",");
    let settings = |count| {
        format!(
            r#"{{"user":{{"settings":{{"a":[{}]}}}}}}"#,
            many("0", count)
        )
    };
    let numbers = |count| format!(r#"{{"phoneNumbers":[{}]}}"#, many(r#""""#, count));
    let read = |text: String| from_json::<PrefetchContactsRequest>(text.as_bytes());
    assert!(read(settings(19_000)).is_ok() && read(numbers(10_000)).is_ok());
    for text in [settings(500_000), numbers(300_000)] {
        let refused = read(text).unwrap_err();
        assert_eq!(refused.what, "has more entries than any request may have");
    }
}

#[test]
fn every_kind_of_field_that_requests_have_is_read() {
    fn check(message: &MessageDescriptor) {
        for field in message.fields() {
            let is_read = match field.kind() {
                Kind::Bool | Kind::String | Kind::Enum(_) => true,
                Kind::Message(inner) if inner.full_name() == "google.protobuf.Struct" => true,
                Kind::Message(inner) => {
                    check(&inner);
                    !inner.full_name().starts_with("google.")
                }
                _ => false,
            };
            let is_plain = field.cardinality() != Cardinality::Required && !field.is_map();
            assert!(is_read && is_plain, "{}", field.full_name());
        }
    }
    let service = POOL.get_service_by_name("contactd.v1.ContactService");
    let service = service.expect("the descriptors are read");
    assert!(service.methods().len() >= 3);
    service.methods().for_each(|method| check(&method.input()));
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|on| json!(on)),
        any::<i32>().prop_map(|number| json!(number)),
        any::<i32>().prop_map(|number| json!(f64::from(number) / 4.0)),
        ".{0,8}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
            prop::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|fields| json!(fields)),
        ]
    })
}

fn object() -> impl Strategy<Value = serde_json::Value> {
    prop::collection::btree_map(".{0,6}", json_value(), 0..4).prop_map(|fields| json!(fields))
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        texts in prop::collection::vec(".{0,20}", 5),
        formats in prop::collection::vec(".{0,10}", 0..4),
        (is_extension, only_if_cached, create_option) in any::<(bool, bool, Option<bool>)>(),
        trigger in 0..4,
        settings in prop::option::of(object()),
    ) {
        let settings = settings.map(|settings| crate::domain::json::to_struct(settings.as_object().unwrap()));
        let request = FindContactRequest {
            user: Some(User {
                id: texts[0].clone(),
                platform: texts[1].clone(),
                region: texts[2].clone(),
                settings,
                ..User::default()
            }),
            auth_header: texts[3].clone(),
            phone_number: texts[4].clone(),
            overriding_formats: formats,
            is_extension,
            trigger,
            only_if_cached,
            create_option,
        };
        let text = to_json(&request).unwrap().to_string();
        prop_assert_eq!(find(&text).unwrap(), request);
    }

    /// As prost-reflect's own reader, which follows protobuf's conformance tests, reads it.
    #[test]
    fn what_is_accepted_means_what_the_reference_reads(value in object(), field in 0usize..7) {
        let names = ["user", "authHeader", "phone_number", "overridingFormats", "isExtension", "trigger", "unknown"];
        let text = json!({ names[field]: value["a"], "user": value }).to_string();
        let descriptor = POOL.get_message_by_name("contactd.v1.FindContactRequest").unwrap();
        let mut json = serde_json::Deserializer::from_str(&text);
        let reference = descriptor.deserialize(&mut json);
        if let Ok(request) = find(&text) {
            let reference = reference.unwrap().transcode_to::<FindContactRequest>().unwrap();
            prop_assert_eq!(request, reference);
        }
    }

    #[test]
    fn no_text_breaks_the_reader_and_no_fault_repeats_a_value(
        value in json_value(),
        secret in "[0-9]{12}",
        place in 0usize..6,
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let _ = from_json::<FindContactRequest>(&noise);
        let _ = from_json::<PrefetchContactsRequest>(value.to_string().as_bytes());
        let text = match place {
            0 => json!({ "user": secret }),
            1 => json!({ "trigger": secret }),
            2 => json!({ "isExtension": secret }),
            3 => json!({ "overridingFormats": { secret.as_str(): value } }),
            4 => json!({ secret.as_str(): value }),
            _ => json!({ "user": { secret.as_str(): value } }),
        };
        let refused = find(&text.to_string()).unwrap_err();
        prop_assert!(!format!("{refused:?}").contains(&secret), "{:?}", refused);
    }
}
