//! A part of a contact's details, which a CRM may refuse for good.

use super::refusals::Refused;
use crate::domain::LookupError;
use crate::domain::error::BadReply;

/// A part of the details.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) name: &'static str,
    /// For the credential.
    pub(super) whole: Refused,
    /// For the credential and one record, if the path names it: "not found" may be said of the
    /// record then.
    pub(super) record: Refused,
}

impl Part {
    pub(super) fn refused(self, error: &LookupError) -> Refused {
        match error {
            LookupError::CrmBadReply(BadReply::Status(404 | 410)) => self.record,
            _ => self.whole,
        }
    }
}
