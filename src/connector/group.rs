//! Groups the searches of a prefetch, for CRMs that answer for many numbers in one call.
//!
//! Each number keeps its own look-up with its own result, so flights, leases and the cache know
//! nothing of groups. The first search of a group leads it: it waits a moment for others, asks for
//! all, and hands each its records. A search that becomes a ringing phone's never waits for a group
//! to fill: a leader asks at once, and another one asks alone beside the group.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::find::SearchPlan;
use super::record::{List, Record};
use super::{Connector, CrmSession, NumberSearch, Search};
use crate::clock;
use crate::domain::phone::Sought;
use crate::domain::{E164, GroupTag, Lane, LookupError, Variants};
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

/// The open groups of one connector.
#[derive(Default)]
pub(super) struct Groups(Mutex<HashMap<GroupTag, OpenGroup>>);

/// A group that others may join.
#[derive(Default)]
struct OpenGroup {
    members: Vec<Member>,
    full: Arc<Notify>,
}

/// A number, and where its result goes.
struct Member {
    number: E164,
    variants: Variants,
    result: oneshot::Sender<Result<GroupResult, LookupError>>,
}

/// The leader's hold on its open group, which closes when it is dropped.
struct Leading<'g> {
    groups: &'g Groups,
    tag: GroupTag,
    full: Arc<Notify>,
    is_open: bool,
}

enum Joined<'g> {
    Leader(Leading<'g>),
    Member(oneshot::Receiver<Result<GroupResult, LookupError>>),
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups")
            .field("open", &self.0.lock().len())
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
        let result = match self.join(plan.group, (number, search.variants()), size) {
            Joined::Leader(leading) => {
                leading.gather(&crm.urgency).await;
                let members = leading.close();
                tokio::select! {
                    result = lead(connector, crm, plan, search, members) => result?,
                    // Whoever waits for the group searches alone as well.
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

    fn join(
        &self,
        tag: GroupTag,
        (number, variants): (E164, &Variants),
        size: usize,
    ) -> Joined<'_> {
        let mut open = self.0.lock();
        let Some(group) = open.get_mut(&tag) else {
            let group = OpenGroup::default();
            let full = Arc::clone(&group.full);
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
            number,
            variants: variants.clone(),
            result: sender,
        });
        // The leader is one of them.
        if group.members.len() + 1 >= size {
            group.full.notify_one();
        }
        Joined::Member(result)
    }

    fn take(&self, tag: GroupTag) -> Vec<Member> {
        let group = self.0.lock().remove(&tag);
        group.map_or_else(Vec::new, |group| group.members)
    }
}

impl Leading<'_> {
    /// Waits until the group is full, for a moment at most.
    async fn gather(&self, urgency: &Urgency) {
        tokio::select! {
            () = self.full.notified() => {}
            () = clock::sleep(GATHERING) => {}
            () = left_prefetch(urgency) => {}
        }
    }

    fn close(mut self) -> Vec<Member> {
        self.is_open = false;
        self.groups.take(self.tag)
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        // Whoever waits for a leader that is gone searches alone.
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
    members: Vec<Member>,
) -> Result<GroupResult, LookupError> {
    let members: Vec<Member> = members
        .into_iter()
        .filter(|member| !member.result.is_closed())
        .collect();
    if members.is_empty() {
        return Ok(GroupResult::Alone);
    }
    let sought: Vec<Sought<'_>> = members
        .iter()
        .map(|member| Sought::new(member.number, plan.regions))
        .collect();
    let others = members.iter().zip(&sought);
    let others = others.map(|(member, sought)| NumberSearch::new(&member.variants, sought, &[0]));
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
