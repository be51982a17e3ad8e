//! One find: search the spellings in order until a contact is found, and keep only records with
//! this very number.

use super::cpu_share::CpuShare;
use super::judge::{Judge, Judged, SearchedParty};
use super::profile::StopRule;
use super::record::List;
use super::spelling_order::OrderKey;
use super::witness::Event;
use super::{Connector, CrmSession, NumberSearch, Search};
use crate::domain::phone::Sought;
use crate::domain::{Contact, GroupTag, LookupError, NumberFormat, Party, Region, Variants};

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
    let most = crm.limits().contacts;
    let (mut accepted, mut any_asked) = (List::default(), false);
    match plan.party {
        Party::Number(number) => {
            let sought = Sought::new(number, plan.regions);
            let variants = Variants::new(&number, &connector.profile().spellings, plan.formats);
            let mut judge = Judge::new(SearchedParty::Number(&sought), most);
            let key = OrderKey::new(crm.scope(), plan.formats);
            let order = crm.spelling_order().of(key, &variants);
            for asked in 1..=order.len() {
                let search = NumberSearch::new(&variants, &sought, &order[..asked])
                    .with_formats(plan.formats);
                let groups = crm.groups();
                let records = groups
                    .search(connector, crm, plan, (number, search))
                    .await?;
                any_asked |= !records.unasked;
                let so_far = accepted.items.len();
                accept(crm, &mut accepted, judge.all(records).await).await;
                if accepted.items.len() > so_far {
                    crm.spelling_order().found(key, &variants, order[asked - 1]);
                    crm.count_search_that_found(asked);
                }
                match connector.profile().stop {
                    StopRule::AtFirstContact if accepted.items.is_empty() => {}
                    StopRule::Never => {}
                    StopRule::AtFirstContact | StopRule::AfterOneSearch => break,
                }
            }
        }
        Party::Extension(extension) => {
            let records = connector.search(crm, &Search::Extension(extension)).await?;
            any_asked = !records.unasked;
            let mut judge = Judge::new(SearchedParty::Extension, most);
            accept(crm, &mut accepted, judge.all(records).await).await;
        }
    }
    // Whoever was not asked for is not absent.
    accepted.complete &= any_asked;
    Ok(served(accepted, most))
}

/// Keeps the records that are the party. The others are dropped one by one, because dropping many
/// at once blocks the thread for long.
async fn accept(crm: &CrmSession, accepted: &mut List<Judged>, judged: List<Judged>) {
    accepted.complete &= judged.complete;
    let mut share = CpuShare::begin();
    for judged in judged.items {
        share.yield_if_used().await;
        crm.show(|| Event::Judged {
            record: &judged.record,
            verdict: judged.verdict,
        });
        if judged.verdict.quality().is_some() {
            accepted.items.push(judged);
        }
    }
}

/// The accepted records as an answer, best matches first.
fn served(mut accepted: List<Judged>, most: usize) -> Found {
    accepted
        .items
        .sort_by_key(|judged| judged.record.contact.quality);
    let complete = accepted.complete && accepted.items.len() <= most;
    accepted.items.truncate(most);
    let parts = |judged: Judged| (judged.record.contact, judged.extensions);
    let (contacts, extensions) = accepted.items.into_iter().map(parts).unzip();
    Found {
        contacts,
        extensions,
        complete,
    }
}
