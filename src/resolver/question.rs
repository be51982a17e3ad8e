//! Questions to the resolver.

use std::sync::Arc;

pub(crate) use super::answer::Answer;
use super::asker::Asker;
use super::load_task::Loaded;
pub(crate) use super::trigger::Trigger;
use super::watch::{LookupProgress, Watcher};
use crate::clock::Instant;
use crate::domain::{ContactKey, Extension, Identity, Party, QuestionKey};
use crate::flight::Seat;
use crate::trace::Span;

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
    /// Who watches the look-up.
    pub(crate) watcher: Option<Watcher>,
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
            watcher: None,
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

    pub(super) fn is_watched(&self) -> bool {
        self.watcher.is_some()
    }

    /// Shows something to the watcher, if there is one.
    pub(super) fn show(&self, watched: impl FnOnce() -> LookupProgress) {
        if let Some(watcher) = &self.watcher {
            watcher.show(watched());
        }
    }

    /// Keeps a seat on a load that continues after the answer, if somebody watches.
    pub(super) fn keep(&self, seat: impl FnOnce() -> Option<Seat<Loaded>>) {
        if let Some(watcher) = &self.watcher {
            watcher.keep(seat());
        }
    }
}
