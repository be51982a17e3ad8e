//! One find: search the spellings in order until a contact is found, keep only records that are this number; then load
//! what the call form needs, which may take longer than a ringing phone should.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::{Connector, CrmSession, Enrichment, Hits, Record, bounds};
use crate::domain::caller::Settings;
use crate::domain::{Contact, Lane, LookupError, MatchQuality, NumberFormat, Party, Variants};
use crate::urgency::Urgency;

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
}

/// What a CRM answered.
#[derive(Debug, Clone)]
pub struct Found {
    /// Verified contacts first, then unverified ones, each in the CRM's order.
    pub contacts: Vec<Contact>,
    /// False where something is missing.
    pub complete: bool,
}

/// Asks a CRM for the contacts, without their details.
///
/// # Errors
/// Of any search.
pub async fn search(
    connector: &dyn Connector,
    session: &CrmSession,
    question: &Question<'_>,
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
    Ok(found)
}

/// The details of found contacts, while they are loaded.
pub struct Details {
    found: Found,
    loading: FuturesUnordered<BoxFuture<'static, (usize, Enrichment)>>,
    urgencies: [Arc<Urgency>; 2],
    /// Bytes of choices that still fit into the answer.
    room: usize,
}

impl Details {
    /// Begins to load the details of `found` in a lane; beyond the first `urgent` contacts behind the scenes. Nothing
    /// moves before [`Details::load`].
    #[must_use]
    pub fn begin(
        connector: &Arc<dyn Connector>,
        session: &CrmSession,
        settings: &Arc<Settings>,
        found: Found,
        (lane, urgent): (Lane, usize),
    ) -> Self {
        let urgencies = [lane, lane.max(Lane::Revalidate)].map(|lane| Arc::new(Urgency::new(lane, None)));
        let loading = FuturesUnordered::<BoxFuture<'static, _>>::new();
        for (n, contact) in found.contacts.iter().cloned().enumerate() {
            let session = session.at(&urgencies[usize::from(n >= urgent)]);
            let (connector, settings) = (Arc::clone(connector), Arc::clone(settings));
            loading.push(Box::pin(async move { (n, connector.enrich(&session, &settings, &contact).await) }));
        }
        Self { found, loading, urgencies, room: bounds::CHOICES }
    }

    /// Loads until all is there that the CRM gives. May be dropped half-way and called again.
    pub async fn load(&mut self) {
        while let Some((n, mut details)) = self.loading.next().await {
            self.found.complete &= bounds::choices(&mut details.info, &mut self.room) && details.complete;
            self.found.contacts[n].additional_info = details.info;
        }
    }

    /// Whether all is there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.loading.is_empty()
    }

    /// Nobody waits for the rest any more.
    pub fn relax(&self) {
        self.urgencies.iter().for_each(|urgency| urgency.relax());
    }

    /// The contacts with the details that are there by now; not complete as long as some are under way.
    #[must_use]
    pub fn found(&self) -> Found {
        Found { complete: self.found.complete && self.loading.is_empty(), ..self.found.clone() }
    }
}

impl std::fmt::Debug for Details {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Details").field("loading", &self.loading.len()).finish_non_exhaustive()
    }
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
