//! What a person may be shown: return messages in our own words, encoded once.

use bytes::Bytes;
use prost::Message as _;

use crate::pb::v1 as pb;

/// Numbers of contacts whose message is encoded at start; more of them are rare.
const COUNTED: u32 = 32;

/// How long a message is shown, in milliseconds.
const SHORT: u32 = 3_000;
const LONG: u32 = 5_000;

/// How good an answer is, as far as its message tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quality {
    /// Fresh and complete.
    Good,
    /// Complete, but older than its fresh age.
    Stale,
    /// Something is missing.
    Partial,
}

/// The messages and the create option of one platform, encoded as fields of a
/// `FindContactResponse`.
#[derive(Debug)]
pub(super) struct Messages {
    found: Vec<[Bytes; 3]>,
    create_option: Bytes,
    withheld: Bytes,
    short_code: Bytes,
    no_extensions: Bytes,
}

impl Messages {
    pub(super) fn new(platform: &str, create_option: bool) -> Self {
        Self {
            found: (0..=COUNTED)
                .map(|count| all_qualities(platform, count))
                .collect(),
            create_option: if create_option {
                encode_create_option()
            } else {
                Bytes::new()
            },
            withheld: field(warning("The caller withheld the number", Vec::new())),
            short_code: field(warning(
                "Emergency and service numbers belong to no contact",
                Vec::new(),
            )),
            no_extensions: field(warning(
                "This CRM cannot be searched for internal extensions",
                vec![detail(&format!(
                    "{platform} keeps telephone numbers only, so the extension was not looked up."
                ))],
            )),
        }
    }

    /// The message for `count` contacts.
    pub(super) fn found(&self, platform: &str, count: u32, quality: Quality) -> Bytes {
        match self.found.get(count as usize) {
            Some(messages) => messages[quality as usize].clone(),
            None => field(found(platform, count, quality)),
        }
    }

    pub(super) fn create_option(&self) -> Bytes {
        self.create_option.clone()
    }

    pub(super) fn withheld(&self) -> Bytes {
        self.withheld.clone()
    }

    pub(super) fn short_code(&self) -> Bytes {
        self.short_code.clone()
    }

    pub(super) fn no_extensions(&self) -> Bytes {
        self.no_extensions.clone()
    }
}

fn all_qualities(platform: &str, count: u32) -> [Bytes; 3] {
    [Quality::Good, Quality::Stale, Quality::Partial]
        .map(|quality| field(found(platform, count, quality)))
}

fn found(platform: &str, count: u32, quality: Quality) -> pb::ReturnMessage {
    let contacts = match count {
        0 => return not_found(platform, quality),
        1 => "Found 1 contact".to_owned(),
        _ => format!("Found {count} contacts"),
    };
    let success = |message: String| message_of(message, "success", SHORT, Vec::new());
    match quality {
        Quality::Good => success(contacts),
        Quality::Stale => success(format!("{contacts}, as known from an earlier look-up")),
        Quality::Partial => warning(
            &format!("{contacts}, but not everything about them could be loaded"),
            vec![detail(
                "Some related records are missing or still being loaded. Look again in a moment, or refresh the contact.",
            )],
        ),
    }
}

fn not_found(platform: &str, quality: Quality) -> pb::ReturnMessage {
    let hint = match quality {
        Quality::Good => {
            format!(
                "Your {platform} account has no contact with this number that you can see. A contact that was created \
                 moments ago may take a little while to be found; refresh to look again."
            )
        }
        Quality::Stale => format!(
            "Your {platform} account had no contact with this number; it is being asked again."
        ),
        Quality::Partial => {
            format!("{platform} returned more results than could be read. Refresh to look again.")
        }
    };
    warning("Contact not found", vec![detail(&hint)])
}

/// The message for digits that are no whole number, encoded; rare enough to be written each time.
pub(super) fn unusable(why: &str) -> Bytes {
    field(warning(
        "No whole telephone number came with the call",
        vec![detail(&format!("The number {why}."))],
    ))
}

/// A message for a failure: what happened, and what the person can do.
pub(super) fn danger(message: &str, hint: &str) -> pb::ReturnMessage {
    message_of(message.to_owned(), "danger", LONG, vec![detail(hint)])
}

/// A message for something that did not work out, but is nobody's fault.
pub(super) fn warning(message: &str, details: Vec<pb::Detail>) -> pb::ReturnMessage {
    message_of(message.to_owned(), "warning", LONG, details)
}

fn message_of(
    message: String,
    kind: &str,
    ttl: u32,
    details: Vec<pb::Detail>,
) -> pb::ReturnMessage {
    pb::ReturnMessage {
        message,
        message_type: kind.to_owned(),
        ttl,
        details,
    }
}

pub(super) fn detail(text: &str) -> pb::Detail {
    let item = pb::DetailItem {
        id: "1".to_owned(),
        r#type: "text".to_owned(),
        text: text.to_owned(),
    };
    pb::Detail {
        title: "Details".to_owned(),
        items: vec![item],
    }
}

fn field(message: pb::ReturnMessage) -> Bytes {
    let response = pb::FindContactResponse {
        return_message: Some(message),
        ..Default::default()
    };
    response.encode_to_vec().into()
}

fn encode_create_option() -> Bytes {
    let option = pb::ContactInfo {
        id: "createNewContact".to_owned(),
        name: "Create new contact...".to_owned(),
        is_new_contact: true,
        ..Default::default()
    };
    let response = pb::FindContactResponse {
        matched_contact_info: vec![option],
        ..Default::default()
    };
    response.encode_to_vec().into()
}
