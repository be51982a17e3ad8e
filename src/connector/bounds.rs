//! How much of a CRM's record is kept in an answer.
//!
//! What a CRM stores about a contact was typed by other people. It ends up on a screen, in the
//! cache and in Redis, so every field has a limit. A text that people read is cut at its limit. An
//! address or a time that is too long is left out, because a part of it would be another one. A
//! record without a usable id is left out completely. Control characters become spaces, because
//! answers are also printed on terminals.
//!
//! If a record has no name, its company is shown instead, or else its e-mail address, because a
//! person must have something to click on. If it has neither, the name stays empty. The number does
//! not replace it: it is on the screen anyway.

use serde_json::{Map, Value};

use super::record::Record;
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

/// Total size of the choices in one answer, in bytes of text. With 25 contacts an answer stays
/// below 4 MB, the default limit of gRPC clients.
pub(super) const CHOICES: usize = 512 * 1024;

/// Applies the limits to a record. Returns false if it has to be left out.
pub(super) fn record(record: &mut Record) -> bool {
    record.phones.truncate(PHONES);
    if !is_id(&record.contact.id) {
        return false;
    }
    let Contact {
        name,
        kind,
        title,
        company,
        email,
        created,
        last_activity,
        ..
    } = &mut record.contact;
    for text in [&mut *name, title, &mut *company] {
        show(text);
    }
    for (word, limit) in [
        (kind, WORD),
        (&mut *email, EMAIL),
        (created, WORD),
        (last_activity, WORD),
    ] {
        if !is_word(word, limit) {
            word.clear();
        }
    }
    if is_blank(name) {
        *name = [company, email]
            .into_iter()
            .find(|text| !is_blank(text))
            .map_or_else(String::new, |text| text.clone());
    }
    true
}

/// Applies the limits to the choices of one contact, within the remaining `room` of the whole
/// answer. Returns false if some had to be left out.
pub(super) fn choices(info: &mut Map<String, Value>, room: &mut usize) -> bool {
    let mut complete = true;
    for list in info.values_mut() {
        let choices = match list {
            Value::Array(choices) => choices,
            Value::Bool(_) | Value::Number(_) => continue,
            Value::String(text) if !text.is_empty() => {
                show(text);
                continue;
            }
            _ => {
                *list = Value::Null;
                complete = false;
                continue;
            }
        };
        choices.retain_mut(|choice| {
            let kept = choice_is_usable(choice) && take(room, size(choice));
            complete &= kept;
            kept
        });
    }
    info.retain(|_, value| match value {
        Value::Array(choices) => !choices.is_empty(),
        value => !value.is_null(),
    });
    complete
}

/// A choice is an object of scalars, identified by its `const`.
fn choice_is_usable(choice: &mut Value) -> bool {
    let Value::Object(members) = choice else {
        return false;
    };
    for (_, value) in members.iter_mut().filter(|(name, _)| *name != "const") {
        match value {
            Value::Array(_) | Value::Object(_) => *value = Value::Null,
            Value::String(text) => show(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    match members.get("const") {
        Some(Value::String(id)) => is_id(id),
        id => id.is_some_and(Value::is_number),
    }
}

/// Approximate size in bytes.
fn size(choice: &Value) -> usize {
    let members = choice.as_object().into_iter().flatten();
    members.map(member_size).sum()
}

fn member_size((name, value): (&String, &Value)) -> usize {
    name.len() + 16 + value.as_str().map_or(0, str::len)
}

fn take(room: &mut usize, bytes: usize) -> bool {
    room.checked_sub(bytes)
        .inspect(|left| *room = *left)
        .is_some()
}

/// Returns whether the id can be used again. Without such an id, a record cannot be opened and its
/// details cannot be loaded.
fn is_id(text: &str) -> bool {
    is_word(text, ID) && !is_blank(text)
}

/// Returns whether a text that must not be cut is usable. U+FFFD shows that a part of it was lost.
fn is_word(text: &str, limit: usize) -> bool {
    text.len() <= limit && !text.contains(|c: char| c.is_control() || c == '\u{fffd}')
}

/// Returns whether nothing of the text is visible.
fn is_blank(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_whitespace() || c.is_control() || is_invisible(c))
}

/// Characters without ink: those that Unicode 16 calls default ignorable, and the empty Braille
/// pattern.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
    ) || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
        || matches!(c, '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}')
        || matches!(c, '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Cuts what is longer than people are shown.
fn shorten(text: &mut String) {
    if text.char_indices().nth(SHOWN).is_some() {
        let end = text.char_indices().nth(SHOWN - 1);
        text.truncate(end.map_or(0, |(at, _)| at));
        text.push('…');
    }
}

/// Makes a text fit for display.
fn show(text: &mut String) {
    shorten(text);
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
            kept: Vec::new(),
        }
    }

    fn bounded(contact: Contact) -> Option<Contact> {
        let mut bounded = Record {
            contact,
            phones: Vec::new(),
        };
        record(&mut bounded).then_some(bounded.contact)
    }

    #[test]
    fn what_is_shown_is_cut_and_what_is_used_is_left_out() {
        let huge = "ä".repeat(3_000_000);
        let contact = Contact {
            name: huge.clone(),
            email: huge.clone(),
            kind: huge.clone(),
            created: huge.clone(),
            ..ada()
        };
        let contact = bounded(contact).unwrap();
        assert_eq!(contact.name, format!("{}…", "ä".repeat(511)));
        assert_eq!(
            (
                contact.email.as_str(),
                contact.kind.as_str(),
                contact.created.as_str()
            ),
            ("", "", "")
        );
        assert!(
            bounded(Contact { id: huge, ..ada() }).is_none(),
            "a part of an id is another id"
        );
        let just = "x".repeat(512);
        assert_eq!(
            bounded(Contact {
                name: just.clone(),
                ..ada()
            })
            .unwrap()
            .name,
            just
        );
    }

    #[test]
    fn control_characters_reach_no_screen() {
        let contact = Contact {
            name: "A\u{1b}[2Jd\na\u{9b}\0".to_owned(),
            email: "a\r\n@b".to_owned(),
            ..ada()
        };
        let contact = bounded(contact).unwrap();
        assert_eq!(
            (contact.name.as_str(), contact.email.as_str()),
            ("A [2Jd a  ", "")
        );
        assert!(
            bounded(Contact {
                id: "1\n2".to_owned(),
                ..ada()
            })
            .is_none()
        );
    }

    #[test]
    fn a_record_without_a_name_is_shown_by_its_company_or_its_address() {
        for blank in [
            "",
            " ",
            "\t\n",
            "\u{a0}\u{3000}",
            "\u{200b}\u{feff}",
            "\u{2060}\u{ad}\u{2800}",
            "\u{0}",
            "\u{202e} ",
        ] {
            let name = |company: &str, email: &str| {
                let (company, email) = (company.to_owned(), email.to_owned());
                bounded(Contact {
                    name: blank.to_owned(),
                    company,
                    email,
                    ..ada()
                })
                .unwrap()
                .name
            };
            assert_eq!(
                name("Fjord Fittings", "post@fjord.example"),
                "Fjord Fittings",
                "{blank:?}"
            );
            assert_eq!(
                name(blank, "post@fjord.example"),
                "post@fjord.example",
                "{blank:?}"
            );
            assert_eq!(
                name("", "a\nb@fjord.example"),
                "",
                "{blank:?}: an address that is left out is no name"
            );
            assert_eq!(name(blank, blank), "", "{blank:?}");
        }
        let named = |name: &str| {
            bounded(Contact {
                name: name.to_owned(),
                company: "C".to_owned(),
                ..ada()
            })
            .unwrap()
            .name
        };
        for name in ["-", "0", ".", "\u{fffd}", "\u{200f}א", "🙂\u{fe0f}"] {
            assert_eq!(named(name), name);
        }
    }

    #[test]
    fn an_id_is_seen_and_whole() {
        for id in ["", " ", "\u{a0}", "\u{200b}", "\t", "7\u{fffd}", "\u{fffd}"] {
            assert!(
                bounded(Contact {
                    id: id.to_owned(),
                    ..ada()
                })
                .is_none(),
                "{id:?}"
            );
        }
        for id in ["0", "7", ".", "..", " 7 ", "ä/%2e"] {
            assert!(
                bounded(Contact {
                    id: id.to_owned(),
                    ..ada()
                })
                .is_some(),
                "{id:?}"
            );
        }
        assert_eq!(
            bounded(Contact {
                email: "a\u{fffd}@b".to_owned(),
                ..ada()
            })
            .unwrap()
            .email,
            ""
        );
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
                {"const": null, "title": "nor this"},
                {"const": " ", "title": "nor this"},
                {"const": true, "title": "nor this"},
                {"title": "nor nothing"},
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

        let many = |count: u32| {
            (0..count)
                .map(|n| json!({"const": n, "title": "t".repeat(500)}))
                .collect()
        };
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
