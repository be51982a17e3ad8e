//! One find: search the spellings in order until a contact is found, keep only records that are this number, load what
//! the call form needs.

use std::collections::HashSet;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::{Connector, CrmSession, Hits, Record, bounds};
use crate::domain::caller::Settings;
use crate::domain::{Contact, LookupError, MatchQuality, NumberFormat, Party, Variants};

/// Records compared in one go. A hostile page of many records with many phone fields takes seconds, and meanwhile others
/// must have their turn and the time limit of the look-up its say.
const AT_A_TIME: usize = 16;

/// What a CRM is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// Whom it is about.
    pub party: Party,
    /// The user's own ways of writing numbers.
    pub formats: &'a [NumberFormat],
    /// The user's settings.
    pub settings: &'a Settings,
}

/// What a CRM answered.
#[derive(Debug)]
pub struct Found {
    /// Verified contacts first, then unverified ones, each in the CRM's order.
    pub contacts: Vec<Contact>,
    /// False where something is missing.
    pub complete: bool,
}

/// Asks a CRM.
///
/// Once `late` ends, what is missing of the details is left out.
///
/// # Errors
/// Of the search only: a contact whose details fail is still a contact.
pub async fn find(
    connector: &dyn Connector,
    session: &CrmSession,
    question: &Question<'_>,
    late: impl Future<Output = ()>,
) -> Result<Found, LookupError> {
    let mut found = match question.party {
        Party::Extension(extension) => accept(connector.search_extension(session, extension).await?, |_| true).await,
        Party::Number(number) => {
            let variants = Variants::new(&number, connector.spellings(), question.formats);
            let mut found = Found { contacts: Vec::new(), complete: true };
            for text in variants.iter() {
                let hits = connector.search(session, text).await?;
                let accepted = accept(hits, |phone| number.is_spelled(phone)).await;
                found.complete &= accepted.complete;
                found.contacts = accepted.contacts;
                if !found.contacts.is_empty() {
                    break;
                }
            }
            found
        }
    };
    found.contacts.sort_by_key(|contact| contact.quality);
    if found.contacts.len() > session.limits().contacts {
        found.contacts.truncate(session.limits().contacts);
        found.complete = false;
    }
    let details = found.contacts.iter().enumerate();
    let details =
        details.map(|(n, contact)| async move { (n, connector.enrich(session, question.settings, contact).await) });
    let details: Vec<_> = details.collect::<FuturesUnordered<_>>().take_until(late).collect().await;
    found.complete &= details.len() == found.contacts.len();
    let mut room = bounds::CHOICES;
    for (n, mut details) in details {
        found.complete &= bounds::choices(&mut details.info, &mut room) && details.complete;
        found.contacts[n].additional_info = details.info;
    }
    Ok(found)
}

/// Keeps the records that are this party: CRM search is fuzzy, and a wrong name on the screen is worse than none.
async fn accept(hits: Hits, is_this_number: impl Fn(&str) -> bool) -> Found {
    let mut found = Found { contacts: Vec::new(), complete: hits.complete };
    let mut known = HashSet::new();
    for (n, record) in hits.records.into_iter().enumerate() {
        if n % AT_A_TIME == AT_A_TIME - 1 {
            tokio::task::yield_now().await;
        }
        let Some(Record { mut contact, phones }) = bounds::record(record) else {
            found.complete = false;
            continue;
        };
        contact.quality = match phones.iter().map(|phone| phone.trim()).filter(|phone| !phone.is_empty()).count() {
            0 => MatchQuality::Unverified,
            _ if phones.iter().any(|phone| is_this_number(phone)) => MatchQuality::Exact,
            _ => continue,
        };
        if known.insert((contact.kind.clone(), contact.id.clone())) {
            found.contacts.push(contact);
        }
    }
    found
}
