//! Loads: what they keep from start to end, and what a stored answer replaces.

use super::{SharedParts, Stored, TieredCache};
use crate::cache::load_ticket::{Fetched, LoadTicket, RedisTicket};
use crate::cache::memory::MemoryEntry;
use crate::cache::redis::StoreOutcome;
use crate::domain::{ContactKey, Entry, QuestionKey, SharedTime, Timestamp};

impl TieredCache {
    /// Begins a load. Returns the ticket for [`TieredCache::store`], with what is stored now.
    pub async fn begin(&self, question: &QuestionKey) -> LoadTicket {
        let (mark, asked) = (self.mark(), self.clock.now());
        let ticket = |shared, held| LoadTicket {
            watermark: mark.watermark,
            asked,
            shared,
            before: Fetched { held, mark },
        };
        let Some(SharedParts { redis, time, .. }) = &self.shared else {
            return ticket(None, None);
        };
        let Some(data) = time.data() else {
            return ticket(None, None);
        };
        let (user, party) = (question.user(), question.party());
        let Ok(begun) = redis.begin(user, party, data).await else {
            self.redis_counters.error.inc();
            return ticket(None, None);
        };
        let redis_ticket = time.shared(begun.now).map(|asked| RedisTicket {
            number_token: begun.number_token,
            asked,
        });
        ticket(redis_ticket, Some(begun.held))
    }

    /// What was stored when a load began: the later one of both tiers, if it may be served.
    #[must_use]
    pub(crate) fn stored_before(&self, ticket: &LoadTicket, key: &ContactKey) -> Option<Stored> {
        // Memory first, because what is found in Redis is in memory afterwards.
        let in_memory = self.in_memory(key);
        let held = ticket.before.held.as_ref();
        let in_redis =
            held.and_then(|held| self.promote(key, ticket.before.mark, self.entry(held, key)));
        latest(in_redis, in_memory)
    }

    /// Returns whether nothing has invalidated the answer of a load since it began. Other replicas
    /// may have, up to a second ago.
    #[must_use]
    pub(crate) fn is_current(&self, ticket: &LoadTicket, question: &QuestionKey) -> bool {
        let (watermark, user) = (ticket.watermark, question.user());
        self.invalidations
            .is_current(watermark, user, || self.names.party(user, question.party()))
    }

    /// Ends a load: stores its answer in both tiers, unless it was invalidated since the load began
    /// or a later one is stored. If it replaces another answer, the other replicas drop their
    /// copies of that within a second. A `refresh` that a person requested is always published to
    /// them, unless the answer is the same.
    pub async fn store(&self, key: &ContactKey, ticket: &LoadTicket, entry: &Entry, refresh: bool) {
        let earlier_here = self.store_in_memory(key, ticket, entry);
        let (Some(shared), Some(begun)) = (&self.shared, &ticket.shared) else {
            return;
        };
        match self.store_in_redis(shared, begun, key, entry).await {
            None | Some(StoreOutcome::Invalidated) => {}
            // Another replica has a later answer, which is read from Redis.
            Some(StoreOutcome::Superseded) => {
                let after = Timestamp(ticket.asked.0 + 1);
                self.memory.drop_older(&key.slot(), after);
            }
            Some(StoreOutcome::Stored(replaced)) => {
                self.keep_older_away(key, ticket, begun);
                let held = ticket.before.held.as_ref();
                let is_published = is_replacement(
                    entry,
                    held.and_then(|held| self.entry(held, key)),
                    replaced,
                    refresh || earlier_here.is_some_and(|earlier| !is_same(&earlier, entry)),
                );
                if is_published {
                    shared.replaced.push(key.slot(), begun.asked);
                }
            }
        }
    }

    /// Returns the replaced answer.
    fn store_in_memory(
        &self,
        key: &ContactKey,
        ticket: &LoadTicket,
        entry: &Entry,
    ) -> Option<Entry> {
        let known = self.memory.get(&key.slot());
        let answer = MemoryEntry {
            entry: entry.clone(),
            asked: ticket.asked,
            watermark: ticket.watermark,
        };
        self.memory.store(key.slot(), answer);
        known
            .filter(|known| known.asked < ticket.asked)
            .map(|known| known.entry)
    }

    /// Called once Redis has this load's answer. Memory may have stopped returning the answer:
    /// another replica has just reported that it replaced answers of this user, or the log has lost
    /// events. A look-up that has read an older answer from Redis must not keep it in memory: this
    /// replica replaced it, so no other replica would report that.
    fn keep_older_away(&self, key: &ContactKey, ticket: &LoadTicket, begun: &RedisTicket) {
        let kept = self.in_memory(key);
        if kept.is_none_or(|kept| kept.asked < ticket.asked) {
            let before = self.replaced_before(begun.asked);
            self.memory.drop_older(&key.slot(), before);
        }
    }

    /// `None` if Redis fails.
    async fn store_in_redis(
        &self,
        shared: &SharedParts,
        begun: &RedisTicket,
        key: &ContactKey,
        entry: &Entry,
    ) -> Option<StoreOutcome> {
        let life = self.memory.ages().get().ages(entry).stale;
        let now = shared.time.now().unwrap_or(begun.asked);
        let stored = shared
            .redis
            .store(key, &begun.number_token, entry, life, now)
            .await;
        if stored.is_err() {
            self.redis_counters.error.inc();
        }
        stored.ok()
    }
}

/// The answer that was loaded last; of equal ones the second.
fn latest(one: Option<Stored>, other: Option<Stored>) -> Option<Stored> {
    let both = one.into_iter().chain(other);
    both.max_by_key(|stored| stored.asked)
}

/// Returns whether `entry`, which was stored in Redis, makes copies at other replicas obsolete.
/// `earlier` was stored when the load began. `replaced` is the load time of the answer that `entry`
/// has replaced. If there is no earlier answer, `otherwise` decides.
fn is_replacement(
    entry: &Entry,
    earlier: Option<Entry>,
    replaced: Option<SharedTime>,
    otherwise: bool,
) -> bool {
    let earlier_asked = earlier.as_ref().map(Entry::asked_at);
    // Stored by another load since this one began.
    if replaced.is_some() && replaced != earlier_asked {
        return true;
    }
    earlier.map_or(otherwise, |earlier| !is_same(&earlier, entry))
}

fn is_same(one: &Entry, other: &Entry) -> bool {
    one.encoded() == other.encoded()
}
