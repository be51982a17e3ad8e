//! Searches a CRM as its file says.

use futures_util::future::join_all;
use serde_json::Value;

use super::FileConnector;
use super::fill::SlotScope;
use super::plan::{NumberUse, SearchRequest};
use super::run::{MOST_EACH, scope_of};
use crate::connector::calls::Calls;
use crate::connector::path::Path;
use crate::connector::record::{List, Record, joined};
use crate::connector::success::{ListShape, SHAPE};
use crate::connector::{CrmSession, NumberSearch, refusals};
use crate::domain::error::BadReply;
use crate::domain::json::from_value;
use crate::domain::user::Settings;
use crate::domain::{Extension, LookupError};

impl FileConnector {
    /// Asks for one spelling of a number, with all searches that depend on it.
    pub(super) async fn search_number(
        &self,
        crm: &CrmSession,
        search: NumberSearch<'_>,
    ) -> Result<List<Record>, LookupError> {
        let numbers = [search.variants()];
        let scope = SlotScope {
            numbers: &numbers,
            at: search.variant(),
            formats: search.formats(),
            ..scope_of(crm)
        };
        let is_party = |phones: &[String]| search.is_in(phones);
        let mut chosen = self.chosen(crm).peekable();
        if chosen.peek().is_none() {
            return Ok(List::unasked());
        }
        let due = chosen.filter(|plan| is_due(plan, &search));
        let (now, if_empty): (Vec<_>, Vec<_>) = due.partition(|plan| !plan.only_if_empty);
        let now = now.into_iter();
        let now = now.map(|plan| self.run(crm, plan, &scope, &is_party));
        let mut found = joined(crm.all(now).await?);
        for plan in if_empty {
            if may_have_party(&found, &is_party) {
                break;
            }
            let more = self.run(crm, plan, &scope, &is_party).await?;
            found = joined(vec![found, more]);
        }
        Ok(found)
    }

    /// The searches that the user's settings select.
    pub(super) fn chosen<'a>(
        &'a self,
        crm: &'a CrmSession,
    ) -> impl Iterator<Item = &'a SearchRequest> {
        let searches = self.plan.searches.iter();
        searches.filter(|plan| plan.is_chosen(crm.settings()))
    }

    /// Asks for an extension. The CRM compares it itself.
    pub(super) async fn search_extension(
        &self,
        crm: &CrmSession,
        extension: Extension,
    ) -> Result<List<Record>, LookupError> {
        let digits = extension.to_string();
        let scope = SlotScope {
            extension: Some(&digits),
            ..scope_of(crm)
        };
        let searches = self.plan.searches.iter();
        let searches = searches.map(|plan| self.run(crm, plan, &scope, &|_: &[String]| true));
        Ok(joined(crm.all(searches).await?))
    }

    /// One search, once for each value of its `for`.
    async fn run(
        &self,
        crm: &CrmSession,
        plan: &SearchRequest,
        scope: &SlotScope<'_>,
        is_party: &(impl Fn(&[String]) -> bool + Sync),
    ) -> Result<List<Record>, LookupError> {
        let rounds = plan.request.rounds(scope);
        let lists = rounds.iter().take(MOST_EACH).map(|round| async {
            let scope = plan.request.in_round(scope, round.as_ref());
            self.round(crm, plan, &scope, is_party).await
        });
        let lists: Result<Vec<_>, LookupError> = join_all(lists).await.into_iter().collect();
        let mut found = joined(lists?);
        found.complete &= !plan.request.is_cut(&rounds);
        Ok(found)
    }

    async fn round(
        &self,
        crm: &CrmSession,
        plan: &SearchRequest,
        scope: &SlotScope<'_>,
        is_party: &(impl Fn(&[String]) -> bool + Sync),
    ) -> Result<List<Record>, LookupError> {
        let mut records = self.read(crm, plan, scope, is_refused).await?;
        plan.check_filter(&mut records, is_party)?;
        plan.keep_others(&mut records, is_party);
        Ok(records)
    }

    /// The records of one request.
    pub(super) async fn read(
        &self,
        crm: &CrmSession,
        plan: &SearchRequest,
        scope: &SlotScope<'_>,
        is_left_out: fn(&LookupError) -> bool,
    ) -> Result<List<Record>, LookupError> {
        let list = match plan.request.list(plan.calls(crm, scope), scope).await {
            Ok(list) => list,
            Err(error) if plan.optional.is_some() && is_left_out(&error) => {
                return Ok(List::default());
            }
            Err(error) => return Err(error),
        };
        if !plan.has_columns(&list.items) {
            return Err(SHAPE);
        }
        let mut records = list
            .read(|item| plan.record(scope, item, &self.plan.kept))
            .await;
        plan.drop_without_phones(&mut records);
        Ok(records)
    }
}

/// Whether a record may be the party. One that has only other numbers will be dropped.
fn may_have_party(found: &List<Record>, is_party: &impl Fn(&[String]) -> bool) -> bool {
    let mut records = found.items.iter();
    records.any(|record| record.phones.is_empty() || is_party(&record.phones))
}

/// A refusal for good. An unknown field is 400 in many CRMs.
pub(super) fn is_refused(error: &LookupError) -> bool {
    refusals::is_lasting(error) || *error == LookupError::CrmBadReply(BadReply::Status(400))
}

/// Whether a search has to be made for this spelling. Not if the same search was already made for
/// an earlier spelling.
fn is_due(plan: &SearchRequest, search: &NumberSearch<'_>) -> bool {
    match plan.depends {
        NumberUse::Nothing | NumberUse::Lists => search.is_first(),
        NumberUse::Number => search.is_new_form(),
        NumberUse::Text => true,
    }
}

impl SearchRequest {
    /// Its calls. A refusal may be about one value of a `for`.
    fn calls<'a>(&'a self, crm: &'a CrmSession, scope: &SlotScope<'a>) -> Calls<'a> {
        let value = scope.each.map(|(_, value)| value);
        match &self.optional {
            Some(name) => crm.optional_search(name, value),
            None => crm.search(),
        }
    }

    /// Drops records without a phone field if the search is for a phone field: the CRM may have
    /// ignored the filter.
    fn drop_without_phones(&self, records: &mut List<Record>) {
        if self.is_exact && self.phones.is_some() {
            records.items.retain(|record| !record.phones.is_empty());
        }
    }

    /// Whether the user's settings choose this search, or choose nothing.
    fn is_chosen(&self, settings: &Settings) -> bool {
        let Some((name, word)) = &self.if_among else {
            return true;
        };
        let words = match settings.get(name).map(from_value) {
            Some(Value::Array(words)) => words,
            Some(Value::String(word)) if !word.is_empty() => vec![word.into()],
            _ => return true,
        };
        words.is_empty() || words.iter().any(|it| it.as_str() == Some(word))
    }

    /// If the file does not say that records show all their numbers, a record with another number
    /// in its phone field is kept as not verified.
    fn keep_others(&self, records: &mut List<Record>, is_party: &impl Fn(&[String]) -> bool) {
        for record in &mut records.items {
            if self.keeps_others && !is_party(&record.phones) {
                record.phones.clear();
            }
        }
    }

    /// Whether a table has a column with phone numbers. Without it, the search would seem to find
    /// nobody.
    pub(super) fn has_columns(&self, rows: &[Value]) -> bool {
        let row = rows.iter().find(|row| row.is_object());
        match row {
            Some(row) if self.request.list.shape == ListShape::Table => self.has_phone_in(row),
            _ => true,
        }
    }

    fn has_phone_in(&self, row: &Value) -> bool {
        let phones = self.phones.iter().flatten();
        let mut columns = phones.filter_map(Path::split_first_key);
        columns.any(|(column, _)| row.get(&column).is_some())
    }

    /// A full page on which nobody has the number shows that the CRM did not search for it: it may
    /// ignore a filter that it does not know, and list everybody. That must not become "nobody".
    ///
    /// # Errors
    /// [`BadReply::Filter`] if the filter is exact. A fuzzy search may find many others, so it only
    /// makes the answer incomplete.
    fn check_filter(
        &self,
        records: &mut List<Record>,
        is_party: &impl Fn(&[String]) -> bool,
    ) -> Result<(), LookupError> {
        let lists_everybody = self.depends == NumberUse::Nothing;
        if lists_everybody || !records.full_page || self.phones.is_none() || self.keeps_others {
            return Ok(());
        }
        if records.items.iter().any(|record| is_party(&record.phones)) {
            return Ok(());
        }
        if self.is_exact {
            return Err(LookupError::CrmBadReply(BadReply::Filter));
        }
        records.complete = false;
        Ok(())
    }
}
