//! The calls of a find for one purpose: the search, or one part of a contact's details.

use serde_json::Value;

use super::exchange::CrmReply;
use super::pages::{Page, Pager};
use super::part::DetailsPart;
use super::record::List;
use super::refusals;
use super::request::Request;
use super::session::CrmSession;
use super::success::ListForm;
use crate::budget::CallKind;
use crate::domain::LookupError;
use crate::domain::error::BadReply;

/// Calls for one purpose. A part of the details that the CRM refused for good is not requested
/// again for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls<'a> {
    session: &'a CrmSession,
    part: Option<DetailsPart<'a>>,
    /// Whether a page of the list was already read.
    is_further: bool,
}

impl CrmSession {
    /// One reply as JSON; null if the CRM has no such record.
    ///
    /// # Errors
    /// Every way in which a CRM can fail, as a [`LookupError`].
    pub(super) async fn read(&self, request: Request) -> Result<Value, LookupError> {
        let request = self.outgoing(&request)?;
        match self.fetch(request, CallKind::Other, None).await? {
            CrmReply::Json(reply) => Ok(reply),
            CrmReply::Nobody | CrmReply::Partial => Ok(Value::Null),
        }
    }

    /// Calls that an answer cannot do without.
    pub(super) fn search(&self) -> Calls<'_> {
        Calls {
            session: self,
            part: None,
            is_further: false,
        }
    }

    /// Calls for a part of the contacts' details. `record` is the contact, if the path names one.
    pub(super) fn part<'a>(&'a self, name: &'a str, record: Option<&'a str>) -> Calls<'a> {
        let part = DetailsPart {
            name,
            whole: self.refusal_key(name, None),
            record: self.refusal_key(name, record),
        };
        Calls {
            session: self,
            part: Some(part),
            is_further: false,
        }
    }
}

impl Calls<'_> {
    /// Reads all pages of a list, up to the session's limit.
    ///
    /// # Errors
    /// Any failure of a CRM, on any page, as a [`LookupError`]. A part that was refused recently
    /// fails in the same way, without a call.
    pub(super) async fn list(
        mut self,
        request: Request,
        form: &ListForm,
        pager: &Pager,
    ) -> Result<List<Value>, LookupError> {
        let mut list = List::default();
        let mut page = Page::Asked(request.clone());
        for _ in 0..self.session.limits().pages {
            let mut reply = match self.settle(self.ask(&request, &page).await)? {
                CrmReply::Json(reply) => reply,
                CrmReply::Nobody => return Ok(list),
                CrmReply::Partial => {
                    list.complete = false;
                    return Ok(list);
                }
            };
            list.items.extend(self.settle(form.entries(&mut reply))?);
            page = match pager.next(&request, &reply)? {
                Some(next) => next,
                None => return Ok(list),
            };
            self.is_further = true;
        }
        list.complete = false;
        Ok(list)
    }

    async fn ask(&self, first: &Request, page: &Page) -> Result<CrmReply, LookupError> {
        let request = match page {
            Page::Asked(request) => self.session.outgoing(request)?,
            Page::Linked(link) => self.session.next_page(first, link)?,
        };
        self.session.fetch(request, self.kind(), self.part).await
    }

    fn kind(&self) -> CallKind {
        if self.part.is_none() {
            CallKind::Search
        } else {
            CallKind::Other
        }
    }

    /// Remembers a refusal for good. A refused further page is only a failure, because the part
    /// itself was granted.
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

    fn remember(&self, part: DetailsPart<'_>, error: &LookupError) {
        // If the refusal is known already, it was remembered earlier, or another call got it too.
        if self.session.known_refusal(part).is_some() {
            return;
        }
        self.session.refusals().add(part.refused(error), error);
        self.session
            .log_throttle()
            .about_refusal(part.name, error, |suppressed| {
                tracing::warn!(
                    part = part.name,
                    %error,
                    suppressed,
                    "the CRM refuses a part of the contacts; it is left out"
                );
            });
    }
}
