//! One find: search the spellings in order until a contact is found, keep only records that are this number, load what
//! the call form needs.

use std::collections::HashSet;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::{Connector, CrmSession, Hits, Record, bounds};
use crate::domain::caller::Settings;
use crate::domain::contact::extension_list;
use crate::domain::phone::{Certainty, Match, Sought};
use crate::domain::{Contact, LookupError, MatchQuality, NumberFormat, Party, Region, Variants};

/// Phone fields compared in one go. A hostile page of many records with many phone fields takes seconds, and meanwhile
/// others must have their turn and the time limit of the look-up its say.
const AT_A_TIME: usize = 256;

/// What a CRM is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// Whom it is about.
    pub party: Party,
    /// The user's own ways of writing numbers.
    pub formats: &'a [NumberFormat],
    /// Where the CRM's phone fields were typed, if that is known.
    pub regions: &'a [Region],
    /// The user's settings.
    pub settings: &'a Settings,
}

/// What a CRM answered.
#[derive(Debug)]
pub struct Found {
    /// The surest matches first, equal ones in the CRM's order.
    pub contacts: Vec<Contact>,
    /// The extensions beside each contact's number, as [`extension_list`] writes them.
    pub extensions: Vec<String>,
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
    let mut accepted = match question.party {
        Party::Extension(extension) => {
            let certain = |_: &str| Some(Match { certainty: Certainty::Certain, extensions: Vec::new() });
            accept(connector.search_extension(session, extension).await?, certain).await
        }
        Party::Number(number) => {
            let sought = Sought::new(number, question.regions);
            let mut accepted = Accepted { contacts: Vec::new(), complete: true };
            for text in Variants::new(&number, connector.spellings(), question.formats).iter() {
                let before = accepted.complete;
                accepted = accept(connector.search(session, text).await?, |phone| sought.find_in(phone)).await;
                accepted.complete &= before;
                if !accepted.contacts.is_empty() {
                    break;
                }
            }
            accepted
        }
    };
    accepted.contacts.sort_by_key(|(contact, _)| contact.quality);
    if accepted.contacts.len() > session.limits().contacts {
        accepted.contacts.truncate(session.limits().contacts);
        accepted.complete = false;
    }
    let (contacts, extensions) = accepted.contacts.into_iter().unzip();
    let mut found = Found { contacts, extensions, complete: accepted.complete };
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

/// Records that are the party, with their extensions.
struct Accepted {
    contacts: Vec<(Contact, String)>,
    complete: bool,
}

/// Keeps the records that are this party: CRM search is fuzzy, and a wrong name on the screen is worse than none.
async fn accept(hits: Hits, find_in: impl Fn(&str) -> Option<Match>) -> Accepted {
    let mut accepted = Accepted { contacts: Vec::new(), complete: hits.complete };
    let (mut known, mut compared) = (HashSet::new(), 0);
    for record in hits.records {
        let Some(Record { mut contact, phones }) = bounds::record(record) else {
            accepted.complete = false;
            continue;
        };
        compared += phones.len().max(1);
        if compared > AT_A_TIME {
            compared = 0;
            tokio::task::yield_now().await;
        }
        let Some((quality, extensions)) = judge(&phones, &find_in) else { continue };
        contact.quality = quality;
        if known.insert((contact.kind.clone(), contact.id.clone())) {
            accepted.contacts.push((contact, extensions));
        }
    }
    accepted
}

/// How sure it is that a record with these phone fields is the party; `None` if it is somebody else.
fn judge(phones: &[String], find_in: impl Fn(&str) -> Option<Match>) -> Option<(MatchQuality, String)> {
    if phones.iter().all(|phone| phone.trim().is_empty()) {
        return Some((MatchQuality::Unverified, String::new()));
    }
    let matches: Vec<Match> = phones.iter().filter_map(|phone| find_in(phone)).collect();
    let best = matches.iter().map(|found| found.certainty).min()?;
    let extensions = matches.into_iter().filter(|found| found.certainty == best).flat_map(|found| found.extensions);
    Some((best.into(), extension_list(&extensions.collect::<Vec<_>>())))
}
