//! The purpose of a load.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::asker::Asker;
use super::trigger::Trigger;
use crate::clock::Instant;
use crate::domain::{Identity, Lane, QuestionKey};
use crate::flight::Join;
use crate::trace::Span;

/// Which stored answers make the load's CRM call unnecessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reuse {
    /// Fresh ones.
    Fresh,
    /// None: a person wants the CRM's current answer, or the credential has to be verified.
    Never,
}

/// The purpose of a load.
#[derive(Debug)]
pub(super) struct LoadRequest {
    pub(super) asker: Arc<Asker>,
    pub(super) key: QuestionKey,
    /// The owner of the answer. If it is not known, the CRM is asked alongside the search.
    pub(super) identity: Option<Identity>,
    pub(super) trigger: Trigger,
    pub(super) lane: Lane,
    /// Without a deadline the load waits for its turn in the quota without a limit.
    pub(super) deadline: Option<Instant>,
    pub(super) reuse: Reuse,
    /// The counter of its HTTP calls.
    pub(super) spent: Arc<AtomicU32>,
    /// The span of the caller.
    pub(super) span: Span,
}

impl LoadRequest {
    /// The same load in the background.
    pub(super) fn behind(self, lane: Lane) -> Self {
        Self {
            lane,
            deadline: None,
            ..self
        }
    }

    /// The same load, but stored answers do not count.
    pub(super) fn anew(self) -> Self {
        Self {
            reuse: Reuse::Never,
            ..self
        }
    }

    /// Which running loads it may share. A manual refresh shares none that has called the CRM: an
    /// earlier answer may lack what the person has just changed there.
    pub(super) fn join(&self) -> Join {
        if self.asker.is_observed() {
            // Somebody who watches wants to see every call.
            return Join::Nobody;
        }
        match self.trigger {
            Trigger::ManualRefresh => Join::NotCalledYet,
            Trigger::IncomingCall | Trigger::InitialMatch => Join::Any,
        }
    }
}
