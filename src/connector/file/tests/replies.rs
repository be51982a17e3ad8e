//! No reply does harm to any embedded file.

use proptest::prelude::*;
use serde_json::Value;

use super::super::fill::SlotScope;
use super::*;
use crate::connector::bounds;
use crate::connector::pages::PageReply;
use crate::connector::path::{NoNames, Path};

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
