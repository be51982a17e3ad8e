//! Searches for many numbers in one call.
//!
//! Records go back to numbers by their phone fields and by nothing else. A number that has no record
//! is proven absent only by a complete reply; otherwise it is searched alone.

use std::ops::Range;

use futures_util::future::try_join_all;

use super::FileConnector;
use super::fill::SlotScope;
use super::plan::{BatchLimits, NumberUse, SearchRequest};
use super::run::scope_of;
use super::search::is_refused;
use crate::connector::cpu_share::CpuShare;
use crate::connector::group::GroupResult;
use crate::connector::record::{List, Record};
use crate::connector::{CrmSession, NumberSearch, refusals};
use crate::domain::error::BadReply;
use crate::domain::{LookupError, Variants};

impl FileConnector {
    /// Asks for all these numbers, in as few calls as the limits of the searches allow.
    pub(super) async fn search_numbers(
        &self,
        crm: &CrmSession,
        searches: &[NumberSearch<'_>],
    ) -> Result<Vec<GroupResult>, LookupError> {
        let mut results: Vec<GroupResult> = searches
            .iter()
            .map(|_| GroupResult::Found(List::default()))
            .collect();
        let (now, if_empty): (Vec<_>, Vec<_>) = self
            .plan
            .searches
            .iter()
            .partition(|plan| !plan.only_if_empty);
        let found = try_join_all(now.into_iter().map(|plan| self.many(crm, plan, searches)));
        for of_plan in found.await? {
            for (so_far, more) in results.iter_mut().zip(of_plan) {
                so_far.add(more);
            }
        }
        for plan in if_empty {
            self.many_if_empty(crm, plan, searches, &mut results)
                .await?;
        }
        Ok(results)
    }

    /// One more search, for the numbers that nobody has so far.
    async fn many_if_empty(
        &self,
        crm: &CrmSession,
        plan: &SearchRequest,
        searches: &[NumberSearch<'_>],
        results: &mut [GroupResult],
    ) -> Result<(), LookupError> {
        let places: Vec<usize> = (0..searches.len())
            .filter(|place| results[*place].is_empty())
            .collect();
        let asked: Vec<NumberSearch<'_>> = places.iter().map(|place| searches[*place]).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let found = self.many(crm, plan, &asked).await?;
        for (place, more) in places.into_iter().zip(found) {
            results[place].add(more);
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
        let mut todo: Vec<Range<usize>> = Vec::from([Range {
            start: 0,
            end: searches.len(),
        }]);
        let mut refused = 0;
        while let Some(range) = todo.pop() {
            let part = &searches[range.clone()];
            let records = if plan.fits(crm, part) {
                self.part(crm, plan, part).await
            } else {
                Err(TOO_MUCH)
            };
            match records {
                Ok(records) => {
                    let mapped = plan.mapped(records, part).await?;
                    results.splice(range, mapped);
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

    async fn part(
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
        // Of a group, "bad request" may be about its size or about one number.
        let is_left_out = if part.len() > 1 {
            refusals::is_lasting
        } else {
            is_refused
        };
        let lists = rounds.iter().map(|round| async {
            let scope = plan.request.in_round(&scope, round.as_ref());
            self.read(crm, plan, &scope, is_left_out).await
        });
        Ok(super::search::joined(try_join_all(lists).await?))
    }
}

/// Refusals after which the rest of a group is searched one by one.
const MOST_REFUSED: usize = 4;

/// That a request was not made because it is too large.
const TOO_MUCH: LookupError = LookupError::CrmBadReply(BadReply::TooLarge);

/// Whether a smaller group may be answered: the statuses of a request that is too large, or of one
/// bad value among many.
fn is_about_size(error: &LookupError) -> bool {
    match error {
        LookupError::CrmBadReply(BadReply::Status(status)) => {
            matches!(status, 400 | 413 | 414 | 422)
        }
        error => *error == TOO_MUCH,
    }
}

/// The halves of a range; none of a single number.
fn halves(range: Range<usize>) -> Vec<Range<usize>> {
    let middle = range.start + range.len() / 2;
    if range.len() > 1 {
        vec![range.start..middle, middle..range.end]
    } else {
        Vec::new()
    }
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
        let mut lists: Vec<List<Record>> = part.iter().map(|_| List::default()).collect();
        let (mut share, mut any) = (CpuShare::begin(), false);
        for record in &records.items {
            for (list, search) in lists.iter_mut().zip(part) {
                share.yield_if_used().await;
                if search.is_in(&record.phones) {
                    list.items.push(record.clone());
                    any = true;
                }
            }
        }
        if records.full_page && !any && self.is_exact {
            return Err(LookupError::CrmBadReply(BadReply::Filter));
        }
        let lists_everybody = self.depends == NumberUse::Nothing;
        // A record without phone fields may be anybody's.
        let is_unclear = records.items.iter().any(|record| record.phones.is_empty());
        let is_whole = records.complete
            && !is_unclear
            && !records.unasked
            && (any || lists_everybody || !records.full_page);
        let result = |list| {
            if is_whole {
                GroupResult::Found(list)
            } else {
                GroupResult::Alone
            }
        };
        Ok(lists.into_iter().map(result).collect())
    }
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
