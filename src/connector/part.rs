//! What a CRM may refuse for good: a part of a contact's details, or an optional search.

use super::refusals::RefusalKey;
use crate::domain::LookupError;
use crate::domain::error::BadReply;

/// A part of the details or an optional search, and the keys of its refusals.
#[derive(Debug, Clone, Copy)]
pub(super) struct DetailsPart<'a> {
    pub(super) name: &'a str,
    /// The key for the credential.
    pub(super) whole: RefusalKey,
    /// The key for the credential and one record, if the path names the record. In that case "not
    /// found" may be about the record.
    pub(super) record: RefusalKey,
}

impl DetailsPart<'_> {
    pub(super) fn refused(self, error: &LookupError) -> RefusalKey {
        match error {
            LookupError::CrmBadReply(BadReply::Status(404 | 410)) => self.record,
            _ => self.whole,
        }
    }
}
