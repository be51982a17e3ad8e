//! A load under way: what may share it, and what it brings back.

use std::sync::Arc;
use std::time::Duration;

use super::Resolver;
use super::load_request::{LoadRequest, Reuse};
use crate::clock::Instant;
use crate::domain::{AuthTag, Entry, QuestionKey, Source, Timestamp};
use crate::flight::EarlyResult;
use crate::trace::Span;
use crate::urgency::Urgency;

/// When the contacts of an answer were found, and how long the search took.
#[derive(Debug, Clone, Copy)]
pub(super) struct SearchTiming {
    pub(super) found_at: Instant,
    pub(super) took: Duration,
}

impl SearchTiming {
    /// How long a ringing phone waits for details from then on. A CRM that takes long to search
    /// takes long for all.
    pub(super) fn patience(self, details_timeout: Duration) -> Duration {
        details_timeout.max(self.took * 2)
    }
}

/// What may share a load: the same question under the same credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LoadKey {
    pub(super) question: QuestionKey,
    pub(super) auth: AuthTag,
    pub(super) reuse: Reuse,
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
    pub(super) timing: SearchTiming,
}

/// One load. It runs as a task of its own: callers come and go, the load ends under its own time
/// limit.
pub(super) struct Load {
    pub(super) resolver: Resolver,
    pub(super) request: LoadRequest,
    pub(super) urgency: Arc<Urgency>,
    /// Shows the contacts while their details are still loaded.
    pub(super) early: EarlyResult<Loaded>,
    pub(super) span: Span,
}
