//! Searches for many numbers in one call.
//!
//! Records are assigned to numbers by their phone fields and by nothing else. A number that has no
//! record is proven absent only by a complete reply; otherwise it is searched alone.

use std::ops::Range;

use futures_util::future::join_all;

use super::FileConnector;
use super::fill::SlotScope;
use super::plan::{BatchLimits, NumberUse, SearchRequest};
use super::run::scope_of;
use super::search::is_refused;
use crate::connector::cpu_share::CpuShare;
use crate::connector::group::GroupResult;
use crate::connector::record::{List, Record, joined};
use crate::connector::refusals::{self, TOO_MUCH, is_about_size};
use crate::connector::{CrmSession, NumberSearch};
use crate::domain::error::BadReply;
use crate::domain::{LookupError, Variants};

impl FileConnector {
    /// Asks for all these numbers, in as few calls as the limits of the searches allow.
    pub(super) async fn search_numbers(
        &self,
        crm: &CrmSession,
        searches: &[NumberSearch<'_>],
    ) -> Result<Vec<GroupResult>, LookupError> {
        let (now, if_empty): (Vec<_>, Vec<_>) =
            self.chosen(crm).partition(|plan| !plan.only_if_empty);
        if now.is_empty() {
            // Each number is searched for alone, and that search reports that no request was made.
            return Ok(searches.iter().map(|_| GroupResult::Alone).collect());
        }
        let nothing = || GroupResult::Found(List::default());
        let mut results: Vec<GroupResult> = searches.iter().map(|_| nothing()).collect();
        let now = now.into_iter().map(|plan| self.many(crm, plan, searches));
        for found in crm.all(now).await? {
            add_all(&mut results, found);
        }
        for plan in if_empty {
            self.many_if_empty(crm, plan, searches, &mut results)
                .await?;
        }
        Ok(results)
    }

    /// One more search, for the numbers without a contact so far.
    async fn many_if_empty(
        &self,
        crm: &CrmSession,
        plan: &SearchRequest,
        searches: &[NumberSearch<'_>],
        results: &mut [GroupResult],
    ) -> Result<(), LookupError> {
        let both = searches.iter().zip(results.iter_mut());
        let empty = both.filter(|(_, result)| result.is_empty());
        let (asked, results): (Vec<NumberSearch<'_>>, Vec<_>) = empty.unzip();
        if !asked.is_empty() {
            add_all(results, self.many(crm, plan, &asked).await?);
        }
        Ok(())
    }

    /// One search for all numbers. A group that is too large for the CRM is halved, down to single
    /// numbers.
    async fn many(
        &self,
        crm: &CrmSession,
        plan: &SearchRequest,
        searches: &[NumberSearch<'_>],
    ) -> Result<Vec<GroupResult>, LookupError> {
        let mut results: Vec<GroupResult> = searches.iter().map(|_| GroupResult::Alone).collect();
        let (mut todo, mut refused) = (vec![all_of(searches)], 0);
        while let Some(range) = todo.pop() {
            match self.part(crm, plan, &searches[range.clone()]).await {
                Ok(found) => {
                    results.splice(range, found);
                }
                // A single number is searched alone, where its failure is reported.
                Err(error) if is_about_size(&error) => {
                    refused += usize::from(error != TOO_MUCH);
                    if refused > MOST_REFUSED {
                        break;
                    }
                    // The first half is next.
                    todo.extend(halves(range).into_iter().rev());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(results)
    }

    /// A search for a part of the numbers.
    ///
    /// # Errors
    /// [`TOO_MUCH`] if they do not fit into a request.
    async fn part(
        &self,
        crm: &CrmSession,
        plan: &SearchRequest,
        part: &[NumberSearch<'_>],
    ) -> Result<Vec<GroupResult>, LookupError> {
        if !plan.fits(crm, part) {
            return Err(TOO_MUCH);
        }
        let records = self.records(crm, plan, part).await?;
        plan.mapped(records, part).await
    }

    async fn records(
        &self,
        crm: &CrmSession,
        plan: &SearchRequest,
        part: &[NumberSearch<'_>],
    ) -> Result<List<Record>, LookupError> {
        let numbers: Vec<&Variants> = part.iter().map(NumberSearch::variants).collect();
        let scope = SlotScope {
            numbers: &numbers,
            ..scope_of(crm)
        };
        let rounds = plan.request.rounds(&scope);
        // For a group, "bad request" may be about its size or about one number.
        let is_left_out = if part.len() > 1 {
            refusals::is_lasting
        } else {
            is_refused
        };
        let lists = rounds.iter().map(|round| async {
            let scope = plan.request.in_round(&scope, round.as_ref());
            self.read(crm, plan, &scope, is_left_out).await
        });
        // The size of the group may be the only reason for a failure here, so the find has not
        // failed yet.
        let lists: Result<Vec<_>, LookupError> = join_all(lists).await.into_iter().collect();
        Ok(joined(lists?))
    }
}

fn add_all<'r>(results: impl IntoIterator<Item = &'r mut GroupResult>, more: Vec<GroupResult>) {
    let results = results.into_iter().zip(more);
    results.for_each(|(so_far, more)| so_far.add(more));
}

fn all_of<T>(items: &[T]) -> Range<usize> {
    0..items.len()
}

/// Refusals after which the rest of a group is searched one by one.
const MOST_REFUSED: usize = 4;

/// The halves of a range; none of a single number.
fn halves(range: Range<usize>) -> Vec<Range<usize>> {
    if range.len() < 2 {
        return Vec::new();
    }
    let middle = range.start + range.len() / 2;
    vec![range.start..middle, middle..range.end]
}

impl BatchLimits {
    fn hold(self, plan: &SearchRequest, scope: &SlotScope<'_>, crm: &CrmSession) -> bool {
        let Some(request) = plan.request.render(scope) else {
            return true;
        };
        plan.request.most_values(scope) <= self.values
            && self.fit(&request)
            && crm.outgoing(&request).is_ok()
    }
}

impl SearchRequest {
    /// Whether a request for these numbers stays within the search's limits.
    fn fits(&self, crm: &CrmSession, part: &[NumberSearch<'_>]) -> bool {
        let Some(limits) = self.batch else {
            return false;
        };
        let numbers: Vec<&Variants> = part.iter().map(NumberSearch::variants).collect();
        let scope = SlotScope {
            numbers: &numbers,
            ..scope_of(crm)
        };
        let rounds = self.request.rounds(&scope);
        rounds.iter().all(|round| {
            let scope = self.request.in_round(&scope, round.as_ref());
            limits.hold(self, &scope, crm)
        })
    }

    /// The records of each number.
    ///
    /// # Errors
    /// [`BadReply::Filter`] if an exact filter was not applied.
    async fn mapped(
        &self,
        records: List<Record>,
        part: &[NumberSearch<'_>],
    ) -> Result<Vec<GroupResult>, LookupError> {
        let lists = lists_of(&records.items, part).await;
        let any = lists.iter().any(|list| !list.items.is_empty());
        if records.full_page && !any && self.is_exact {
            return Err(LookupError::CrmBadReply(BadReply::Filter));
        }
        // If the CRM has ignored the filter, a full page does not show that nobody has a number.
        let is_filtered = any || self.depends == NumberUse::Nothing || !records.full_page;
        let result = if is_filtered && is_whole(&records) {
            GroupResult::Found
        } else {
            |_| GroupResult::Alone
        };
        Ok(lists.into_iter().map(result).collect())
    }
}

/// The records of each number, by their phone fields.
async fn lists_of(records: &[Record], part: &[NumberSearch<'_>]) -> Vec<List<Record>> {
    let mut lists: Vec<List<Record>> = part.iter().map(|_| List::default()).collect();
    let mut share = CpuShare::begin();
    for record in records {
        for (list, search) in lists.iter_mut().zip(part) {
            share.yield_if_used().await;
            if search.is_in(&record.phones) {
                list.items.push(record.clone());
            }
        }
    }
    lists
}

/// Whether nobody can be missing. A record without phone fields may be anybody's.
fn is_whole(records: &List<Record>) -> bool {
    let mut phones = records.items.iter().map(|record| &record.phones);
    records.complete && !records.unasked && !phones.any(Vec::is_empty)
}

impl GroupResult {
    /// Whether nobody was found, for certain.
    fn is_empty(&self) -> bool {
        matches!(self, Self::Found(list) if list.items.is_empty())
    }

    /// Adds what another search found for the same number.
    fn add(&mut self, more: Self) {
        match (&mut *self, more) {
            (Self::Found(list), Self::Found(more)) => list.items.extend(more.items),
            _ => *self = Self::Alone,
        }
    }
}
