//! The details of found contacts: deals, matters, and whatever else the call form offers.
//!
//! Loading them may take longer than a ringing phone should wait. A waiting caller can take the
//! contacts at any time, with the details loaded so far. The details of the first few contacts are
//! loaded with the call's urgency, the rest in the background.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::find::Found;
use super::record::Enrichment;
use super::{Connector, CrmSession, bounds};
use crate::domain::{GroupTag, Lane};
use crate::urgency::Urgency;

/// The details of one group of contacts, by their places in the answer.
type Group = (Range<usize>, Vec<Enrichment>);

/// The details of found contacts, while they load.
pub(crate) struct Details {
    found: Found,
    loading: FuturesUnordered<BoxFuture<'static, Group>>,
    urgencies: [Arc<Urgency>; 2],
    /// Bytes of choices that still fit in the answer.
    room: usize,
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Details")
            .field("loading", &self.loading.len())
            .finish_non_exhaustive()
    }
}

impl Details {
    /// Prepares to load the details of `found` in a lane. Those beyond the first `urgent` contacts
    /// are loaded in the background. In a prefetch the details for one group of answers
    /// (`gathering`) are loaded together. Nothing runs before [`Details::load`].
    #[must_use]
    pub(crate) fn begin(
        connector: &Arc<dyn Connector>,
        crm: &CrmSession,
        found: Found,
        (lane, urgent): (Lane, usize),
        gathering: GroupTag,
    ) -> Self {
        let urgencies =
            [lane, lane.max(Lane::Revalidate)].map(|lane| Arc::new(Urgency::new(lane, None)));
        let profile = connector.profile();
        // The same calls serve the rest as well.
        let urgent = if profile.shares_details {
            found.contacts.len()
        } else {
            urgent
        };
        let size = profile.contacts_at_once;
        let loading = FuturesUnordered::<BoxFuture<'static, _>>::new();
        for group in groups(found.contacts.len(), urgent, size) {
            let crm = crm.at(&urgencies[usize::from(group.start >= urgent)]);
            let connector = Arc::clone(connector);
            let contacts = found.contacts[group.clone()].to_vec();
            loading.push(Box::pin(async move {
                let groups = crm.groups();
                let details = groups.enrich(connector.as_ref(), &crm, gathering, &contacts);
                (group, details.await)
            }));
        }
        Self {
            found,
            loading,
            urgencies,
            room: bounds::CHOICES,
        }
    }

    /// Loads until all details are there that the CRM provides. May be dropped midway and called
    /// again.
    pub(crate) async fn load(&mut self) {
        while let Some((group, details)) = self.loading.next().await {
            self.found.complete &= details.len() == group.len();
            for (n, details) in group.zip(details) {
                self.add(n, details);
            }
        }
    }

    fn add(&mut self, n: usize, mut details: Enrichment) {
        let fits = bounds::choices(&mut details.info, &mut self.room);
        self.found.complete &= fits && details.complete;
        self.found.contacts[n].additional_info = details.info;
    }

    /// Returns whether all details are loaded.
    #[must_use]
    pub(crate) fn is_done(&self) -> bool {
        self.loading.is_empty()
    }

    /// Lowers the urgency of the rest, because nobody waits for it any more.
    pub(crate) fn relax(&self) {
        self.urgencies.iter().for_each(|urgency| urgency.relax());
    }

    /// The contacts with the details loaded so far. They are incomplete while some are still
    /// loading.
    #[must_use]
    pub(crate) fn found(&self) -> Found {
        Found {
            complete: self.found.complete && self.loading.is_empty(),
            ..self.found.clone()
        }
    }
}

/// Splits that many contacts into groups of at most `size`. No group contains both urgent and other
/// contacts.
fn groups(
    contacts: usize,
    urgent: usize,
    size: NonZeroUsize,
) -> impl Iterator<Item = Range<usize>> {
    let urgent = urgent.min(contacts);
    let split = move |within: Range<usize>| {
        let end = within.end;
        within
            .step_by(size.get())
            .map(move |start| start..(start + size.get()).min(end))
    };
    split(0..urgent).chain(split(urgent..contacts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_are_grouped_and_urgent_ones_stay_among_themselves() {
        for (contacts, urgent, size, expected) in [
            (3, 1, 1, vec![0..1, 1..2, 2..3]),
            (5, 2, 10, vec![0..2, 2..5]),
            (7, 3, 2, vec![0..2, 2..3, 3..5, 5..7]),
            (4, 9, 3, vec![0..3, 3..4]),
            (0, 4, 5, vec![]),
        ] {
            let size = NonZeroUsize::new(size).unwrap();
            let found: Vec<_> = groups(contacts, urgent, size).collect();
            assert_eq!(found, expected, "{contacts} {urgent} {size}");
        }
    }
}
