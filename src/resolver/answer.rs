//! The answers of the resolver.

use std::time::Duration;

use crate::cache::Stored;
use crate::domain::{Entry, Freshness, Source};

/// The answer to a question, with the facts about it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// What was found.
    pub(crate) entry: Entry,
    /// Where it came from.
    pub(crate) source: Source,
    /// Never `Expired`.
    pub(crate) freshness: Freshness,
    /// Time since the CRM was asked.
    pub(crate) age: Duration,
    /// Another caller led the load.
    pub(crate) shared: bool,
    /// HTTP calls to the CRM made for this answer.
    pub(crate) crm_requests: u32,
}

impl From<Stored> for Answer {
    fn from(stored: Stored) -> Self {
        let Stored {
            entry,
            freshness,
            age,
            source,
            ..
        } = stored;
        Self {
            entry,
            source,
            freshness,
            age,
            shared: false,
            crm_requests: 0,
        }
    }
}
