//! How a CRM's list continues: by a link, by a cursor in the reply, or by counting.
//!
//! If the field about further pages cannot be read, that is a failure, because it is unknown
//! whether there are any (`success.rs`).

use serde_json::Value;

use super::path::Path;
use super::request::Request;
use super::success::{SHAPE, is_true, next_number, next_text};
use crate::domain::LookupError;
use crate::domain::json::text;

/// How a list continues.
#[derive(Debug, Clone)]
pub(super) enum Pager {
    /// The reply has a link to the next page. The last page does not have it.
    Link { at: Path },
    /// The `Link` header with `rel="next"` (RFC 8288).
    LinkHeader,
    /// The reply has a text or a number that the next request sends as a parameter. The last page
    /// does not have it. The list also ends if the flag `more` is configured and false.
    Cursor {
        at: Path,
        is_number: bool,
        to: Parameter,
        more: Option<Path>,
    },
    /// The number of entries to skip.
    Offset { to: Parameter, count: PageCount },
    /// The number of the page.
    Page {
        to: Parameter,
        count: PageCount,
        /// The number of the first page.
        first: u64,
    },
}

/// When a list that is paged by counting ends: with a page of fewer entries than this, or if the
/// flag is configured and false.
#[derive(Debug, Clone)]
pub(super) struct PageCount {
    pub(super) size: u64,
    pub(super) more: Option<Path>,
}

/// Where a request says which page is asked for.
#[derive(Debug, Clone)]
pub(super) enum Parameter {
    Query(String),
    /// A member of the body, by the keys that lead to it.
    Body(Vec<String>),
}

/// One page of a list.
#[derive(Debug)]
pub(super) enum Page {
    /// Through a request of the connector.
    Asked(Request),
    /// Through a link of the CRM.
    Linked(String),
}

/// The parts of a reply that decide whether there is a further page.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageReply<'a> {
    pub(super) body: &'a Value,
    /// The target of the `Link` header with `rel="next"`.
    pub(super) link: Option<&'a str>,
    /// Entries of the page.
    pub(super) entries: usize,
}

impl Page {
    /// A text that is the same for the same page.
    pub(super) fn fingerprint(&self) -> String {
        match self {
            Self::Asked(request) => {
                let body = request.json().map(Value::to_string);
                format!("{:?} {}", request.query(), body.unwrap_or_default())
            }
            Self::Linked(link) => link.clone(),
        }
    }
}

/// The cursor of the next page, a text or a number. `more` says whether there is one.
fn next_cursor(
    body: &Value,
    (at, is_number): (&Path, bool),
    more: Option<&Path>,
) -> Result<Option<String>, LookupError> {
    let ended = match more {
        Some(more) => !is_true(body, more)?,
        None => false,
    };
    let cursor = if is_number {
        next_number(body, at)?
    } else {
        next_text(body, at)?
    };
    match cursor {
        _ if ended => Ok(None),
        // The flag announced a page that the reply does not name.
        None if more.is_some() => Err(SHAPE),
        cursor => Ok(cursor),
    }
}

impl Pager {
    /// The page that follows `reply`, which is the reply to `request`.
    ///
    /// # Errors
    /// [`crate::domain::error::BadReply::Shape`] if it cannot be determined whether there is one.
    pub(super) fn next(
        &self,
        request: &Request,
        reply: PageReply<'_>,
    ) -> Result<Option<Page>, LookupError> {
        match self {
            Self::Link { at } => Ok(next_text(reply.body, at)?.map(Page::Linked)),
            Self::LinkHeader => Ok(reply.link.map(|link| Page::Linked(link.to_owned()))),
            Self::Cursor {
                at,
                is_number,
                to,
                more,
            } => {
                let cursor = next_cursor(reply.body, (at, *is_number), more.as_ref())?;
                Ok(cursor.map(|cursor| request.at_page(to, cursor.into())))
            }
            Self::Offset { to, count } => {
                let goes_on = count.goes_on(reply)?;
                if goes_on && reply.entries == 0 {
                    // The same entries would be asked for again.
                    return Err(SHAPE);
                }
                let skipped = request.page(to).unwrap_or(0);
                let next = skipped.saturating_add(reply.entries as u64);
                Ok(goes_on.then(|| request.at_page(to, next.into())))
            }
            Self::Page { to, count, first } => {
                let goes_on = count.goes_on(reply)?;
                let next = request.page(to).unwrap_or(*first).saturating_add(1);
                Ok(goes_on.then(|| request.at_page(to, next.into())))
            }
        }
    }

    /// Whether the page is a member of the body.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(self.parameter(), Some(Parameter::Body(_)))
    }

    /// The parameter of the query that the page goes into.
    pub(super) fn in_query(&self) -> Option<&String> {
        match self.parameter() {
            Some(Parameter::Query(name)) => Some(name),
            Some(Parameter::Body(_)) | None => None,
        }
    }

    /// Where the page goes in a request.
    fn parameter(&self) -> Option<&Parameter> {
        match self {
            Self::Cursor { to, .. } | Self::Offset { to, .. } | Self::Page { to, .. } => Some(to),
            Self::Link { .. } | Self::LinkHeader => None,
        }
    }

    /// How the end is recognised, if entries may be counted for it.
    fn count(&self) -> Option<&PageCount> {
        match self {
            Self::Offset { count, .. } | Self::Page { count, .. } => Some(count),
            Self::Link { .. } | Self::LinkHeader | Self::Cursor { .. } => None,
        }
    }

    /// Entries of a full page, if the pager counts them.
    pub(super) fn size(&self) -> Option<u64> {
        self.count().map(|count| count.size)
    }
}

impl PageCount {
    fn goes_on(&self, reply: PageReply<'_>) -> Result<bool, LookupError> {
        match &self.more {
            Some(more) => is_true(reply.body, more),
            None => Ok(reply.entries as u64 >= self.size && reply.entries > 0),
        }
    }
}

impl Request {
    /// The same request for another page.
    fn at_page(&self, to: &Parameter, page: Value) -> Page {
        Page::Asked(match to {
            Parameter::Query(name) => self.clone().with_parameter(name, text(Some(&page))),
            Parameter::Body(keys) => self.clone().with_member(keys, page),
        })
    }

    /// The page that the request names.
    fn page(&self, to: &Parameter) -> Option<u64> {
        match to {
            Parameter::Query(name) => {
                let (_, value) = self.query().iter().find(|(known, _)| known == name)?;
                value.parse().ok()
            }
            Parameter::Body(keys) => self.member(keys)?.as_u64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::error::BadReply;

    fn parameters(
        pager: &Pager,
        reply: &Value,
        link: Option<&str>,
    ) -> Result<Option<Vec<String>>, LookupError> {
        let request = Request::get(&["contacts"], &[("q", "x"), ("page", "1")]);
        let entries = reply["list"].as_array().map_or(0, Vec::len);
        let reply = PageReply {
            body: reply,
            link,
            entries,
        };
        let page = pager.next(&request, reply)?;
        Ok(page.map(|page| match page {
            Page::Linked(link) => vec![link],
            Page::Asked(request) => {
                let pair = |(name, value): &(String, String)| format!("{name}={value}");
                request.query().iter().map(pair).collect()
            }
        }))
    }

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    fn query(name: &str) -> Parameter {
        Parameter::Query(name.to_owned())
    }

    #[test]
    fn a_list_goes_on_by_link_by_cursor_and_by_counting() {
        let link = Pager::Link { at: path("next") };
        let cursor = |more: Option<&str>| Pager::Cursor {
            at: path("next"),
            is_number: more.is_some(),
            to: query("cursor"),
            more: more.map(path),
        };
        let count = |more: Option<&str>| PageCount {
            size: 2,
            more: more.map(path),
        };
        let offset = Pager::Offset {
            to: query("skip"),
            count: count(None),
        };
        let page = |more| Pager::Page {
            to: query("page"),
            count: count(more),
            first: 1,
        };
        let pages = |texts: &[&str]| Ok(Some(texts.iter().map(|&text| text.to_owned()).collect()));
        let shape = || Err(LookupError::CrmBadReply(BadReply::Shape));
        let full = json!({"list": [1, 2]});
        for (pager, reply, expected) in [
            (link.clone(), json!({"next": "/p2"}), pages(&["/p2"])),
            (link.clone(), json!({"next": ""}), Ok(None)),
            (link, json!({"next": true}), shape()),
            (
                cursor(None),
                json!({"next": "c"}),
                pages(&["q=x", "page=1", "cursor=c"]),
            ),
            (cursor(None), json!({"next": 9}), shape()),
            (
                cursor(Some("more")),
                json!({"next": "9", "more": true}),
                shape(),
            ),
            (cursor(None), json!({}), Ok(None)),
            (
                cursor(Some("more")),
                json!({"next": 9, "more": true}),
                pages(&["q=x", "page=1", "cursor=9"]),
            ),
            (
                cursor(Some("more")),
                json!({"next": 9, "more": false}),
                Ok(None),
            ),
            (cursor(Some("more")), json!({"next": 9}), Ok(None)),
            (cursor(Some("more")), json!({"more": true}), shape()),
            (cursor(Some("more")), json!({"next": 9, "more": 1}), shape()),
            (
                offset.clone(),
                full.clone(),
                pages(&["q=x", "page=1", "skip=2"]),
            ),
            (offset, json!({"list": [1]}), Ok(None)),
            (page(None), full.clone(), pages(&["q=x", "page=2"])),
            (
                page(Some("more")),
                json!({"list": [1], "more": true}),
                pages(&["q=x", "page=2"]),
            ),
            (
                page(Some("more")),
                json!({"list": [], "more": true}),
                pages(&["q=x", "page=2"]),
            ),
            (page(Some("more")), full, Ok(None)),
        ] {
            assert_eq!(
                parameters(&pager, &reply, None),
                expected,
                "{pager:?} {reply}"
            );
        }
        let header = parameters(&Pager::LinkHeader, &json!({}), Some("/p2"));
        assert_eq!(header, pages(&["/p2"]));
        assert_eq!(parameters(&Pager::LinkHeader, &json!({}), None), Ok(None));
    }

    #[test]
    fn a_page_in_the_body_keeps_its_type() {
        let read = super::super::request::ReadByPost::declare(&["search"]);
        let request = Request::read_by_post(&read, json!({"a": {"page": 1}}));
        let pager = Pager::Page {
            to: Parameter::Body(vec!["a".to_owned(), "page".to_owned()]),
            count: PageCount {
                size: 1,
                more: None,
            },
            first: 1,
        };
        let reply = PageReply {
            body: &Value::Null,
            link: None,
            entries: 1,
        };
        let Ok(Some(Page::Asked(next))) = pager.next(&request, reply) else {
            panic!("no page");
        };
        assert_eq!(next.json(), Some(&json!({"a": {"page": 2}})));
    }
}
