//! The parts of one platform's replies, encoded at start, so that a hit formats nothing.

use bytes::Bytes;
use prost::Message as _;

use super::parse::NoLookup;
use super::reply::FindReply;
use super::words;
use crate::connector::Platform;
use crate::domain::{Extension, Freshness};
use crate::pb::v1 as pb;
use crate::resolver::{Answer, Question, Source};

/// Up to this many contacts, messages are encoded at start. Larger counts are rare.
const COUNTED: u32 = 32;

/// How good an answer is, as far as its message shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quality {
    /// Fresh and complete.
    Good,
    /// Complete, but older than its fresh age.
    Stale,
    /// Something is missing.
    Partial,
}

/// What a request says about the form of its reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplyForm {
    /// The extension that was dialled. Contacts with it come first.
    pub(super) extension: Option<Extension>,
    /// Whether the reply ends with the create option.
    pub(super) create_option: Option<bool>,
}

impl ReplyForm {
    pub(super) fn of(question: &Question, create_option: Option<bool>) -> Self {
        Self {
            extension: question.extension,
            create_option,
        }
    }
}

/// The messages and the create option of one platform, encoded as fields of a
/// `FindContactResponse`.
#[derive(Debug)]
pub(super) struct PlatformReplies {
    platform: String,
    found: Vec<[Bytes; 3]>,
    create_option: Bytes,
    has_create_option: bool,
    withheld: Bytes,
    short_code: Bytes,
    no_extensions: Bytes,
}

impl PlatformReplies {
    pub(super) fn new(platform: &Platform) -> Self {
        let name = platform.name();
        Self {
            platform: name.to_owned(),
            found: (0..=COUNTED)
                .map(|count| all_qualities(name, count))
                .collect(),
            create_option: encode_create_option(),
            has_create_option: platform.create_option(),
            withheld: encode(words::warning("The caller withheld the number", None)),
            short_code: encode(words::warning(
                "Short codes, such as emergency numbers, belong to no contact",
                None,
            )),
            no_extensions: encode(words::warning(
                "This CRM cannot be searched for internal extensions",
                &*format!(
                    "contactd searches {name} by telephone number only, so the extension was not looked up."
                ),
            )),
        }
    }

    /// The reply with this answer. If the request does not say whether the create option is in it,
    /// the connector does.
    pub(super) fn found(&self, answer: &Answer, form: ReplyForm) -> FindReply {
        let has_option = form.create_option.unwrap_or(self.has_create_option);
        let option = has_option.then(|| self.create_option.clone());
        FindReply {
            stored: Some(answer.entry.asked_for(form.extension)),
            create_option: option.unwrap_or_default(),
            message: self.message(answer.entry.count(), quality(answer)),
            lookup: lookup(answer),
        }
    }

    /// The reply to a request without a look-up: no contact, and no option to create one.
    pub(super) fn nobody(&self, why: &NoLookup) -> FindReply {
        let message = match why {
            NoLookup::Withheld => self.withheld.clone(),
            NoLookup::ShortCode => self.short_code.clone(),
            NoLookup::NoExtensions => self.no_extensions.clone(),
            // Rare enough to be formatted each time.
            NoLookup::Unusable(why) => encode(words::warning(
                "No complete telephone number came with the call",
                &*format!("The number {why}."),
            )),
        };
        FindReply {
            message,
            lookup: pb::Lookup {
                complete: true,
                ..Default::default()
            },
            ..Default::default()
        }
    }

    fn message(&self, count: u32, quality: Quality) -> Bytes {
        match self.found.get(count as usize) {
            Some(messages) => messages[quality as usize].clone(),
            None => encode(found(&self.platform, count, quality)),
        }
    }
}

fn quality(answer: &Answer) -> Quality {
    match (answer.entry.is_complete(), answer.freshness) {
        (false, _) => Quality::Partial,
        (true, Freshness::Fresh) => Quality::Good,
        (true, _) => Quality::Stale,
    }
}

/// The facts about an answer, except the number and `complete`, which are in the stored part.
fn lookup(answer: &Answer) -> pb::Lookup {
    pb::Lookup {
        source: wire_source(answer.source).into(),
        freshness: wire_freshness(answer.freshness).into(),
        age: prost_types::Duration::try_from(answer.age).ok(),
        shared: answer.shared,
        crm_requests: answer.crm_requests,
        ..Default::default()
    }
}

pub(super) fn wire_source(source: Source) -> pb::Source {
    match source {
        Source::Memory => pb::Source::Memory,
        Source::Redis => pb::Source::Redis,
        Source::Crm => pb::Source::Crm,
    }
}

pub(super) fn wire_freshness(freshness: Freshness) -> pb::Freshness {
    if freshness == Freshness::Fresh {
        pb::Freshness::Fresh
    } else {
        pb::Freshness::Stale
    }
}

fn all_qualities(platform: &str, count: u32) -> [Bytes; 3] {
    [Quality::Good, Quality::Stale, Quality::Partial]
        .map(|quality| encode(found(platform, count, quality)))
}

fn found(platform: &str, count: u32, quality: Quality) -> pb::ReturnMessage {
    let contacts = match count {
        0 => return not_found(platform, quality),
        1 => "Found 1 contact".to_owned(),
        _ => format!("Found {count} contacts"),
    };
    match quality {
        Quality::Good => words::success(contacts),
        Quality::Stale => words::success(format!("{contacts}, as known from an earlier look-up")),
        Quality::Partial => words::warning(
            format!("{contacts}; something is missing or still being loaded"),
            "Look again in a moment, or refresh the contact.",
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
            "Your {platform} account had no contact with this number. Refresh to look again."
        ),
        Quality::Partial => {
            format!("{platform} could not be searched completely. Refresh to look again.")
        }
    };
    words::warning("Contact not found", &*hint)
}

fn encode(message: pb::ReturnMessage) -> Bytes {
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
