//! What the data set is made of: contacts with phones and deals, and samples of their numbers.

use serde::Serialize;

/// A person or a company, as the API shows it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct SampleContact {
    /// Counts from 1 without gaps.
    pub id: usize,
    /// `person` or `company`.
    pub kind: &'static str,
    pub name: String,
    /// Empty for a company.
    pub title: &'static str,
    pub company: String,
    pub email: String,
    pub(super) phones: Vec<Phone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extension: Option<String>,
    /// RFC 3339, UTC, whole seconds. So is the next field.
    pub(super) created_at: String,
    pub(super) last_activity_at: String,
    /// Served at an address of their own.
    #[serde(skip)]
    pub(super) deals: Vec<Deal>,
}

/// One phone of a contact.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Phone {
    /// `work` or `mobile`.
    pub(super) label: &'static str,
    /// As it was typed.
    pub(super) number: String,
    /// Its E.164 form, which the CRM does not return.
    #[serde(skip)]
    pub(super) e164: String,
}

/// One deal of a contact.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Deal {
    /// Counts from 1 over all contacts.
    pub(super) id: usize,
    pub(super) title: String,
    /// `open`, `won` or `lost`.
    pub(super) stage: &'static str,
}

/// Numbers to try, one of each sort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    /// An E.164 number that exactly one contact has. The search also finds somebody else, whose
    /// number ends alike.
    pub one: String,
    /// An E.164 number that three to eight people of one company share.
    pub many: String,
    /// An E.164 number that no contact has.
    pub absent: String,
    /// The internal extension of exactly one contact.
    pub extension: String,
}

impl SampleContact {
    /// Whether one of its phones has this number.
    pub(super) fn has(&self, number: &str) -> bool {
        self.phones.iter().any(|phone| phone.e164 == number)
    }
}
