//! Questions to the resolver, and its answers.

use std::sync::Arc;
use std::time::Duration;

use super::asker::Asker;
use crate::cache::Stored;
use crate::clock::Instant;
use crate::domain::{
    ContactKey, Entry, Extension, Freshness, Identity, Lane, Party, QuestionKey, Source,
};
use crate::trace::Span;

/// Why a look-up is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The phone rings.
    IncomingCall,
    /// A person asked for it.
    ManualRefresh,
    /// The first match of recent calls.
    InitialMatch,
}

impl Trigger {
    /// The metrics' label.
    #[must_use]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::IncomingCall => "incoming_call",
            Self::ManualRefresh => "manual_refresh",
            Self::InitialMatch => "initial_match",
        }
    }

    pub(super) fn lane(self) -> Lane {
        match self {
            Self::IncomingCall | Self::ManualRefresh => Lane::CallPop,
            Self::InitialMatch => Lane::Prefetch,
        }
    }
}

/// One look-up, parsed: an asker and a party. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    asker: Arc<Asker>,
    key: QuestionKey,
    /// The extension of the requested number. It ranks the contacts of a reply and is not part of
    /// the key.
    pub(crate) extension: Option<Extension>,
    /// Why.
    pub(crate) trigger: Trigger,
    /// Make no CRM call.
    pub(crate) only_if_cached: bool,
    /// When the caller gives up waiting.
    pub(crate) deadline: Option<Instant>,
    /// The request's span, if it is traced.
    pub(crate) span: Span,
}

impl Question {
    /// A question of `asker` about `party` without a deadline. It may call the CRM.
    #[must_use]
    pub(crate) fn new(asker: Arc<Asker>, party: Party, trigger: Trigger) -> Self {
        Self {
            key: asker.key(party),
            asker,
            extension: None,
            trigger,
            only_if_cached: false,
            deadline: None,
            span: Span::default(),
        }
    }

    /// Whose contact is asked for.
    #[must_use]
    pub(crate) fn party(&self) -> Party {
        self.key.party()
    }

    pub(super) fn asker(&self) -> &Arc<Asker> {
        &self.asker
    }

    pub(super) fn key(&self) -> &QuestionKey {
        &self.key
    }

    /// Where an answer for `identity` is kept.
    pub(super) fn key_of(&self, identity: &Identity) -> ContactKey {
        self.key.of(identity)
    }
}

/// The answer to a question, with the facts about it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// What was found.
    pub(crate) entry: Arc<Entry>,
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
