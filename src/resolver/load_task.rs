//! A load that runs: who may share it, and what it returns.

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
    /// How long a ringing phone waits for details once the contacts are found. A CRM that searched
    /// slowly probably loads details slowly too.
    pub(super) fn patience(self, details_timeout: Duration) -> Duration {
        details_timeout.max(self.took * 2)
    }
}

/// The same key means the same load: the same question under the same credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LoadKey {
    pub(super) question: QuestionKey,
    pub(super) auth: AuthTag,
    pub(super) reuse: Reuse,
    /// The last invalidation of this question. A load that began before the invalidation may return
    /// a removed answer.
    pub(super) since: u64,
}

/// What a load returned.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    /// The answer.
    pub(super) entry: Entry,
    /// When the CRM was asked.
    pub(super) asked: Timestamp,
    /// The CRM, or the tier that had the answer by then.
    pub(super) source: Source,
    /// HTTP calls to the CRM that it made.
    pub(super) crm_requests: u32,
    pub(super) timing: SearchTiming,
}

/// One load. It runs as a task of its own with its own time limit: callers come and go.
pub(super) struct Load {
    pub(super) resolver: Resolver,
    pub(super) request: LoadRequest,
    pub(super) urgency: Arc<Urgency>,
    /// Publishes the contacts while their details are still loading.
    pub(super) early: EarlyResult<Loaded>,
    pub(super) span: Span,
}
