//! What connectors read from a CRM's replies: lists, records, details.

use std::fmt;

use serde_json::{Map, Value};

use super::cpu_share::CpuShare;
use super::log_throttle::LogThrottle;
use super::refusals;
use crate::domain::{Contact, LookupError};

/// Items of a CRM's list.
#[derive(Debug)]
pub(crate) struct List<T> {
    /// In the CRM's order.
    pub(crate) items: Vec<T>,
    /// False if some are missing: pages beyond the limit, or a part that the CRM could not give.
    pub(crate) complete: bool,
    /// Whether the reply had a full page. If no entry of it is the party, the CRM may have listed
    /// everybody.
    pub(crate) full_page: bool,
    /// Whether nothing was asked, because a request could not be written for these values.
    pub(crate) unasked: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            complete: true,
            full_page: false,
            unasked: false,
        }
    }
}

impl<T> List<T> {
    /// Converts each item, and lets other tasks run in between.
    pub(super) async fn read<U>(mut self, read: impl Fn(&T) -> U) -> List<U> {
        let (mut items, mut share) = (Vec::with_capacity(self.items.len()), CpuShare::begin());
        // Each item is dropped once it is converted: dropping all at once takes long as well.
        for item in std::mem::take(&mut self.items) {
            share.yield_if_used().await;
            items.push(read(&item));
        }
        self.with(items)
    }

    /// The same items, each converted.
    pub(super) fn map<U>(mut self, become_: impl FnMut(T) -> U) -> List<U> {
        let items = std::mem::take(&mut self.items).into_iter();
        self.with(items.map(become_).collect())
    }

    /// What is known of the list, with other items.
    pub(super) fn with<U>(&self, items: Vec<U>) -> List<U> {
        List {
            items,
            complete: self.complete,
            full_page: self.full_page,
            unasked: self.unasked,
        }
    }

    /// A complete list.
    pub(super) fn of(items: Vec<T>) -> Self {
        Self {
            items,
            ..Self::default()
        }
    }

    /// An empty list for which no request was made.
    pub(super) fn unasked() -> Self {
        Self {
            unasked: true,
            ..Self::default()
        }
    }
}

/// Lists in their order as one.
pub(super) fn joined<T>(lists: Vec<List<T>>) -> List<T> {
    let mut all = List::default();
    let mut unasked = !lists.is_empty();
    for list in lists {
        all.items.extend(list.items);
        all.complete &= list.complete;
        all.full_page |= list.full_page;
        unasked &= list.unasked;
    }
    all.unasked = unasked;
    all
}

/// One record of a search.
#[derive(Clone)]
pub(crate) struct Record {
    /// The contact; its quality is judged later.
    pub(crate) contact: Contact,
    /// The phone fields that the CRM shows, as stored there. Empty if it shows none.
    pub(crate) phones: Vec<String>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("phones", &self.phones.len())
            .finish_non_exhaustive()
    }
}

/// The details of one contact, as far as they could be loaded.
#[derive(Debug)]
pub(crate) struct Enrichment {
    /// Choices by field name.
    pub(crate) info: Map<String, Value>,
    /// False if a part is missing.
    pub(crate) complete: bool,
    /// Whether a request for fewer contacts may bring what is missing.
    pub(crate) was_too_much: bool,
}

impl Default for Enrichment {
    fn default() -> Self {
        Self {
            info: Map::new(),
            complete: true,
            was_too_much: false,
        }
    }
}

impl Enrichment {
    /// Adds the choices of one field. A field without choices is left out, and so is one that the
    /// CRM refuses for good. A failure makes the enrichment incomplete and is logged.
    pub(super) fn add(
        &mut self,
        log_throttle: &LogThrottle,
        field: &str,
        choices: Result<List<Value>, LookupError>,
    ) {
        match choices {
            Ok(choices) => {
                self.complete &= choices.complete;
                self.was_too_much |= !choices.complete;
                if !choices.items.is_empty() {
                    self.info
                        .insert(field.to_owned(), Value::Array(choices.items));
                }
            }
            Err(error) if refusals::is_lasting(&error) => {}
            Err(error) => {
                log_throttle.about(field, &error, |suppressed| {
                    tracing::warn!(field, %error, suppressed, "a part of the contact could not be loaded");
                });
                self.complete = false;
                self.was_too_much |= refusals::is_about_size(&error);
            }
        }
    }
}
