//! The calls of a find for one purpose: its search, or one part of a contact's details.

use serde_json::Value;

use super::part::Part;
use super::refusals::{self};
use super::session::CrmSession;
use super::success::Form;
use crate::budget::CallKind;
use crate::domain::LookupError;
use crate::domain::error::BadReply;

/// Calls for one purpose. What is refused for good as a part of details is not called for again for
/// a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls<'a> {
    session: &'a CrmSession,
    part: Option<Part>,
    /// Whether a page of the list was read before.
    is_further: bool,
}

impl CrmSession {
    /// Calls without which there is no answer.
    pub(super) fn search(&self) -> Calls<'_> {
        Calls {
            session: self,
            part: None,
            is_further: false,
        }
    }

    /// Calls for a part of the details of contacts; `record` is the contact if their path names it.
    pub(super) fn part<'a>(&'a self, name: &'static str, record: Option<&'a str>) -> Calls<'a> {
        let refused = |record: Option<&str>| self.refused_part(name, record);
        let part = Part {
            name,
            whole: refused(None),
            record: refused(record),
        };
        Calls {
            session: self,
            part: Some(part),
            is_further: false,
        }
    }
}

impl Calls<'_> {
    /// Calls for the pages behind a first one. They are refused as a failure only: the part itself
    /// was granted.
    #[must_use]
    pub(crate) fn further(self) -> Self {
        Self {
            is_further: true,
            ..self
        }
    }

    /// As [`CrmSession::get`]; a part that was refused lately fails as it did then, without a call.
    pub(crate) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Value, LookupError> {
        self.settle(
            self.session
                .fetch(self.session.address(path, query)?, self.kind(), self.part)
                .await,
        )
    }

    /// Reads a next-page link as JSON, if it leads to this session's host.
    ///
    /// # Errors
    /// [`BadReply::NextLink`] for a link elsewhere, which is not called; else as [`Calls::get`].
    pub(crate) async fn follow(&self, link: &str) -> Result<Value, LookupError> {
        self.settle(
            self.session
                .fetch(self.session.next_page(link)?, self.kind(), self.part)
                .await,
        )
    }

    /// The entries of a list, if the reply is a success.
    ///
    /// # Errors
    /// As of [`Form::entries`].
    pub(crate) fn entries(
        &self,
        form: &Form,
        reply: &mut Value,
    ) -> Result<Vec<Value>, LookupError> {
        self.settle(form.entries(reply))
    }

    /// Pages read of one list.
    pub(crate) fn most_pages(&self) -> u32 {
        self.session.limits().pages
    }

    fn kind(&self) -> CallKind {
        if self.part.is_none() {
            CallKind::Search
        } else {
            CallKind::Other
        }
    }

    fn settle<T>(&self, result: Result<T, LookupError>) -> Result<T, LookupError> {
        match (self.part, result) {
            (Some(_), Err(error)) if self.is_further && refusals::is_lasting(&error) => {
                Err(LookupError::CrmBadReply(BadReply::NextLink))
            }
            (Some(part), Err(error)) if refusals::is_lasting(&error) => {
                self.remember(part, &error);
                Err(error)
            }
            (_, result) => result,
        }
    }

    fn remember(&self, part: Part, error: &LookupError) {
        // One that stands already comes from memory, or was said to another call at the same time.
        if self.session.standing_refusal(part).is_some() {
            return;
        }
        self.session.refusals().note(part.refused(error), error);
        self.session.log_throttle().about_refusal(part.name, error, |suppressed| {
            tracing::warn!(part = part.name, %error, suppressed, "the CRM refuses a part of the contacts; it is left out");
        });
    }
}

impl CrmSession {
    /// How this part was refused lately.
    pub(super) fn standing_refusal(&self, part: Part) -> Option<LookupError> {
        [part.whole, part.record]
            .into_iter()
            .find_map(|refused| self.refusals().standing(refused))
    }
}
