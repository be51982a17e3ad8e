//! No value leaves its place in a request of any embedded file.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::super::fill::SlotScope;
use super::super::name::Name;
use super::*;
use crate::domain::{Contact, E164, MatchQuality, Variant, Variants};

/// A request as it goes out, without the values.
#[derive(Debug, PartialEq)]
struct Shape {
    method: &'static str,
    origin: String,
    /// Fixed segments, and how many there are.
    segments: Vec<Option<String>>,
    parameters: Vec<String>,
    headers: Vec<String>,
    body: Option<Value>,
}

/// A JSON value whose texts and numbers are all alike.
fn shape_of(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(shape_of).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (key.clone(), shape_of(value)))
            .collect(),
        _ => Value::Null,
    }
}

/// The request with this text in every name that somebody else decides about. `None` if it is not
/// made.
fn rendered(
    (kind, file): (&str, &FileConnector),
    plan: &RequestPlan,
    session: &CrmSession,
    text: &str,
) -> Option<Shape> {
    let number = E164::parse("+16505550101", None).unwrap();
    let variants = Variants::new(&number, &file.profile.spellings, &[]);
    let spelled = Variant {
        text: text.to_owned(),
        ..variants.all()[0].clone()
    };
    let value = || Value::from(text);
    let inputs = &file.profile.inputs;
    let all = |names: &[String]| -> Map<String, Value> {
        names.iter().map(|name| (name.clone(), value())).collect()
    };
    let settings = Settings::new(to_struct(&all(&inputs.settings)));
    let info = filled_info(kind, &inputs.info, text);
    let info = AdditionalInfo::only(&to_struct(&info), &inputs.info);
    let contact = Contact {
        id: text.to_owned(),
        kept: file.plan.kept.iter().map(|_| value()).collect(),
        ..nobody()
    };
    let before = plan
        .slots()
        .into_iter()
        .filter_map(|slot| match &slot.name {
            Name::Before(name) => Some((name.clone(), Value::Array(vec![value()]))),
            _ => None,
        });
    let before: Vec<(String, Value)> = before.collect();
    let host = Host::parse("crm.example.com");
    let scope = SlotScope {
        host: host.as_ref(),
        numbers: &[&variants],
        at: Some(&spelled),
        settings: Some(&settings),
        info: Some(&info),
        each: plan.each.as_ref().map(|each| (each.name.as_str(), text)),
        before: &before,
        contacts: std::slice::from_ref(&contact),
        kept: &file.plan.kept,
        ..SlotScope::default()
    };
    let request = plan.render(&scope)?;
    let sent = session.outgoing(&request).ok()?;
    let fixed = plan.segments().iter().map(|segment| segment.literal());
    let path: Vec<&str> = sent.url.path_segments()?.collect();
    let own = path.iter().skip(1).enumerate();
    let fixed: Vec<Option<&str>> = fixed.collect();
    Some(Shape {
        method: request.method().name(),
        origin: sent.url.origin().ascii_serialization(),
        segments: own
            .map(|(n, segment)| {
                let is_fixed = fixed.get(n).is_none_or(Option::is_some);
                is_fixed.then(|| (*segment).to_owned())
            })
            .collect(),
        parameters: sent
            .url
            .query_pairs()
            .map(|(name, _)| name.into_owned())
            .collect(),
        headers: sent.headers.keys().map(ToString::to_string).collect(),
        body: request.json().map(shape_of),
    })
}

fn nobody() -> Contact {
    Contact {
        id: String::new(),
        kind: String::new(),
        name: String::new(),
        title: String::new(),
        company: String::new(),
        email: String::new(),
        created: String::new(),
        last_activity: String::new(),
        additional_info: Map::new(),
        quality: MatchQuality::Unverified,
        kept: Vec::new(),
    }
}

/// Values that would be another host, path, parameter, header or condition if they were not
/// encoded.
const HOSTILE: [&str; 20] = [
    "'",
    "\"",
    "\\",
    "' OR '1'='1",
    "#fragment",
    "&phone=",
    "?a=b",
    "\r\nX-Evil: 1",
    "../../deals",
    "..",
    "https://evil.example/",
    "//evil.example",
    "@evil.example",
    "%25%2e%2e",
    "%_*[a]",
    "javascript:alert(1)",
    "{{setting.x}}",
    ") OR (1=1",
    "}^ORname=a",
    "\u{0}\u{202e}",
];

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(HOSTILE.to_vec()).prop_map(str::to_owned),
        1 => "[a-z0-9 ]{0,6}",
        1 => "\\PC{1,4}",
    ];
    // A comma separates values where a file splits a setting.
    let joined = prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat());
    joined.prop_map(|text| text.replace([',', ';'], "."))
}

#[test]
fn every_request_of_every_file_is_rendered_for_some_value() {
    for (kind, file) in files() {
        let session = session(kind, &file);
        for plan in file.requests() {
            let made =
                ["abc", "/d/abc/edit"].map(|text| rendered((kind, &file), plan, &session, text));
            let is_made = made.iter().any(Option::is_some);
            assert!(is_made, "{kind}: {}", plan.title());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_value_leaves_its_place_in_any_request_of_any_file(hostile in hostile()) {
        for (kind, file) in files() {
            let session = session(kind, &file);
            for plan in file.requests() {
                for (harmless, hostile) in [
                    ("abc".to_owned(), hostile.clone()),
                    ("/d/abc/edit".to_owned(), format!("/d/{hostile}/edit")),
                ] {
                    let (Some(harmless), Some(came)) = (
                        rendered((kind, &file), plan, &session, &harmless),
                        rendered((kind, &file), plan, &session, &hostile),
                    ) else {
                        continue;
                    };
                    prop_assert_eq!(came, harmless, "{}: {} with {:?}", kind, plan.title(), hostile);
                }
            }
        }
    }
}
