//! Reads how a list continues.

use super::super::keys;
use super::super::tree::NodeValue;
use super::field::Field;
use super::table::Table;
use crate::connector::pages::{PageCount, Pager, Parameter};
use crate::connector::path::Path;

/// Reads `pages`. `None` for false.
pub(super) fn pager(field: Field<'_>) -> Option<Pager> {
    if matches!(field.value(), NodeValue::Bool(false)) {
        return None;
    }
    let table = field.table(&[keys::PAGES])?;
    let reader = PagesReader {
        more: table.path("more"),
        table,
    };
    reader.pager()
}

struct PagesReader<'n> {
    table: Table<'n>,
    /// Where the reply says whether there is a further page.
    more: Option<Path>,
}

impl PagesReader<'_> {
    fn pager(self) -> Option<Pager> {
        if let Some(link) = self.table.get("link") {
            by_link(link)
        } else if let Some(cursor) = self.table.get("cursor") {
            self.by_cursor(cursor)
        } else if self.table.has("offset") {
            self.by_offset()
        } else if self.table.has("page") {
            self.by_page()
        } else {
            self.table.reject("needs link, cursor, offset or page")
        }
    }

    fn by_cursor(self, cursor: Field<'_>) -> Option<Pager> {
        let at = cursor.path()?;
        let Some(to) = self.parameter("as") else {
            return self
                .table
                .reject("needs the key `as`, which says where the cursor goes");
        };
        Some(Pager::Cursor {
            at,
            is_number: self.table.switch("number"),
            to,
            more: self.more,
        })
    }

    fn by_offset(self) -> Option<Pager> {
        Some(Pager::Offset {
            to: self.parameter("offset")?,
            count: self.count(),
        })
    }

    fn by_page(self) -> Option<Pager> {
        Some(Pager::Page {
            to: self.parameter("page")?,
            first: self.first().unwrap_or(1),
            count: self.count(),
        })
    }

    fn first(&self) -> Option<u64> {
        self.table.get("first")?.value().whole_number()
    }

    fn parameter(&self, key: &str) -> Option<Parameter> {
        parameter(self.table.get(key)?)
    }

    /// How the end of the list is recognised.
    fn count(self) -> PageCount {
        let size = self.table.count("size");
        if size.is_none() && self.more.is_none() {
            let message = "needs size, the entries of a full page, or more";
            self.table.fault(message);
        }
        PageCount {
            size: size.unwrap_or(u64::MAX),
            more: self.more,
        }
    }
}

fn by_link(link: Field<'_>) -> Option<Pager> {
    match link.text()? {
        "header" => Some(Pager::LinkHeader),
        _ => Some(Pager::Link { at: link.path()? }),
    }
}

fn parameter(field: Field<'_>) -> Option<Parameter> {
    match field.text()?.split_once('.') {
        Some(("query", name)) => Some(Parameter::Query(name.to_owned())),
        Some(("body", keys)) => Some(in_body(keys)),
        _ => field.reject("must be query.NAME or body.PATH"),
    }
}

fn in_body(keys: &str) -> Parameter {
    Parameter::Body(keys.split('.').map(str::to_owned).collect())
}
