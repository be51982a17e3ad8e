//! Which credential the CRM has accepted for which user, and whose it is.
//!
//! Owns that memory, in this process and in Redis. Promises that a credential counts as proven only
//! for a limited time after the CRM accepted it, after that as lapsed until no stored answer is
//! left that it was accepted for; that a refusal by the CRM ends it for all users at once; and that
//! Redis trouble admits nobody. Keeps keyed hashes only. Knows nothing of how the CRM is asked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::RwLock;

use crate::clock::Clock;
use crate::domain::{AuthTag, Identity, Timestamp, UserTag};
use crate::redis_link::{Link, Reads, RedisTime};

mod backoff;
mod shared;

use backoff::Backoff;
use shared::Shared;

/// Credentials remembered in this process, at some 200 bytes each; the least recently used is
/// forgotten first.
const MOST: u64 = 100_000;

/// A proven credential is renewed from this part of `cache.admitted` on, in tenths.
const RENEWED_FROM: u32 = 8;

/// Settings of admissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long a credential that the CRM accepted is believed without asking it again.
    pub admitted: Duration,
    /// How long it is remembered that the CRM accepted it: longer than any answer is kept.
    pub remembered: Duration,
}

/// How far a credential is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The CRM accepted it a short time ago.
    Proven,
    /// The CRM accepted it, but it is time to ask again. If the CRM cannot be reached, it is still
    /// better than none.
    Lapsed,
}

/// What is known of a credential that the CRM has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    /// Whose it is.
    pub identity: Identity,
    /// How far it is trusted.
    pub trust: Trust,
    /// Whether it is proven, but not for much longer.
    pub(crate) due: bool,
}

impl Credential {
    /// Whether stored answers may be served under it without asking the CRM.
    #[must_use]
    pub(crate) fn is_proven(&self) -> bool {
        self.trust == Trust::Proven
    }
}

/// Remembers which credentials were accepted. Clones share everything.
#[derive(Clone)]
pub struct Admissions {
    config: Arc<RwLock<Config>>,
    clock: Arc<dyn Clock>,
    memory: Cache<(UserTag, AuthTag), Arc<Accepted>, foldhash::fast::RandomState>,
    /// When it was taken back, for calls that began before.
    revoked: Cache<AuthTag, Timestamp, foldhash::fast::RandomState>,
    /// Counts what was taken back, so that what was known before is looked at again.
    revocations: Arc<AtomicU64>,
    /// Whose a credential is by the CRM's word, whichever user id comes with it.
    owners: Cache<AuthTag, Identity, foldhash::fast::RandomState>,
    /// Whose answers this process may hold for a user id.
    identities: Cache<UserTag, Arc<[Identity]>, foldhash::fast::RandomState>,
    backoff: Backoff,
    shared: Option<Shared>,
}

/// Identities remembered of one user id.
const IDENTITIES: usize = 8;

/// An acceptance.
#[derive(Debug)]
struct Accepted {
    /// When the CRM was asked.
    asked: Timestamp,
    identity: Identity,
    /// Up to which revocation it is known to hold.
    checked: AtomicU64,
}

/// How long something is remembered: since it was stored, or since it was used.
struct Remembered {
    config: Arc<RwLock<Config>>,
    used: bool,
}

impl<K, V> moka::Expiry<K, V> for Remembered {
    fn expire_after_create(&self, _: &K, _: &V, _: std::time::Instant) -> Option<Duration> {
        Some(self.config.read().remembered)
    }

    fn expire_after_update(
        &self,
        _: &K,
        _: &V,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.config.read().remembered)
    }

    fn expire_after_read(
        &self,
        _: &K,
        _: &V,
        _: std::time::Instant,
        left: Option<Duration>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        if self.used {
            Some(self.config.read().remembered)
        } else {
            left
        }
    }
}

impl fmt::Debug for Admissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admissions")
            .field("memory", &self.memory.entry_count())
            .finish_non_exhaustive()
    }
}

impl Admissions {
    /// Nobody is admitted yet in this process; without Redis nobody elsewhere counts.
    #[must_use]
    pub fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        redis: Option<(Link, Reads, RedisTime)>,
    ) -> Self {
        let hasher = foldhash::fast::RandomState::default;
        let config = Arc::new(RwLock::new(config));
        let since = |used: bool| Remembered {
            config: Arc::clone(&config),
            used,
        };
        let memory = Cache::builder()
            .max_capacity(MOST)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .expire_after(since(true))
            .support_invalidation_closures()
            .build_with_hasher(hasher());
        let revoked = Cache::builder()
            .max_capacity(MOST)
            .expire_after(since(false))
            .build_with_hasher(hasher());
        let identities = Cache::builder()
            .max_capacity(MOST)
            .expire_after(since(true))
            .build_with_hasher(hasher());
        let owners = Cache::builder()
            .max_capacity(MOST)
            .expire_after(since(true))
            .build_with_hasher(hasher());
        let shared = redis.map(|(link, reads, time)| Shared::new(link, reads, time));
        let (revocations, backoff) = (Arc::default(), Backoff::default());
        Self {
            config,
            clock,
            memory,
            revoked,
            revocations,
            owners,
            identities,
            backoff,
            shared,
        }
    }

    /// What this process knows of the credential. Asks nobody.
    #[must_use]
    pub(crate) fn known(&self, user: UserTag, auth: AuthTag) -> Option<Credential> {
        let accepted = self.memory.get(&(user, auth))?;
        let revocations = self.revocations.load(Ordering::Acquire);
        if accepted.checked.load(Ordering::Acquire) != revocations {
            if self.is_revoked(auth, accepted.asked) {
                return None;
            }
            accepted.checked.store(revocations, Ordering::Release);
        }
        self.judge(accepted.asked, accepted.identity)
    }

    /// What this process or another one knows of the credential. Waits for Redis, at most for the
    /// link's timeout, if this process does not know it as proven.
    pub async fn lookup(&self, user: UserTag, auth: AuthTag) -> Option<Credential> {
        let known = self.known(user, auth);
        let Some(shared) = self
            .shared
            .as_ref()
            .filter(|_| !known.is_some_and(|known| known.is_proven()))
        else {
            return known;
        };
        let before = self.revocations.load(Ordering::Acquire);
        let Ok(Some((accepted, identity))) = shared.read(user, auth).await else {
            return known;
        };
        let Some(asked) = shared
            .time()
            .here(accepted)
            .filter(|asked| !self.is_revoked(auth, *asked))
        else {
            return known;
        };
        if self.revocations.load(Ordering::Acquire) == before {
            self.remember(
                (user, auth),
                Accepted {
                    asked,
                    identity,
                    checked: before.into(),
                },
            );
        }
        self.judge(asked, identity)
    }

    /// The CRM has accepted the credential in a call that began at `asked`, and this is whose it
    /// is. This process knows at once; Redis, and with it the others, as soon as this ends, if it
    /// can be reached. A refusal that came after the call began has the last word.
    pub async fn admit(&self, user: UserTag, auth: AuthTag, identity: Identity, asked: Timestamp) {
        // Counted before it is looked at, so that a refusal between the two is not missed for good.
        let checked = self.revocations.load(Ordering::Acquire);
        if self.is_revoked(auth, asked) {
            return;
        }
        self.remember(
            (user, auth),
            Accepted {
                asked,
                identity,
                checked: checked.into(),
            },
        );
        if let Some(shared) = &self.shared
            && let Some(accepted) = shared.time().there(asked)
        {
            // If it cannot be told, another replica asks the CRM once more.
            let _ = shared
                .admit(user, auth, accepted, &identity, self.remembered())
                .await;
        }
    }

    /// Has Redis remember that the CRM refused the credential at `refused`. Returns whether it
    /// does; true without Redis. The other replicas' memory is for `cache::Event::Revoke`.
    pub async fn revoke_elsewhere(&self, auth: AuthTag, refused: Timestamp) -> bool {
        let Some(shared) = &self.shared else {
            return true;
        };
        let Some(at) = shared.time().there(refused) else {
            return false;
        };
        shared.revoke(auth, at, self.remembered()).await.is_ok()
    }

    /// The CRM has refused the credential, here or at another replica: this process believes it no
    /// more.
    pub fn revoke_here(&self, auth: AuthTag) {
        self.revoked.insert(auth, self.clock.now());
        self.owners.invalidate(&auth);
        self.revocations.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes back all admissions of a user in this process. Those in Redis go with all else of the
    /// user ([`crate::redis_link::user::delete_keys`]).
    pub(crate) fn forget_user_here(&self, user: UserTag) {
        self.revocations.fetch_add(1, Ordering::AcqRel);
        // Fails only where the cache was built without support for it.
        let _ = self
            .memory
            .invalidate_entries_if(move |(of, _), _| *of == user);
    }

    /// Takes back everything in this process.
    pub(crate) fn clear_here(&self) {
        self.revocations.fetch_add(1, Ordering::AcqRel);
        self.memory.invalidate_all();
    }

    /// Whose quota a credential spends: its identity if the CRM has said it, else what the CRM has
    /// said of the credential under whichever user id. It admits nobody.
    #[must_use]
    pub(crate) fn owner_of(&self, identity: Option<Identity>, auth: AuthTag) -> Option<Identity> {
        match identity {
            Some(identity) if identity.is_known() => Some(identity),
            Some(Identity::Caller) => identity,
            _ => self.owners.get(&auth).or(identity),
        }
    }

    /// The identities that credentials had which were accepted for the user, the latest first.
    #[must_use]
    pub(crate) fn identities(&self, user: UserTag) -> Arc<[Identity]> {
        self.identities.get(&user).unwrap_or_default()
    }

    /// Whether the CRM may be asked who the credential is: not for a while after it did not say.
    #[must_use]
    pub(crate) fn may_ask_who(&self, auth: AuthTag) -> bool {
        self.backoff.is_over(auth, self.clock.now())
    }

    /// The CRM was asked who the credential is, and said it or not.
    pub(crate) fn asked_who(&self, auth: AuthTag, said: bool) {
        if said {
            self.backoff.succeeded(auth)
        } else {
            self.backoff.failed(auth, self.clock.now())
        }
    }

    /// Other settings hold from now on, for what is remembered as well.
    pub(crate) fn set_config(&self, config: Config) {
        let before = std::mem::replace(&mut *self.config.write(), config);
        if before == config {
            return;
        }
        // What has ended by the settings before stays ended: its refusal may be forgotten by now.
        let ended = self.clock.now().before(before.remembered);
        // Fails only where the cache was built without support for it.
        let _ = self
            .memory
            .invalidate_entries_if(move |_, accepted| accepted.asked <= ended);
        // A refusal lasts as long as what it refuses.
        for (auth, refused) in &self.revoked {
            self.revoked.insert(*auth, refused);
        }
    }

    fn remembered(&self) -> Duration {
        self.config.read().remembered
    }

    fn is_revoked(&self, auth: AuthTag, asked: Timestamp) -> bool {
        self.revoked
            .get(&auth)
            .is_some_and(|revoked| revoked >= asked)
    }

    /// Never in the place of a later acceptance.
    fn remember(&self, whose: (UserTag, AuthTag), accepted: Accepted) {
        let (user, identity, asked) = (whose.0, accepted.identity, accepted.asked);
        let later = self
            .memory
            .get(&whose)
            .is_some_and(|known| known.asked > asked && known.identity == identity);
        if later {
            return;
        }
        self.memory.insert(whose, Arc::new(accepted));
        if identity.is_known() {
            self.owners.insert(whose.1, identity);
        }
        let known = self.identities(user);
        if known.first() != Some(&identity) {
            let others = known
                .iter()
                .filter(|known| **known != identity)
                .take(IDENTITIES - 1);
            self.identities.insert(
                user,
                std::iter::once(&identity).chain(others).copied().collect(),
            );
        }
    }

    fn judge(&self, asked: Timestamp, identity: Identity) -> Option<Credential> {
        let Config {
            admitted,
            remembered,
        } = *self.config.read();
        let age = self.clock.now().since(asked);
        let credential = |trust, due| {
            Some(Credential {
                identity,
                trust,
                due,
            })
        };
        match age {
            age if age < admitted => credential(Trust::Proven, age >= admitted / 10 * RENEWED_FROM),
            age if age < remembered => credential(Trust::Lapsed, false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
