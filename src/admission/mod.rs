//! Which credential the CRM has accepted for which user, and whose it is.
//!
//! Owns that memory, in this process and in Redis. Promises that a credential counts as verified only
//! for a limited time after the CRM accepted it, after that as lapsed until no stored answer is
//! left that it was accepted for; that a refusal by the CRM ends it for all users at once; and that
//! Redis trouble admits nobody. Keeps keyed hashes only. Knows nothing of how the CRM is asked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::clock::Clock;
use crate::domain::{AuthTag, Identity, Timestamp, UserTag};
use crate::redis_link::{Link, Reads, RedisTime};

mod backoff;
mod credential;
mod retention;
mod shared;

use backoff::Backoff;
pub use credential::{AdmissionConfig, Credential, Trust};
use retention::{KeptSince, Remembered, Retention};
use shared::SharedCredentials;

/// Remembers which credentials were accepted. Clones share everything.
#[derive(Clone)]
pub struct Admissions {
    config: Arc<RwLock<AdmissionConfig>>,
    clock: Arc<dyn Clock>,
    memory: Remembered<(UserTag, AuthTag), Arc<Verification>>,
    /// When it was taken back, for calls that began before.
    revoked: Remembered<AuthTag, Timestamp>,
    /// Counts what was taken back, so that what was known before is looked at again.
    revocations: Arc<AtomicU64>,
    /// Whose a credential is by the CRM's word, whichever user id comes with it.
    owners: Remembered<AuthTag, Identity>,
    /// Whose answers this process may hold for a user id.
    identities: Remembered<UserTag, Arc<[Identity]>>,
    backoff: Backoff,
    shared: Option<SharedCredentials>,
}

/// Identities remembered of one user id.
const IDENTITIES: usize = 8;

/// That the CRM has accepted a credential.
#[derive(Debug)]
struct Verification {
    /// When the CRM was asked.
    asked: Timestamp,
    identity: Identity,
    /// Up to which revocation it is known to hold.
    checked: AtomicU64,
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
        config: AdmissionConfig,
        clock: Arc<dyn Clock>,
        redis: Option<(Link, Reads, RedisTime)>,
    ) -> Self {
        let hasher = foldhash::fast::RandomState::default;
        let config = Arc::new(RwLock::new(config));
        let used = || Retention::new(&config, KeptSince::Used);
        let memory = used()
            .cache()
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .support_invalidation_closures();
        let revoked = Retention::new(&config, KeptSince::Stored).cache();
        Self {
            memory: memory.build_with_hasher(hasher()),
            revoked: revoked.build_with_hasher(hasher()),
            revocations: Arc::default(),
            owners: used().cache().build_with_hasher(hasher()),
            identities: used().cache().build_with_hasher(hasher()),
            backoff: Backoff::default(),
            shared: redis.map(|(link, reads, time)| SharedCredentials::new(link, reads, time)),
            config,
            clock,
        }
    }

    /// What this process knows of the credential. Asks nobody.
    #[must_use]
    pub(crate) fn known(&self, user: UserTag, auth: AuthTag) -> Option<Credential> {
        let verification = self.memory.get(&(user, auth))?;
        let revocations = self.revocations.load(Ordering::Acquire);
        if verification.checked.load(Ordering::Acquire) != revocations {
            if self.is_revoked(auth, verification.asked) {
                return None;
            }
            verification.checked.store(revocations, Ordering::Release);
        }
        self.judge(verification.asked, verification.identity)
    }

    /// What this process or another one knows of the credential. Waits for Redis, at most for the
    /// link's timeout, if this process does not know it as verified.
    pub async fn lookup(&self, user: UserTag, auth: AuthTag) -> Option<Credential> {
        let known = self.known(user, auth);
        if known.is_some_and(|known| known.is_verified()) {
            return known;
        }
        self.lookup_shared(user, auth).await.or(known)
    }

    /// What Redis knows of the credential, which this process then knows as well.
    async fn lookup_shared(&self, user: UserTag, auth: AuthTag) -> Option<Credential> {
        let shared = self.shared.as_ref()?;
        let before = self.revocations.load(Ordering::Acquire);
        let (accepted, identity) = shared.read(user, auth).await.ok()??;
        let asked = shared.time().here(accepted)?;
        if self.is_revoked(auth, asked) {
            return None;
        }
        if self.revocations.load(Ordering::Acquire) == before {
            let verification = Verification {
                asked,
                identity,
                checked: before.into(),
            };
            self.remember((user, auth), verification);
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
        let verification = Verification {
            asked,
            identity,
            checked: checked.into(),
        };
        self.remember((user, auth), verification);
        if let Some(shared) = &self.shared
            && let Some(accepted) = shared.time().there(asked)
        {
            // If Redis does not get it, another replica asks the CRM once more.
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
        self.refuse(auth, self.clock.now());
        self.owners.invalidate(&auth);
        self.revocations.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes back all admissions of a user in this process. Those in Redis go with all else of the
    /// user ([`crate::redis_link::user::delete_keys`]).
    pub(crate) fn forget_user_here(&self, user: UserTag) {
        self.revocations.fetch_add(1, Ordering::AcqRel);
        // Fails only if the cache was built without support for it.
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
            self.backoff.succeeded(auth);
        } else {
            self.backoff.failed(auth, self.clock.now());
        }
    }

    /// Other settings hold from now on, for what is remembered as well.
    pub(crate) fn set_config(&self, config: AdmissionConfig) {
        let before = std::mem::replace(&mut *self.config.write(), config);
        if before == config {
            return;
        }
        // What has ended by the settings before stays ended: its refusal may be forgotten by now.
        let ended = self.clock.now().before(before.remembered);
        // Fails only if the cache was built without support for it.
        let _ = self
            .memory
            .invalidate_entries_if(move |_, verification| verification.asked <= ended);
        self.keep_refusals(self.refusals());
    }

    fn refusals(&self) -> Vec<(AuthTag, Timestamp)> {
        self.revoked
            .iter()
            .map(|(auth, refused)| (*auth, refused))
            .collect()
    }

    /// A refusal lasts as long as what it refuses: from now on by the settings of now.
    fn keep_refusals(&self, refusals: Vec<(AuthTag, Timestamp)>) {
        for (auth, refused) in refusals {
            self.refuse(auth, refused);
        }
    }

    /// The latest refusal counts, whichever is noted last.
    fn refuse(&self, auth: AuthTag, refused: Timestamp) {
        self.revoked.entry(auth).and_upsert_with(|known| {
            known.map_or(refused, |known| known.into_value().max(refused))
        });
    }

    fn remembered(&self) -> Duration {
        self.config.read().remembered
    }

    fn is_revoked(&self, auth: AuthTag, asked: Timestamp) -> bool {
        self.revoked
            .get(&auth)
            .is_some_and(|revoked| revoked >= asked)
    }

    /// Never in the place of a later verification.
    fn remember(&self, (user, auth): (UserTag, AuthTag), verification: Verification) {
        let (identity, asked) = (verification.identity, verification.asked);
        let known = self.memory.get(&(user, auth));
        if known.is_some_and(|known| known.asked > asked && known.identity == identity) {
            return;
        }
        self.memory.insert((user, auth), Arc::new(verification));
        if identity.is_known() {
            self.owners.insert(auth, identity);
        }
        self.remember_identity(user, identity);
    }

    /// As the latest one of the user.
    fn remember_identity(&self, user: UserTag, identity: Identity) {
        let known = self.identities(user);
        if known.first() == Some(&identity) {
            return;
        }
        let others = known.iter().filter(|known| **known != identity);
        let latest = std::iter::once(&identity).chain(others.take(IDENTITIES - 1));
        self.identities.insert(user, latest.copied().collect());
    }

    fn judge(&self, asked: Timestamp, identity: Identity) -> Option<Credential> {
        let age = self.clock.now().since(asked);
        Credential::judge(identity, age, *self.config.read())
    }
}

#[cfg(test)]
mod tests;
