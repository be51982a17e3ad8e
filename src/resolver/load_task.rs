//! A load under way: what it is for, what may share it, and what it brings back.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::identity::Whose;
use super::{Asked, Question, Resolver};
use crate::clock::Instant;
use crate::domain::{AuthTag, Entry, QuestionKey, Source, Timestamp};
use crate::flight::Early;
use crate::trace::Span;
use crate::urgency::Urgency;

/// When contacts were verified, and how long the search took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verified {
    pub(super) at: Instant,
    pub(super) searched: Duration,
}

impl Verified {
    /// How long a ringing phone waits for details from then on. A CRM that takes long to search
    /// takes long for all.
    pub(super) fn patience(self, details_timeout: Duration) -> Duration {
        details_timeout.max(self.searched * 2)
    }
}

/// What may share a load: the same question under the same credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LoadKey {
    pub(super) question: QuestionKey,
    pub(super) auth: AuthTag,
    /// Whether the load must ask the CRM: a manual refresh, or a credential that has to prove
    /// itself.
    pub(super) must_ask: bool,
    /// What was invalidated last of this question: a load that began before may bring what should
    /// be gone.
    pub(super) since: u64,
}

/// What a load brought back.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    /// The answer.
    pub(super) entry: Arc<Entry>,
    /// When the CRM was asked.
    pub(super) asked: Timestamp,
    /// The CRM, or the tier that had it by then.
    pub(super) source: Source,
    /// HTTP calls to the CRM that it took.
    pub(super) crm_requests: u32,
    /// When its contacts were verified.
    pub(super) verified: Verified,
}

/// One load. It runs as a task of its own: callers come and go, the load ends under its own time
/// limit.
pub(super) struct Load {
    pub(super) resolver: Resolver,
    pub(super) question: Question,
    pub(super) key: QuestionKey,
    pub(super) auth: AuthTag,
    pub(super) whose: Whose,
    /// Ask the CRM whatever is stored.
    pub(super) must_ask: bool,
    pub(super) urgency: Arc<Urgency>,
    /// Shows the contacts while their details are still loaded.
    pub(super) early: Early<Loaded>,
    /// Where its HTTP calls are counted, also those of a load that fails.
    pub(super) spent: Arc<AtomicU32>,
    pub(super) span: Span,
}

impl Load {
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            question: &self.question,
            key: self.key,
            auth: self.auth,
        }
    }
}
