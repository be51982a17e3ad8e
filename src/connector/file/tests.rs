//! What must hold for every embedded file: no value leaves its place in a request, and no reply does
//! harm.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::FileConnector;
use super::fill::SlotScope;
use super::name::Name;
use super::plan::{DetailsSource, RequestPlan};
use super::read::{Secrets, SpecKind, read_spec};
use crate::budget::{self, Budget};
use crate::clock::SystemClock;
use crate::connector::pages::PageReply;
use crate::connector::path::{NoNames, Path};
use crate::connector::{
    CallLimits, Connector, ConnectorConfig, CrmClient, CrmSession, Dns, HttpClients,
    IdentitySource, Platform, bounds, embedded, kinds,
};
use crate::domain::json::to_struct;
use crate::domain::user::{AdditionalInfo, Settings};
use crate::domain::{
    AuthHeader, Contact, E164, Host, KeyMaker, Lane, MatchQuality, User, Variant, Variants,
};
use crate::metrics::Metrics;
use crate::trace::Span;
use crate::urgency::Urgency;

/// Every embedded file.
fn files() -> impl Iterator<Item = (&'static str, Arc<FileConnector>)> {
    kinds().filter_map(|kind| {
        let connector = read_spec(SpecKind::File, embedded(kind)?, Secrets::Any);
        Some((kind, connector.expect(kind)))
    })
}

impl FileConnector {
    /// Every request of the file, those before others included.
    fn requests(&self) -> Vec<&RequestPlan> {
        let searches = self.plan.searches.iter().map(|search| &search.request);
        let details = self
            .plan
            .details
            .iter()
            .filter_map(|part| match &part.source {
                DetailsSource::Request(list) => Some(&list.request),
                DetailsSource::Fixed(_) => None,
            });
        let whoami = self.plan.whoami.iter().map(|whoami| &whoami.request);
        let all = searches.chain(details).chain(whoami);
        all.flat_map(|request| {
            let before = request.before.iter().map(|before| &before.request);
            before.chain([request])
        })
        .collect()
    }
}

/// A session at an address with a path, whatever the file says.
fn session(kind: &str, connector: &Arc<FileConnector>) -> CrmSession {
    let config = ConnectorConfig {
        name: "file".to_owned(),
        connector: Arc::clone(connector) as Arc<dyn Connector>,
        base_url: Some("https://crm.example.com/base".parse().unwrap()),
        allowed_hosts: Vec::new(),
        create_option: false,
        identity: IdentitySource::Crm,
        regions: Vec::new(),
        quotas: connector.profile().quotas,
    };
    let limits = CallLimits {
        call_timeout: Duration::from_secs(5),
        reply_bytes: 1 << 20,
        pages: 3,
        contacts: 25,
        concurrent_calls: 4,
    };
    let metrics = Arc::new(Metrics::default());
    let budgets = budget::BudgetConfig::default();
    let budget = Budget::new(config.quotas, &budgets, "file", &metrics, None);
    let client = CrmClient::new(
        HttpClients::new(&Dns::system()).unwrap().egress(true),
        limits,
        Arc::new(budget),
        Arc::new(SystemClock::start()),
        &metrics,
        &config,
    );
    let platform = Platform::new(config, client, KeyMaker::new([7; 16]));
    let inputs = &platform.profile().inputs;
    // A credential may be made of info; its values are not what is tried here.
    let info = filled_info(kind, &inputs.info, "x");
    let user = User {
        id: "1".to_owned(),
        account: String::new(),
        host: Host::parse("crm.example.com"),
        region: None,
        settings: Settings::default(),
        info: AdditionalInfo::only(&to_struct(&info), &inputs.info),
    };
    let auth = AuthHeader::parse("Bearer t0k3n").unwrap();
    let tag = platform.auth_tag(&user, &auth);
    let urgency = Arc::new(Urgency::new(Lane::CallPop, None));
    platform
        .session(&user, (&auth, tag), None, urgency, Span::default())
        .unwrap()
}

/// Fields of the info with this text, or with objects that have it where the file reads below them.
fn filled_info(kind: &str, names: &[String], text: &str) -> Map<String, Value> {
    let source = embedded(kind).unwrap();
    let value = |name: &String| {
        let below = source.split(&format!("info.{name}.")).nth(1);
        let key = below.and_then(|below| {
            below
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
        });
        match key {
            Some(key) => Value::Object(Map::from_iter([(key.to_owned(), text.into())])),
            None => text.into(),
        }
    };
    names
        .iter()
        .map(|name| (name.clone(), value(name)))
        .collect()
}

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

/// Values that would be another host, path, parameter, header or condition if they were not encoded.
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

/// The keys that a file reads in replies, so that generated replies have some of them.
fn keys_of(file: &FileConnector) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for search in &file.plan.searches {
        paths.extend(search.phones.iter().flatten().map(Path::to_string));
        paths.extend(search.record.slots().map(|slot| slot.name.to_string()));
    }
    for plan in file.requests() {
        paths.push(plan.list.list.to_string());
    }
    let is_key = |c: char| !(c.is_alphanumeric() || c == '_');
    let words = paths.iter().flat_map(|path| path.split(is_key));
    let mut words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    words.extend(["error", "next", "data"].map(str::to_owned));
    words.sort();
    words.dedup();
    words
}

/// Any JSON whose objects have keys with these numbers.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        Just(Value::from("+16505550101")),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        let members = prop::collection::vec((0_usize..64, inner.clone()), 0..10);
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Value::from),
            members.prop_map(|members| {
                let member = |(n, value): (usize, Value)| (n.to_string(), value);
                Value::Object(members.into_iter().map(member).collect())
            }),
        ]
    })
}

/// The same JSON with the keys of a file.
fn with_keys(value: &Value, keys: &[String]) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| with_keys(item, keys)).collect(),
        Value::Object(members) => {
            let member = |(n, value): (&String, &Value)| {
                let n: usize = n.parse().unwrap();
                (keys[n % keys.len()].clone(), with_keys(value, keys))
            };
            Value::Object(members.iter().map(member).collect())
        }
        value => value.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_reply_is_read_or_refused_by_every_file(reply in any_json()) {
        for (_, file) in files() {
            let reply = with_keys(&reply, &keys_of(&file));
            for search in &file.plan.searches {
                let mut body = reply.clone();
                let entries = search.request.list.entries(&mut body);
                let items = entries.map_or_else(|_| vec![reply.clone()], |entries| entries.items);
                for item in &items {
                    let mut record = search.record(&SlotScope::default(), item, &file.plan.kept);
                    if bounds::record(&mut record) {
                        prop_assert!(!record.contact.id.trim().is_empty());
                    }
                }
            }
            for plan in file.requests() {
                let Some(pager) = &plan.pager else { continue };
                let first = crate::connector::request::Request::get(&["a"], &[]);
                let page = PageReply { body: &reply, link: None, entries: 1 };
                // A page that cannot be determined is an error, and nothing else happens.
                let _ = pager.next(&first, page);
            }
            for part in &file.plan.details {
                if let DetailsSource::Request(list) = &part.source {
                    let choice = list.choice(&SlotScope::default(), &reply);
                    prop_assert!(choice.is_none_or(|choice| choice.is_object()));
                }
            }
            if let Some(whoami) = &file.plan.whoami {
                let _ = whoami.user.all(&reply, &NoNames);
            }
        }
    }
}
