//! A contact of a CRM, and the encoded form that is stored and sent.

use std::fmt;

use prost::Message as _;
use serde_json::{Map, Value};

use super::json;
use super::phone::{Certainty, Extension, Party};
use crate::pb::v1 as pb;

/// How certain it is that a contact has the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchQuality {
    /// A phone field of the record is certainly this very number.
    Exact,
    /// A phone field of the record is very probably this number: see [`Certainty::Likely`].
    Likely,
    /// The CRM found the record by this number, but showed no phone field.
    Unverified,
}

impl MatchQuality {
    /// From the most to the least certain, in the order of answers.
    pub(crate) const ALL: [Self; 3] = [Self::Exact, Self::Likely, Self::Unverified];

    /// The metrics' label.
    #[must_use]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Likely => "likely",
            Self::Unverified => "unverified",
        }
    }

    /// The position in that order, counted from 1, as stored answers contain it.
    #[must_use]
    pub(crate) fn rank(self) -> u32 {
        match self {
            Self::Exact => 1,
            Self::Likely => 2,
            Self::Unverified => 3,
        }
    }

    fn of_message(contact: &pb::ContactInfo) -> Option<Self> {
        match contact.match_quality() {
            pb::MatchQuality::Exact => Some(Self::Exact),
            pb::MatchQuality::Likely => Some(Self::Likely),
            pb::MatchQuality::Unverified => Some(Self::Unverified),
            pb::MatchQuality::Unspecified => None,
        }
    }
}

impl From<Certainty> for MatchQuality {
    fn from(certainty: Certainty) -> Self {
        match certainty {
            Certainty::Certain => Self::Exact,
            Certainty::Likely => Self::Likely,
        }
    }
}

/// One record of a CRM.
#[derive(Clone, PartialEq)]
pub struct Contact {
    /// The CRM's id.
    pub id: String,
    /// The display name.
    pub name: String,
    /// The CRM's kind of record.
    pub kind: String,
    /// Job title, or empty.
    pub title: String,
    /// Company, or empty.
    pub company: String,
    /// E-mail address, or empty.
    pub email: String,
    /// In the CRM's spelling, or empty.
    pub created: String,
    /// In the CRM's spelling, or empty.
    pub last_activity: String,
    /// Choices that depend on the contact, by field name: deals, leads, matters.
    pub additional_info: Map<String, Value>,
    /// How certain the match is.
    pub quality: MatchQuality,
    /// Raw values of the record that requests for its details need. They are not part of answers.
    pub kept: Vec<Value>,
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact")
            .field("quality", &self.quality)
            .finish_non_exhaustive()
    }
}

/// Encodes the result of a look-up as the bytes of a `FindContactResponse`: the contacts, and in
/// `lookup` the number and whether the answer is complete. Protobuf merges parts that follow each
/// other, so a hit sends these bytes as they are and encodes only what is known of this answer.
#[must_use]
pub(crate) fn encode(party: &Party, contacts: &[Contact], complete: bool) -> Vec<u8> {
    let phone = party.to_string();
    let lookup = pb::Lookup {
        phone_number: phone.clone(),
        complete,
        ..pb::Lookup::default()
    };
    let response = pb::FindContactResponse {
        matched_contact_info: contacts
            .iter()
            .map(|contact| to_message(contact, &phone))
            .collect(),
        return_message: None,
        lookup: Some(lookup),
    };
    response.encode_to_vec()
}

/// Reorders the contacts of the encoded bytes. Among contacts of equal quality those with the
/// requested extension come first, those with other extensions last. `extensions` are the contacts'
/// own, as [`extension_list`] formats them.
#[must_use]
pub(crate) fn ranked(encoded: &[u8], extensions: &[String], asked: Extension) -> Vec<u8> {
    let Ok(mut response) = pb::FindContactResponse::decode(encoded) else {
        return encoded.to_vec();
    };
    let asked = asked.to_string();
    let rank = |list: &String| match list.as_str() {
        "" => 1,
        list if list.split(',').any(|extension| extension == asked) => 0,
        _ => 2,
    };
    let mut contacts: Vec<_> = response
        .matched_contact_info
        .into_iter()
        .zip(extensions.iter().map(rank))
        .collect();
    contacts.sort_by_key(|(contact, rank)| (MatchQuality::of_message(contact), *rank));
    response.matched_contact_info = contacts.into_iter().map(|(contact, _)| contact).collect();
    response.encode_to_vec()
}

/// Formats the extensions of one contact for storage: separated by commas, empty for none.
#[must_use]
pub(crate) fn extension_list(extensions: &[Extension]) -> String {
    extensions
        .iter()
        .map(Extension::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn to_message(contact: &Contact, phone: &str) -> pb::ContactInfo {
    let quality = match contact.quality {
        MatchQuality::Exact => pb::MatchQuality::Exact,
        MatchQuality::Likely => pb::MatchQuality::Likely,
        MatchQuality::Unverified => pb::MatchQuality::Unverified,
    };
    pb::ContactInfo {
        id: contact.id.clone(),
        name: contact.name.clone(),
        additional_info: (!contact.additional_info.is_empty())
            .then(|| json::to_struct(&contact.additional_info)),
        is_new_contact: false,
        phone: phone.to_owned(),
        r#type: contact.kind.clone(),
        title: contact.title.clone(),
        company: contact.company.clone(),
        email: contact.email.clone(),
        created_date: contact.created.clone(),
        most_recent_activity_date: contact.last_activity.clone(),
        match_quality: quality.into(),
    }
}
