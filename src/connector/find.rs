//! One find: search the spellings in order until a contact is found, and keep only records with
//! this very number.

use super::cpu_share::CpuShare;
use super::judge::{Judge, Judged, SearchedParty};
use super::profile::{Profile, StopRule};
use super::record::List;
use super::{Connector, CrmSession, Search};
use crate::domain::phone::Sought;
use crate::domain::{Contact, LookupError, NumberFormat, Party, Region, Variants};

/// Whom to search for, and how.
#[derive(Debug)]
pub(crate) struct SearchPlan<'a> {
    /// Whom it is about.
    pub(crate) party: Party,
    /// The user's own number formats.
    pub(crate) formats: &'a [NumberFormat],
    /// The regions in which the CRM's phone fields were typed, if they are known.
    pub(crate) regions: &'a [Region],
}

impl SearchPlan<'_> {
    fn searched_party(&self) -> SearchedParty<'_> {
        match self.party {
            Party::Number(number) => SearchedParty::Number(Sought::new(number, self.regions)),
            Party::Extension(_) => SearchedParty::Extension,
        }
    }

    /// The texts to search for; none for an extension.
    fn variants(&self, profile: &Profile) -> Option<Variants> {
        match &self.party {
            Party::Number(number) => Some(Variants::new(number, &profile.spellings, self.formats)),
            Party::Extension(_) => None,
        }
    }

    fn searches<'v>(&self, variants: Option<&'v Variants>) -> Vec<Search<'v>> {
        match self.party {
            Party::Number(_) => {
                let texts = variants.into_iter().flat_map(Variants::iter);
                texts.map(Search::Number).collect()
            }
            Party::Extension(extension) => vec![Search::Extension(extension)],
        }
    }
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
    let (profile, most) = (connector.profile(), crm.limits().contacts);
    let variants = plan.variants(profile);
    let (mut judge, mut accepted) = (Judge::new(plan.searched_party(), most), List::default());
    for search in plan.searches(variants.as_ref()) {
        let records = connector.search(crm, &search).await?;
        accept(&mut accepted, judge.all(records).await).await;
        if profile.stop == StopRule::AtFirstContact && !accepted.items.is_empty() {
            break;
        }
    }
    Ok(served(accepted, most))
}

/// Keeps the records that are the party. The others are dropped one by one, because dropping many
/// at once blocks the thread for long.
async fn accept(accepted: &mut List<Judged>, judged: List<Judged>) {
    accepted.complete &= judged.complete;
    let mut share = CpuShare::begin();
    for judged in judged.items {
        share.yield_if_used().await;
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
