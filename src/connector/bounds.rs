//! How much of a record is taken over into an answer.
//!
//! What a CRM stores about a contact is other people's typing, and it ends on a screen, in the cache and in Redis. So
//! every field has a limit, and what happens to a longer one depends on what it is: a text to be read is cut, an address
//! or a time is left out (a part of it would be another one), a record without a usable id is left out as a whole.
//! Control characters become spaces, because answers are printed on terminals too.

use serde_json::{Map, Value};

use super::Record;
use crate::domain::Contact;

/// Longest text that is shown, in characters: names, job titles, companies, titles of deals.
const SHOWN: usize = 512;

/// Longest id, in bytes.
const ID: usize = 256;

/// Longest e-mail address, in bytes (RFC 5321: 64 before the @, 255 after it).
const EMAIL: usize = 320;

/// Longest time or kind of record, in bytes.
const WORD: usize = 64;

/// Phone fields of one record that are compared. Each costs some microseconds.
const PHONES: usize = 100;

/// Bytes of all choices in one answer, as text: with 25 contacts an answer stays below the 4 MB that gRPC clients
/// take by default.
pub(super) const CHOICES: usize = 512 * 1024;

/// The record as it may be served, unless it has to be left out.
pub(super) fn record(mut record: Record) -> Option<Record> {
    if !is_word(&record.contact.id, ID) {
        return None;
    }
    record.phones.truncate(PHONES);
    let Contact { name, kind, title, company, email, created, last_activity, .. } = &mut record.contact;
    for text in [name, title, company] {
        show(text);
    }
    for (word, limit) in [(kind, WORD), (email, EMAIL), (created, WORD), (last_activity, WORD)] {
        if !is_word(word, limit) {
            word.clear();
        }
    }
    Some(record)
}

/// Bounds the choices of one contact in place, within what is left of `room` for the whole answer. False where some had
/// to be left out.
pub(super) fn choices(info: &mut Map<String, Value>, room: &mut usize) -> bool {
    let mut complete = true;
    for list in info.values_mut() {
        let Value::Array(choices) = list else {
            *list = Value::Array(Vec::new());
            complete = false;
            continue;
        };
        choices.retain_mut(|choice| {
            let kept = choice_is_usable(choice) && take(room, size(choice));
            complete &= kept;
            kept
        });
    }
    info.retain(|_, list| list.as_array().is_some_and(|choices| !choices.is_empty()));
    complete
}

/// A choice is an object of scalars, told apart by its `const`.
fn choice_is_usable(choice: &mut Value) -> bool {
    let Value::Object(members) = choice else { return false };
    members.iter_mut().all(|(name, value)| match value {
        Value::String(id) if name == "const" => is_word(id, ID),
        Value::Array(_) | Value::Object(_) if name == "const" => false,
        Value::Array(_) | Value::Object(_) => {
            *value = Value::Null;
            true
        }
        Value::String(text) => {
            show(text);
            true
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    })
}

/// Roughly, in bytes.
fn size(choice: &Value) -> usize {
    let members = choice.as_object().into_iter().flatten();
    members.map(|(name, value)| name.len() + 16 + value.as_str().map_or(0, str::len)).sum()
}

fn take(room: &mut usize, bytes: usize) -> bool {
    room.checked_sub(bytes).inspect(|left| *room = *left).is_some()
}

fn is_word(text: &str, limit: usize) -> bool {
    text.len() <= limit && !text.contains(char::is_control)
}

/// Makes a text fit to be shown.
fn show(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        let last = text[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        text.truncate(last);
        text.push('…');
    }
    if text.contains(char::is_control) {
        *text = text.replace(char::is_control, " ");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::MatchQuality;

    fn ada() -> Contact {
        Contact {
            id: "1".to_owned(),
            name: "Ada".to_owned(),
            kind: "person".to_owned(),
            title: String::new(),
            company: String::new(),
            email: "ada@example.com".to_owned(),
            created: String::new(),
            last_activity: String::new(),
            additional_info: Map::new(),
            quality: MatchQuality::Unverified,
        }
    }

    fn bounded(contact: Contact) -> Option<Contact> {
        record(Record { contact, phones: Vec::new() }).map(|record| record.contact)
    }

    #[test]
    fn what_is_shown_is_cut_and_what_is_used_is_left_out() {
        let huge = "ä".repeat(3_000_000);
        let contact =
            Contact { name: huge.clone(), email: huge.clone(), kind: huge.clone(), created: huge.clone(), ..ada() };
        let contact = bounded(contact).unwrap();
        assert_eq!(contact.name, format!("{}…", "ä".repeat(511)));
        assert_eq!((contact.email.as_str(), contact.kind.as_str(), contact.created.as_str()), ("", "", ""));
        assert!(bounded(Contact { id: huge, ..ada() }).is_none(), "a part of an id is another id");
        let just = "x".repeat(512);
        assert_eq!(bounded(Contact { name: just.clone(), ..ada() }).unwrap().name, just);
    }

    #[test]
    fn control_characters_reach_no_screen() {
        let contact = Contact { name: "A\u{1b}[2Jd\na\u{9b}\0".to_owned(), email: "a\r\n@b".to_owned(), ..ada() };
        let contact = bounded(contact).unwrap();
        assert_eq!((contact.name.as_str(), contact.email.as_str()), ("A [2Jd a  ", ""));
        assert!(bounded(Contact { id: "1\n2".to_owned(), ..ada() }).is_none());
    }

    #[test]
    fn choices_are_flat_and_bounded_in_all() {
        let mut info = Map::new();
        info.insert(
            "deals".to_owned(),
            json!([
                {"const": 1, "title": "x".repeat(10_000)},
                {"const": [[[]]], "title": "a list is no id"},
                {"const": "i".repeat(257), "title": "nor is this"},
                {"const": 2, "title": {"deep": ["er"]}},
                "no object",
            ]),
        );
        info.insert("odd".to_owned(), json!({"not": "a list"}));
        let mut room = CHOICES;
        assert!(!choices(&mut info, &mut room));
        let kept = json!({"deals": [
            {"const": 1, "title": format!("{}…", "x".repeat(511))},
            {"const": 2, "title": null},
        ]});
        assert_eq!(Value::Object(info), kept);

        let many = |count: u32| (0..count).map(|n| json!({"const": n, "title": "t".repeat(500)})).collect();
        let mut info = Map::from_iter([("deals".to_owned(), Value::Array(many(5_000)))]);
        let mut room = CHOICES;
        assert!(!choices(&mut info, &mut room));
        assert!(Value::Object(info).to_string().len() <= CHOICES);
        let mut few = Map::from_iter([("deals".to_owned(), Value::Array(many(20)))]);
        assert!(choices(&mut few, &mut CHOICES.clone()));
    }

    proptest! {
        #[test]
        fn a_shown_text_has_no_control_character_and_an_end(text in "(\\PC|\\x1b|\n|ä){0,1100}") {
            let mut shown = text.clone();
            show(&mut shown);
            prop_assert!(shown.chars().count() <= SHOWN && !shown.contains(char::is_control));
            if text.chars().count() <= SHOWN && !text.contains(char::is_control) {
                prop_assert_eq!(shown, text);
            }
        }
    }
}
