//! One find: search the spellings in order until a contact is found, keep only records that are
//! this number; then load what the call form needs, which may take longer than a ringing phone
//! should.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::turn::Turn;
use super::{Connector, CrmSession, Enrichment, Hits, Record, bounds};
use crate::domain::contact::extension_list;
use crate::domain::phone::{Certainty, Match, Sought};
use crate::domain::user::Settings;
use crate::domain::{
    Contact, Lane, LookupError, MatchQuality, NumberFormat, Party, Region, Variants,
};
use crate::urgency::Urgency;

/// What a CRM is asked.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// Whom it is about.
    pub(crate) party: Party,
    /// The user's own ways of writing numbers.
    pub(crate) formats: &'a [NumberFormat],
    /// Where the CRM's phone fields were typed, if that is known.
    pub(crate) regions: &'a [Region],
}

/// What a CRM answered.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The surest matches first, equal ones in the CRM's order.
    pub(crate) contacts: Vec<Contact>,
    /// The extensions beside each contact's number, as [`extension_list`] writes them.
    pub(crate) extensions: Vec<String>,
    /// False if something is missing.
    pub(crate) complete: bool,
}

/// Asks a CRM for the contacts, without their details.
///
/// # Errors
/// Of any search.
pub(crate) async fn search(
    connector: &dyn Connector,
    session: &CrmSession,
    question: &Question<'_>,
) -> Result<Found, LookupError> {
    let most = session.limits().contacts;
    let mut accepted = match question.party {
        Party::Extension(extension) => {
            let certain = |_: &str| {
                Some(Match {
                    certainty: Certainty::Certain,
                    extensions: Vec::new(),
                })
            };
            accept(
                connector.search_extension(session, extension).await?,
                most,
                certain,
            )
            .await
        }
        Party::Number(number) => {
            let sought = Sought::new(number, question.regions);
            let mut accepted = Accepted {
                contacts: Vec::new(),
                complete: true,
            };
            for text in Variants::new(&number, connector.spellings(), question.formats).iter() {
                let before = accepted.complete;
                accepted = accept(connector.search(session, text).await?, most, |phone| {
                    sought.find_in(phone)
                })
                .await;
                accepted.complete &= before;
                if !accepted.contacts.is_empty() {
                    break;
                }
            }
            accepted
        }
    };
    accepted
        .contacts
        .sort_by_key(|(contact, _)| contact.quality);
    if accepted.contacts.len() > most {
        accepted.contacts.truncate(most);
        accepted.complete = false;
    }
    let (contacts, extensions) = accepted.contacts.into_iter().unzip();
    Ok(Found {
        contacts,
        extensions,
        complete: accepted.complete,
    })
}

/// The details of found contacts, while they are loaded.
pub(crate) struct Details {
    found: Found,
    loading: FuturesUnordered<BoxFuture<'static, (usize, Enrichment)>>,
    urgencies: [Arc<Urgency>; 2],
    /// Bytes of choices that still fit into the answer.
    room: usize,
}

impl Details {
    /// Begins to load the details of `found` in a lane; beyond the first `urgent` contacts behind
    /// the scenes. Nothing moves before [`Details::load`].
    #[must_use]
    pub(crate) fn begin(
        connector: &Arc<dyn Connector>,
        session: &CrmSession,
        settings: &Arc<Settings>,
        found: Found,
        (lane, urgent): (Lane, usize),
    ) -> Self {
        let urgencies =
            [lane, lane.max(Lane::Revalidate)].map(|lane| Arc::new(Urgency::new(lane, None)));
        let loading = FuturesUnordered::<BoxFuture<'static, _>>::new();
        for (n, contact) in found.contacts.iter().cloned().enumerate() {
            let session = session.at(&urgencies[usize::from(n >= urgent)]);
            let (connector, settings) = (Arc::clone(connector), Arc::clone(settings));
            loading.push(Box::pin(async move {
                (n, connector.enrich(&session, &settings, &contact).await)
            }));
        }
        Self {
            found,
            loading,
            urgencies,
            room: bounds::CHOICES,
        }
    }

    /// Loads until all is there that the CRM gives. May be dropped half-way and called again.
    pub(crate) async fn load(&mut self) {
        while let Some((n, mut details)) = self.loading.next().await {
            self.found.complete &=
                bounds::choices(&mut details.info, &mut self.room) && details.complete;
            self.found.contacts[n].additional_info = details.info;
        }
    }

    /// Whether all is there.
    #[must_use]
    pub(crate) fn is_done(&self) -> bool {
        self.loading.is_empty()
    }

    /// Nobody waits for the rest any more.
    pub(crate) fn relax(&self) {
        self.urgencies.iter().for_each(|urgency| urgency.relax());
    }

    /// The contacts with the details that are there by now; not complete as long as some are under
    /// way.
    #[must_use]
    pub(crate) fn found(&self) -> Found {
        Found {
            complete: self.found.complete && self.loading.is_empty(),
            ..self.found.clone()
        }
    }
}

impl std::fmt::Debug for Details {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Details")
            .field("loading", &self.loading.len())
            .finish_non_exhaustive()
    }
}

/// Records that are the party, with their extensions.
struct Accepted {
    contacts: Vec<(Contact, String)>,
    complete: bool,
}

/// Keeps the records that are this party: CRM search is fuzzy, and a wrong name on the screen is
/// worse than none. Of each quality no more than `most`, because more will not be shown. Others
/// have their turn meanwhile, and the time limit of the look-up its say: a hostile page of many
/// records with many phone fields takes seconds.
async fn accept(hits: Hits, most: usize, find_in: impl Fn(&str) -> Option<Match>) -> Accepted {
    let mut accepted = Accepted {
        contacts: Vec::new(),
        complete: hits.complete,
    };
    let (mut known, mut kept, mut turn) = (
        HashSet::new(),
        BTreeMap::<MatchQuality, usize>::new(),
        Turn::begin(),
    );
    for record in hits.records {
        turn.share().await;
        let Some(Record {
            mut contact,
            phones,
        }) = bounds::record(record)
        else {
            accepted.complete = false;
            continue;
        };
        let Some((quality, extensions)) = judge(&phones, &find_in, &mut turn).await else {
            continue;
        };
        contact.quality = quality;
        let kept = kept.entry(quality).or_default();
        if *kept >= most {
            accepted.complete &= known.contains(&(contact.kind.clone(), contact.id.clone()));
        } else if known.insert((contact.kind.clone(), contact.id.clone())) {
            *kept += 1;
            accepted.contacts.push((contact, extensions));
        }
    }
    accepted
}

/// How sure it is that a record with these phone fields is the party; `None` if it is somebody
/// else.
async fn judge(
    phones: &[String],
    find_in: impl Fn(&str) -> Option<Match>,
    turn: &mut Turn,
) -> Option<(MatchQuality, String)> {
    if phones.iter().all(|phone| phone.trim().is_empty()) {
        return Some((MatchQuality::Unverified, String::new()));
    }
    let mut matches = Vec::new();
    for phone in phones {
        turn.share().await;
        matches.extend(find_in(phone));
    }
    let best = matches.iter().map(|found| found.certainty).min()?;
    let extensions = matches
        .into_iter()
        .filter(|found| found.certainty == best)
        .flat_map(|found| found.extensions);
    Some((best.into(), extension_list(&extensions.collect::<Vec<_>>())))
}
