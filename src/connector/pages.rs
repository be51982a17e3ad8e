//! How a CRM's list continues: by a link, a cursor, or an offset in the reply.
//!
//! Defines the three forms. If the field about further pages cannot be read, that is a failure,
//! because it is unknown whether there are any (`success.rs`).

use std::borrow::Cow;

use serde_json::Value;

use super::request::Request;
use super::success::{is_true, next_number, next_text};
use crate::domain::LookupError;
use crate::domain::error::BadReply;

/// How a reply says that its list continues. Positions are JSON pointers.
#[derive(Debug, Clone)]
pub(super) enum Pager {
    /// A link to the next page, absent on the last one.
    Link { at: Cow<'static, str> },
    /// A text for a request parameter, absent on the last page.
    Cursor {
        at: Cow<'static, str>,
        parameter: Cow<'static, str>,
    },
    /// A number for a request parameter: the next page or its first item. The list ends if the
    /// number is absent, or if the flag `more` is configured and false.
    Offset {
        at: Cow<'static, str>,
        parameter: Cow<'static, str>,
        more: Option<Cow<'static, str>>,
    },
}

/// One page of a list.
#[derive(Debug)]
pub(super) enum Page {
    /// Through a request of the connector.
    Asked(Request),
    /// Through a link of the CRM.
    Linked(String),
}

impl Pager {
    /// The page after `reply`, in the list that `request` asks for.
    ///
    /// # Errors
    /// [`BadReply::Shape`] if it cannot be determined whether there is one.
    pub(super) fn next(
        &self,
        request: &Request,
        reply: &Value,
    ) -> Result<Option<Page>, LookupError> {
        let with = |parameter: &str, value: String| {
            Page::Asked(request.clone().with_parameter(parameter, value))
        };
        match self {
            Self::Link { at } => Ok(next_text(reply, at)?.map(Page::Linked)),
            Self::Cursor { at, parameter } => {
                let cursor = next_text(reply, at)?;
                Ok(cursor.map(|cursor| with(parameter, cursor)))
            }
            Self::Offset {
                at,
                parameter,
                more,
            } => {
                let offset = offset(reply, at, more.as_deref())?;
                Ok(offset.map(|offset| with(parameter, offset)))
            }
        }
    }
}

/// The next offset. If the CRM has a flag for further pages and it is set, the offset is required.
fn offset(reply: &Value, at: &str, more: Option<&str>) -> Result<Option<String>, LookupError> {
    match more {
        None => next_number(reply, at),
        Some(more) if is_true(reply, more)? => {
            let missing = LookupError::CrmBadReply(BadReply::Shape);
            next_number(reply, at)?.ok_or(missing).map(Some)
        }
        Some(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameters(pager: &Pager, reply: &Value) -> Result<Option<Vec<String>>, LookupError> {
        let request = Request::get(&["contacts"], &[("q", "x"), ("page", "1")]);
        let page = pager.next(&request, reply)?;
        Ok(page.map(|page| match page {
            Page::Linked(link) => vec![link],
            Page::Asked(request) => {
                let pair = |(name, value): &(String, String)| format!("{name}={value}");
                request.query().iter().map(pair).collect()
            }
        }))
    }

    #[test]
    fn a_list_goes_on_by_link_by_cursor_and_by_offset() {
        let link = Pager::Link { at: "/next".into() };
        let cursor = Pager::Cursor {
            at: "/next".into(),
            parameter: "cursor".into(),
        };
        let page = Pager::Offset {
            at: "/next".into(),
            parameter: "page".into(),
            more: None,
        };
        let start = Pager::Offset {
            at: "/next".into(),
            parameter: "start".into(),
            more: Some("/more".into()),
        };
        let pages = |texts: &[&str]| Ok(Some(texts.iter().map(|&text| text.to_owned()).collect()));
        let shape = || Err(LookupError::CrmBadReply(BadReply::Shape));
        for (pager, reply, expected) in [
            (&link, json!({"next": "/p2"}), pages(&["/p2"])),
            (&link, json!({"next": ""}), Ok(None)),
            (&link, json!({"next": 2}), shape()),
            (
                &cursor,
                json!({"next": "c"}),
                pages(&["q=x", "page=1", "cursor=c"]),
            ),
            (&cursor, json!({}), Ok(None)),
            (&page, json!({"next": 2}), pages(&["q=x", "page=2"])),
            (&page, json!({"next": null}), Ok(None)),
            (&page, json!({"next": "2"}), shape()),
            (
                &start,
                json!({"next": 9, "more": true}),
                pages(&["q=x", "page=1", "start=9"]),
            ),
            (&start, json!({"next": 9, "more": false}), Ok(None)),
            (&start, json!({"next": 9}), Ok(None)),
            (&start, json!({"more": true}), shape()),
        ] {
            assert_eq!(parameters(pager, &reply), expected, "{pager:?} {reply}");
        }
    }
}
