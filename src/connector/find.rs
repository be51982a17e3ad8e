//! One find: search the spellings in order until a contact is found, and keep only records with
//! this very number.

use super::cpu_share::CpuShare;
use super::judge::{Judge, Judged, SearchedParty};
use super::profile::StopRule;
use super::record::{List, Record};
use super::spelling_order::OrderKey;
use super::witness::Event;
use super::{Connector, CrmSession, NumberSearch, Search};
use crate::domain::phone::Sought;
use crate::domain::{Contact, E164, GroupTag, LookupError, NumberFormat, Party, Region, Variants};

/// Whom to search for, and how.
#[derive(Debug)]
pub(crate) struct SearchPlan<'a> {
    /// Whom it is about.
    pub(crate) party: Party,
    /// The user's own number formats.
    pub(crate) formats: &'a [NumberFormat],
    /// The regions in which the CRM's phone fields were typed, if they are known.
    pub(crate) regions: &'a [Region],
    /// Searches of one group may be made in one call.
    pub(crate) group: GroupTag,
}

/// What a CRM answered.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Best matches first, equal ones in the CRM's order.
    pub(crate) contacts: Vec<Contact>,
    /// The extensions of each contact's number, as `extension_list` formats them.
    pub(crate) extensions: Vec<String>,
    /// False if something is missing.
    pub(crate) complete: bool,
}

/// Searches a CRM for contacts, without their details.
///
/// # Errors
/// Any failure of a search.
pub(crate) async fn search(
    connector: &dyn Connector,
    crm: &CrmSession,
    plan: &SearchPlan<'_>,
) -> Result<Found, LookupError> {
    match plan.party {
        Party::Number(number) => {
            let sought = Sought::new(number, plan.regions);
            let mut accepted = AcceptedRecords::new(crm, SearchedParty::Number(&sought));
            search_spellings(connector, plan, (number, &sought), &mut accepted).await?;
            Ok(accepted.served())
        }
        Party::Extension(extension) => {
            let mut accepted = AcceptedRecords::new(crm, SearchedParty::Extension);
            let records = connector.search(crm, &Search::Extension(extension)).await?;
            accepted.add(records).await;
            Ok(accepted.served())
        }
    }
}

/// Searches one spelling after the other, as long as the connector's rule says.
async fn search_spellings(
    connector: &dyn Connector,
    plan: &SearchPlan<'_>,
    (number, sought): (E164, &Sought<'_>),
    accepted: &mut AcceptedRecords<'_>,
) -> Result<(), LookupError> {
    let (crm, profile) = (accepted.crm, connector.profile());
    let variants = Variants::new(&number, &profile.spellings, plan.formats);
    let key = OrderKey::new(crm.scope(), plan.formats);
    let order = crm.spelling_order().of(key, &variants);
    for asked in 1..=order.len() {
        let search = NumberSearch::new(&variants, sought, &order[..asked]);
        let search = search.with_formats(plan.formats);
        let records = crm
            .groups()
            .search(connector, crm, plan, (number, search))
            .await?;
        if accepted.add(records).await {
            crm.spelling_order().found(key, &variants, order[asked - 1]);
            crm.count_search_that_found(asked);
        }
        match profile.stop {
            StopRule::AtFirstContact if accepted.records.items.is_empty() => {}
            StopRule::Never => {}
            StopRule::AtFirstContact | StopRule::AfterOneSearch => break,
        }
    }
    Ok(())
}

/// The records that are the party.
struct AcceptedRecords<'a> {
    crm: &'a CrmSession,
    judge: Judge<'a>,
    records: List<Judged>,
    any_asked: bool,
}

impl<'a> AcceptedRecords<'a> {
    fn new(crm: &'a CrmSession, party: SearchedParty<'a>) -> Self {
        Self {
            crm,
            judge: Judge::new(party, crm.limits().contacts),
            records: List::default(),
            any_asked: false,
        }
    }

    /// Keeps the records that are the party, and returns whether there was one. The others are
    /// dropped one by one, because dropping many at once blocks the thread for long.
    async fn add(&mut self, records: List<Record>) -> bool {
        self.any_asked |= !records.unasked;
        let so_far = self.records.items.len();
        let judged = self.judge.all(records).await;
        self.records.complete &= judged.complete;
        let mut share = CpuShare::begin();
        for judged in judged.items {
            share.yield_if_used().await;
            self.crm.show(|| Event::Judged {
                record: &judged.record,
                verdict: judged.verdict,
            });
            if judged.verdict.quality().is_some() {
                self.records.items.push(judged);
            }
        }
        self.records.items.len() > so_far
    }

    /// The records as an answer, best matches first.
    fn served(self) -> Found {
        let (mut items, most) = (self.records.items, self.crm.limits().contacts);
        items.sort_by_key(|judged| judged.record.contact.quality);
        // If no request was made, absence is not proven.
        let complete = self.records.complete && self.any_asked && items.len() <= most;
        items.truncate(most);
        let parts = |judged: Judged| (judged.record.contact, judged.extensions);
        let (contacts, extensions) = items.into_iter().map(parts).unzip();
        Found {
            contacts,
            extensions,
            complete,
        }
    }
}
