//! Groups the look-ups of a prefetch, for CRMs that answer for several in one call: searches for
//! many numbers, and details of many contacts.
//!
//! Each number keeps its own look-up with its own result, so flights, leases and the cache know
//! nothing of groups. The first member of a group leads it: it waits a moment for others, asks for
//! all, and hands each its part. If a ringing phone joins a look-up, that look-up no longer waits
//! for its group: it asks alone at once. If it led the group, the other members ask alone as well.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::find::SearchPlan;
use super::record::{Enrichment, List, Record};
use super::{Connector, CrmSession, NumberSearch, Search};
use crate::clock;
use crate::domain::phone::Sought;
use crate::domain::{Contact, E164, GroupTag, Lane, LookupError, Variants};
use crate::urgency::Urgency;

/// How long a leader waits for others.
const GATHERING: Duration = Duration::from_millis(20);

/// What a search for many numbers found for one of them.
#[derive(Debug)]
pub(crate) enum GroupResult {
    /// All its records.
    Found(List<Record>),
    /// The reply proves nothing for this number: it has to be searched alone.
    Alone,
}

/// A number and its spellings.
type Asked = (E164, Variants);

/// What a member of a search gets.
type ForOne = Result<GroupResult, LookupError>;

/// The open groups of one connector.
#[derive(Default)]
pub(super) struct Groups {
    searches: OpenGroups<Asked, ForOne>,
    details: OpenGroups<Vec<Contact>, Vec<Enrichment>>,
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups")
            .field("searches", &self.searches.0.lock().len())
            .field("details", &self.details.0.lock().len())
            .finish()
    }
}

impl Groups {
    /// Searches for a number, together with others if that is possible.
    ///
    /// # Errors
    /// Any failure of a search.
    pub(super) async fn search(
        &self,
        connector: &dyn Connector,
        crm: &CrmSession,
        plan: &SearchPlan<'_>,
        (number, search): (E164, NumberSearch<'_>),
    ) -> Result<List<Record>, LookupError> {
        let size = connector.profile().numbers_at_once.get();
        let by_itself = Search::Number(search);
        let alone = connector.search(crm, &by_itself);
        if size == 1 || crm.urgency.lane() != Lane::Prefetch {
            return alone.await;
        }
        let asked = || (number, search.variants().clone());
        let result = match self.searches.join(plan.group, asked, (1, size)) {
            Joined::Leader(leading) => {
                leading.gather(&crm.urgency).await;
                let members = leading.close();
                tokio::select! {
                    result = lead(connector, crm, plan, search, members) => result?,
                    // The members of the group then search alone as well.
                    () = left_prefetch(&crm.urgency) => GroupResult::Alone,
                }
            }
            Joined::Member(result) => {
                tokio::select! {
                    // The leader is gone if there is no result.
                    result = result => result.unwrap_or(Ok(GroupResult::Alone))?,
                    () = left_prefetch(&crm.urgency) => GroupResult::Alone,
                }
            }
        };
        match result {
            GroupResult::Found(records) => Ok(records),
            GroupResult::Alone => alone.await,
        }
    }

    /// Loads the details of contacts, together with those of other answers if that is possible.
    pub(super) async fn enrich(
        &self,
        connector: &dyn Connector,
        crm: &CrmSession,
        group: GroupTag,
        contacts: &[Contact],
    ) -> Vec<Enrichment> {
        let size = connector.profile().contacts_at_once.get();
        let alone = connector.enrich(crm, contacts);
        if size == 1 || crm.urgency.lane() != Lane::Prefetch {
            return alone.await;
        }
        let asked = || contacts.to_vec();
        let result = match self.details.join(group, asked, (contacts.len(), size)) {
            Joined::Leader(leading) => {
                leading.gather(&crm.urgency).await;
                let members = leading.close();
                tokio::select! {
                    result = lead_details(connector, crm, contacts, members) => result,
                    () = left_prefetch(&crm.urgency) => None,
                }
            }
            Joined::Member(result) => {
                tokio::select! {
                    result = result => result.ok(),
                    () = left_prefetch(&crm.urgency) => None,
                }
            }
        };
        // Too much at once: the list was cut, or the CRM refused one contact among many.
        let is_enough = |details: &Vec<Enrichment>| !details.iter().any(|part| part.was_too_much);
        match result.filter(is_enough) {
            Some(details) => details,
            None => alone.await,
        }
    }
}

/// The open groups of one kind: `I` is what a member asks for, `R` is what it gets.
struct OpenGroups<I, R>(Mutex<HashMap<GroupTag, OpenGroup<I, R>>>);

/// A group that others may join.
struct OpenGroup<I, R> {
    members: Vec<Member<I, R>>,
    /// For how much more there is room.
    room: usize,
    full: Arc<Notify>,
}

/// Who waits for a group.
struct Member<I, R> {
    asks_for: I,
    result: oneshot::Sender<R>,
}

/// The leader's hold on its open group, which closes when it is dropped.
struct Leading<'g, I, R> {
    groups: &'g OpenGroups<I, R>,
    tag: GroupTag,
    full: Arc<Notify>,
    is_open: bool,
}

enum Joined<'g, I, R> {
    Leader(Leading<'g, I, R>),
    Member(oneshot::Receiver<R>),
}

impl<I, R> Default for OpenGroups<I, R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<I, R> OpenGroups<I, R> {
    /// Joins the open group, or opens one. Either takes `weight` of the group's `size`.
    fn join(
        &self,
        tag: GroupTag,
        asks_for: impl FnOnce() -> I,
        (weight, size): (usize, usize),
    ) -> Joined<'_, I, R> {
        let mut open = self.0.lock();
        let Some(group) = open.get_mut(&tag) else {
            let full = Arc::new(Notify::new());
            let group = OpenGroup {
                members: Vec::new(),
                room: size.saturating_sub(weight),
                full: Arc::clone(&full),
            };
            group.notify_if_full();
            open.insert(tag, group);
            return Joined::Leader(Leading {
                groups: self,
                tag,
                full,
                is_open: true,
            });
        };
        let (sender, result) = oneshot::channel();
        group.members.push(Member {
            asks_for: asks_for(),
            result: sender,
        });
        group.room = group.room.saturating_sub(weight);
        group.notify_if_full();
        Joined::Member(result)
    }

    fn take(&self, tag: GroupTag) -> Vec<Member<I, R>> {
        let group = self.0.lock().remove(&tag);
        group.map_or_else(Vec::new, |group| group.members)
    }
}

impl<I, R> OpenGroup<I, R> {
    fn notify_if_full(&self) {
        if self.room == 0 {
            self.full.notify_one();
        }
    }
}

impl<I, R> Leading<'_, I, R> {
    /// Waits until the group is full, for a moment at most.
    async fn gather(&self, urgency: &Urgency) {
        // On a busy machine the moment may be over before those who are ready have had their turn.
        tokio::task::yield_now().await;
        tokio::select! {
            () = self.full.notified() => {}
            () = clock::sleep(GATHERING) => {}
            () = left_prefetch(urgency) => {}
        }
    }

    /// The members that still wait.
    fn close(mut self) -> Vec<Member<I, R>> {
        self.is_open = false;
        let mut members = self.groups.take(self.tag);
        members.retain(|member| !member.result.is_closed());
        members
    }
}

impl<I, R> Drop for Leading<'_, I, R> {
    fn drop(&mut self) {
        // Members whose leader is gone ask alone.
        if self.is_open {
            drop(self.groups.take(self.tag));
        }
    }
}

/// Returns once a more urgent caller has joined the load.
async fn left_prefetch(urgency: &Urgency) {
    loop {
        let changed = urgency.changed();
        if urgency.lane() != Lane::Prefetch {
            return;
        }
        changed.await;
    }
}

/// Searches for the leader's number and those of the members, and returns the leader's result.
async fn lead(
    connector: &dyn Connector,
    crm: &CrmSession,
    plan: &SearchPlan<'_>,
    own: NumberSearch<'_>,
    members: Vec<Member<Asked, ForOne>>,
) -> ForOne {
    if members.is_empty() {
        return Ok(GroupResult::Alone);
    }
    let sought: Vec<Sought<'_>> = members
        .iter()
        .map(|member| Sought::new(member.asks_for.0, plan.regions))
        .collect();
    let others = members.iter().zip(&sought);
    let others = others.map(|(member, sought)| NumberSearch::new(&member.asks_for.1, sought, &[0]));
    let searches: Vec<NumberSearch<'_>> = [own].into_iter().chain(others).collect();
    let found = connector.search_many(crm, &searches).await;
    let mut results = match found {
        Ok(results) => results.into_iter(),
        Err(error) => {
            for member in members {
                // A member that is gone needs no result.
                let _ = member.result.send(Err(error.clone()));
            }
            return Err(error);
        }
    };
    let own = results.next().unwrap_or(GroupResult::Alone);
    for member in members {
        let result = results.next().unwrap_or(GroupResult::Alone);
        let _ = member.result.send(Ok(result));
    }
    Ok(own)
}

/// Loads the details of the leader's contacts and of those of the members, and returns the
/// leader's. `None` if there are no members.
async fn lead_details(
    connector: &dyn Connector,
    crm: &CrmSession,
    own: &[Contact],
    members: Vec<Member<Vec<Contact>, Vec<Enrichment>>>,
) -> Option<Vec<Enrichment>> {
    if members.is_empty() {
        return None;
    }
    let mut contacts = own.to_vec();
    for member in &members {
        contacts.extend_from_slice(&member.asks_for);
    }
    let size = connector.profile().contacts_at_once.get();
    let chunks = contacts.chunks(size);
    let details = join_all(chunks.map(|chunk| connector.enrich(crm, chunk))).await;
    let mut details = details.into_iter().flatten();
    let own = details.by_ref().take(own.len()).collect();
    for member in members {
        let of_member = details.by_ref().take(member.asks_for.len()).collect();
        // A member that is gone needs no result.
        let _ = member.result.send(of_member);
    }
    Some(own)
}
