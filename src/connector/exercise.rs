//! What must hold for any reply of a CRM, in every connector.

use std::sync::{Arc, LazyLock};

use encoding_rs::Encoding;
use serde_json::Value;

use super::built_in::{embedded, kinds};
use super::file::{FileConnector, Secrets, SpecKind, read_spec};
use super::path::{NoNames, Path};
use super::success::{ListForm, ListShape, is_true, next_number, next_text};
use super::{bounds, example, reply};
use crate::domain::error::BadReply;

/// Calls [`reply::read`].
///
/// # Errors
/// Those of [`reply::read`].
pub(crate) fn read_reply(
    body: Vec<u8>,
    declared: Option<&'static Encoding>,
    limit: usize,
) -> Result<Value, BadReply> {
    reply::read(body, declared, limit)
}

/// The embedded files, in the order of their names. The Example CRM has none.
static FILES: LazyLock<Vec<Option<Arc<FileConnector>>>> = LazyLock::new(|| {
    let file = |kind| read_spec(SpecKind::File, embedded(kind)?, Secrets::Any).ok();
    kinds().map(file).collect()
});

/// Reads a reply as the connector with this number does.
pub(crate) fn read_by_embedded_file(number: usize, reply: &Value) {
    match &FILES[number % FILES.len()] {
        Some(connector) => connector.read_in_every_way(reply),
        None => read_by_example(reply),
    }
}

fn read_by_example(reply: &Value) {
    for item in reply.as_array().into_iter().flatten().chain([reply]) {
        let mut record = example::record(item);
        if bounds::record(&mut record) {
            assert!(!record.contact.id.trim().is_empty());
        }
    }
    let at = Path::of_keys(&["data", "next"]);
    let _ = (
        next_text(reply, &at),
        next_number(reply, &at),
        is_true(reply, &at),
    );
    for shape in [
        ListShape::Objects,
        ListShape::Nullable,
        ListShape::One,
        ListShape::Table,
        ListShape::Loose,
    ] {
        let list = Path::of_keys(&["data"]);
        let Ok(entries) = (ListForm { list, shape }).entries(&mut reply.clone()) else {
            continue;
        };
        let size = |values: &[Value]| values.iter().map(size_of_tree).sum::<usize>();
        assert!(size(&entries.items) <= size_of_tree(reply) + entries.items.len() + 1);
    }
}

/// Values in a tree.
fn size_of_tree(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size_of_tree).sum(),
        Value::Object(members) => members.values().map(size_of_tree).sum::<usize>(),
        _ => 0,
    }
}

/// A path is written as it was read, visits each value at most once, and takes what it finds.
pub(crate) fn paths_are_sound(text: &str, value: &Value) {
    let dotted = Path::dotted(text);
    let found = dotted.get(value).cloned();
    assert_eq!(dotted.take(&mut value.clone()), found);
    let Ok(path) = Path::parse(text) else {
        return;
    };
    assert_eq!(Path::parse(&path.to_string()).as_ref(), Ok(&path));
    let all = path.all(value, &NoNames);
    assert!(all.len() <= size_of_tree(value));
    assert_eq!(path.first(value, &NoNames), all.first().copied());
    if let Ok(Some(there)) = path.strict(value) {
        assert_eq!(all, [there]);
    }
    let (list, below) = path.split_at_each();
    assert_eq!(list.is_whole() && below.is_none(), path.is_whole());
    let compared = path.to_string().matches('=').count();
    assert!(path.all_reached().len() <= 1 + compared);
    let mut rest = value.clone();
    if let Some(taken) = path.take(&mut rest).filter(|taken| !taken.is_null()) {
        assert_eq!(all, [&taken]);
    }
}
