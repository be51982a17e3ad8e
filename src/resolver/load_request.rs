//! What a load is made for.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::asker::Asker;
use super::question::Trigger;
use crate::clock::Instant;
use crate::domain::{Identity, Lane, QuestionKey};
use crate::flight::Join;
use crate::trace::Span;

/// Which stored answers make a load's call to the CRM needless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reuse {
    /// Fresh ones.
    Fresh,
    /// None: a person wants to know what the CRM says now, or the credential has to prove itself.
    Never,
}

/// What a load is made for.
#[derive(Debug)]
pub(super) struct LoadRequest {
    pub(super) asker: Arc<Asker>,
    pub(super) key: QuestionKey,
    /// Whose answer it brings; if nobody knows, the CRM is asked beside the search.
    pub(super) identity: Option<Identity>,
    pub(super) trigger: Trigger,
    pub(super) lane: Lane,
    /// Without one the load waits for its turn in the quota however long that takes.
    pub(super) deadline: Option<Instant>,
    pub(super) reuse: Reuse,
    /// Where its HTTP calls are counted.
    pub(super) spent: Arc<AtomicU32>,
    /// The span of whoever asks for it.
    pub(super) span: Span,
}

impl LoadRequest {
    /// The same load behind the caller's back.
    pub(super) fn behind(self, lane: Lane) -> Self {
        Self {
            lane,
            deadline: None,
            ..self
        }
    }

    /// The same load, whatever is stored.
    pub(super) fn anew(self) -> Self {
        Self {
            reuse: Reuse::Never,
            ..self
        }
    }

    /// What the CRM has answered before may be older than what a person has just changed there.
    pub(super) fn join(&self) -> Join {
        match self.trigger {
            Trigger::ManualRefresh => Join::NotCalledYet,
            Trigger::IncomingCall | Trigger::InitialMatch => Join::Any,
        }
    }
}
