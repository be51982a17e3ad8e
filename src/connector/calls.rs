//! The calls of a find for one purpose: the search, or one part of a contact's details.

use std::collections::HashSet;

use serde_json::Value;

use super::exchange::CrmReply;
use super::pages::{Page, PageReply, Pager};
use super::part::DetailsPart;
use super::record::List;
use super::refusals;
use super::request::Request;
use super::session::CrmSession;
use super::success::ListForm;
use super::witness::Event;
use crate::budget::CallKind;
use crate::domain::LookupError;
use crate::domain::error::BadReply;

/// Calls for one purpose. A part of the details that the CRM refused for good is not requested
/// again for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls<'a> {
    session: &'a CrmSession,
    kind: CallKind,
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
            CrmReply::Json { body, .. } => Ok(body),
            CrmReply::Nobody | CrmReply::Partial => Ok(Value::Null),
        }
    }

    /// Calls that an answer cannot do without.
    pub(super) fn search(&self) -> Calls<'_> {
        Calls {
            session: self,
            kind: CallKind::Search,
            part: None,
            is_further: false,
        }
    }

    /// Calls of a search that the CRM may refuse for good. If it does, the answer is complete
    /// without the search. If the search is made once for each of several values, `value` is the
    /// one that these calls are for.
    pub(super) fn optional_search<'a>(
        &'a self,
        name: &'a str,
        value: Option<&'a str>,
    ) -> Calls<'a> {
        Calls {
            kind: CallKind::Search,
            ..self.part(name, value)
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
            kind: CallKind::Other,
            part: Some(part),
            is_further: false,
        }
    }
}

impl Calls<'_> {
    /// Reads all pages of a list, up to the session's limit. Without a pager there is one page.
    ///
    /// # Errors
    /// Any failure of a CRM, on any page, as a [`LookupError`]. A part that was refused recently
    /// fails in the same way, without a call.
    pub(super) async fn list(
        self,
        request: Request,
        form: &ListForm,
        pager: Option<&Pager>,
    ) -> Result<List<Value>, LookupError> {
        let mut items = Vec::new();
        let take = |body: &mut Value| {
            let entries = form.entries(body)?;
            items.extend(entries.items);
            Ok(entries.count)
        };
        let list = self.pages(request, pager, take).await?;
        Ok(list.with(items))
    }

    /// Reads all pages, up to the session's limit. `take` reads each of them, and returns how many
    /// entries it has. `take` keeps the entries; the returned list has none.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(super) async fn pages(
        mut self,
        request: Request,
        pager: Option<&Pager>,
        mut take: impl FnMut(&mut Value) -> Result<usize, LookupError>,
    ) -> Result<List<Value>, LookupError> {
        let mut list = List::default();
        let (mut last, mut page) = (request.clone(), Page::Asked(request.clone()));
        let mut asked = HashSet::new();
        for _ in 0..self.session.limits().pages {
            let reply = self.settle(self.ask(&request, &page).await)?;
            let next = self.settle(take_page(&mut list, reply, &mut take, (&last, pager)))?;
            let Some(next) = next else { return Ok(list) };
            if !asked.insert(next.fingerprint()) {
                break;
            }
            if let Page::Asked(request) = &next {
                last = request.clone();
            }
            (page, self.is_further) = (next, true);
        }
        list.complete = false;
        Ok(list)
    }

    /// Shows something to the session's witness.
    pub(super) fn show<'e>(&self, event: impl FnOnce() -> Event<'e>) {
        self.session.show(event);
    }

    async fn ask(&self, first: &Request, page: &Page) -> Result<CrmReply, LookupError> {
        let request = match page {
            Page::Asked(request) => self.session.outgoing(request)?,
            Page::Linked(link) => self.session.next_page(first, link)?,
        };
        self.session.fetch(request, self.kind, self.part).await
    }

    /// Remembers a permanent refusal. If a further page is refused, that is only a failure, because
    /// the part itself was granted.
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
        // The failure may be that of another search.
        if self.kind == CallKind::Search && self.session.find.stopped.get().is_some() {
            return;
        }
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
                    "the CRM refuses a part of the contacts, or of their details; answers leave that part out"
                );
            });
    }
}

/// If nothing is known of a CRM's pages, a list with at least this many entries may have been cut
/// to one page.
const SMALL_PAGE: usize = 10;

/// Reads a page, and returns the next one.
fn take_page(
    list: &mut List<Value>,
    reply: CrmReply,
    take: &mut impl FnMut(&mut Value) -> Result<usize, LookupError>,
    (request, pager): (&Request, Option<&Pager>),
) -> Result<Option<Page>, LookupError> {
    let (mut body, link) = match reply {
        CrmReply::Json { body, next } => (body, next),
        CrmReply::Nobody => return Ok(None),
        CrmReply::Partial => {
            list.complete = false;
            return Ok(None);
        }
    };
    let entries = take(&mut body)?;
    let Some(pager) = pager else {
        list.full_page |= entries >= SMALL_PAGE;
        return Ok(None);
    };
    let reply = PageReply {
        body: &body,
        link: link.as_deref(),
        entries,
    };
    let next = pager.next(request, reply)?;
    let is_full = pager.size().is_some_and(|size| entries as u64 >= size);
    list.full_page |= next.is_some() || is_full;
    Ok(next)
}
