//! Which credential the CRM has accepted for which user, and whose it is.
//!
//! Keeps this in the process and in Redis. A credential counts as verified only for a limited time
//! after the CRM accepted it. After that it counts as lapsed, until the last answer that was stored
//! under it has expired. If the CRM refuses it, it is no longer verified, for any user. A failure
//! of Redis admits nobody. Stores only keyed hashes. Knows nothing of how the CRM is asked.

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
mod refusals;
mod retention;
mod shared;

use backoff::Backoff;
pub use credential::{AdmissionConfig, Credential, Trust};
use refusals::{LastRefusal, Refusals};
use retention::{KeptSince, Remembered, Retention};
use shared::SharedCredentials;
#[cfg(any(test, fuzzing))]
pub(crate) use shared::record_is_sound;

/// Remembers which credentials were accepted. Clones share everything.
#[derive(Clone)]
pub struct Admissions {
    config: Arc<RwLock<AdmissionConfig>>,
    clock: Arc<dyn Clock>,
    memory: Remembered<(UserTag, AuthTag), Arc<Verification>>,
    refusals: Refusals,
    /// When everything was revoked, in milliseconds: calls that began before do not admit. 0 if it
    /// never was.
    all_revoked: Arc<AtomicU64>,
    /// Counts the times that admissions of a user or of all users were revoked here.
    invalidations: Arc<AtomicU64>,
    /// Whose a credential is according to the CRM, for any user id.
    owners: Remembered<AuthTag, Identity>,
    /// The identities whose answers this process may hold for a user id.
    identities: Remembered<UserTag, Arc<[Identity]>>,
    backoff: Backoff,
    shared: Option<SharedCredentials>,
}

/// Identities remembered per user id.
const IDENTITIES: usize = 8;

/// The CRM's acceptance of a credential.
#[derive(Debug)]
struct Verification {
    /// When the CRM was asked.
    asked: Timestamp,
    identity: Identity,
    refusal: Arc<LastRefusal>,
}

impl fmt::Debug for Admissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admissions")
            .field("memory", &self.memory.entry_count())
            .finish_non_exhaustive()
    }
}

impl Admissions {
    /// Nobody is admitted in this process yet. Without Redis, it does not learn whom other replicas
    /// have admitted.
    #[must_use]
    pub fn new(
        config: AdmissionConfig,
        clock: Arc<dyn Clock>,
        redis: Option<(Link, Reads, RedisTime)>,
    ) -> Self {
        let hasher = foldhash::fast::RandomState::default;
        let config = Arc::new(RwLock::new(config));
        let used = || Retention::new(&config, KeptSince::Used);
        let memory = used().cache().support_invalidation_closures();
        Self {
            memory: memory.build_with_hasher(hasher()),
            refusals: Refusals::new(Retention::new(&config, KeptSince::Stored)),
            all_revoked: Arc::default(),
            invalidations: Arc::default(),
            owners: used().cache().build_with_hasher(hasher()),
            identities: used().cache().build_with_hasher(hasher()),
            backoff: Backoff::default(),
            shared: redis.map(|(link, reads, time)| SharedCredentials::new(link, reads, time)),
            config,
            clock,
        }
    }

    /// The owner that the CRM has named, and when it was asked, if the credential is verified and
    /// stays so for a while.
    #[must_use]
    pub(crate) fn named(&self, user: UserTag, auth: AuthTag) -> Option<(Identity, Timestamp)> {
        let known = self.known(user, auth)?;
        let lasts = known.is_verified() && !known.due && known.identity.is_known();
        let verification = self.memory.get(&(user, auth)).filter(|_| lasts)?;
        Some((verification.identity, verification.asked))
    }

    /// What this process knows of the credential. Does not wait for Redis.
    #[must_use]
    pub(crate) fn known(&self, user: UserTag, auth: AuthTag) -> Option<Credential> {
        let verification = self.memory.get(&(user, auth))?;
        if self.is_revoked(&verification.refusal, verification.asked) {
            return None;
        }
        self.judge(verification.asked, verification.identity)
    }

    /// What this process or another replica knows of the credential. If it is not verified here,
    /// this waits for Redis, at most for the link's timeout.
    pub async fn lookup(&self, user: UserTag, auth: AuthTag) -> Option<Credential> {
        let known = self.known(user, auth);
        if known.is_some_and(|known| known.is_verified()) {
            return known;
        }
        self.lookup_shared(user, auth).await.or(known)
    }

    /// What Redis knows of the credential. This process remembers it.
    async fn lookup_shared(&self, user: UserTag, auth: AuthTag) -> Option<Credential> {
        let shared = self.shared.as_ref()?;
        let refusal = self.refusals.of(auth);
        let revocations = || (self.invalidations.load(Ordering::Acquire), refusal.latest());
        let before = revocations();
        let (accepted, identity) = shared.read(user, auth).await.ok()??;
        let asked = shared.time().here(accepted)?;
        if self.is_revoked(&refusal, asked) {
            return None;
        }
        // `asked` is an estimate: a refusal during the read may seem to be earlier.
        if revocations() == before {
            let verification = Verification {
                asked,
                identity,
                refusal: Arc::clone(&refusal),
            };
            self.remember((user, auth), verification);
        }
        self.judge(asked, identity)
    }

    /// The CRM has accepted the credential in a call that began at `asked`, and it belongs to
    /// `identity`. This process knows it at once. Redis and the other replicas know it when this
    /// returns, if Redis can be reached. A refusal after the call began takes precedence.
    pub async fn admit(&self, user: UserTag, auth: AuthTag, identity: Identity, asked: Timestamp) {
        let refusal = self.refusals.of(auth);
        if self.is_revoked(&refusal, asked) {
            return;
        }
        let identity = self.named_before(user, auth, identity);
        let verification = Verification {
            asked,
            identity,
            refusal,
        };
        self.remember((user, auth), verification);
        if let Some(shared) = &self.shared
            && let Some(accepted) = shared.time().there(asked)
        {
            // If Redis does not get it, another replica asks the CRM again.
            let _ = shared
                .admit(user, auth, accepted, &identity, self.remembered())
                .await;
        }
    }

    /// Stores in Redis that the CRM refused the credential at `refused`. Returns whether that
    /// succeeded; true without Redis. The other replicas' memory is updated by
    /// `cache::ReplicaEvent::Revoke`.
    pub async fn revoke_elsewhere(&self, auth: AuthTag, refused: Timestamp) -> bool {
        let Some(shared) = &self.shared else {
            return true;
        };
        let Some(at) = shared.time().there(refused) else {
            return false;
        };
        shared.revoke(auth, at, self.remembered()).await.is_ok()
    }

    /// The CRM has refused the credential, here or at another replica: this process no longer
    /// trusts it.
    pub fn revoke_here(&self, auth: AuthTag) {
        self.refusals.refuse(auth, self.clock.now());
        self.owners.invalidate(&auth);
    }

    /// Revokes all admissions of a user in this process. Those in Redis are deleted with everything
    /// else of the user ([`crate::redis_link::user::delete_keys`]).
    pub(crate) fn invalidate_user_here(&self, user: UserTag) {
        self.invalidations.fetch_add(1, Ordering::AcqRel);
        // Fails only if the cache was built without support for it.
        let _ = self
            .memory
            .invalidate_entries_if(move |(of, _), _| *of == user);
    }

    /// Revokes everything in this process: refusals by the CRM may have been lost. Calls that have
    /// begun already admit nobody.
    pub(crate) fn clear_here(&self) {
        let now = self.clock.now();
        self.all_revoked.fetch_max(now.0, Ordering::AcqRel);
        self.invalidations.fetch_add(1, Ordering::AcqRel);
        self.memory.invalidate_all();
    }

    /// Whose quota a credential spends: `identity` if the CRM has reported it, otherwise what the
    /// CRM has reported for the credential under any user id. This does not admit anybody.
    #[must_use]
    pub(crate) fn owner_of(&self, identity: Option<Identity>, auth: AuthTag) -> Option<Identity> {
        match identity {
            Some(identity) if identity.is_known() => Some(identity),
            Some(Identity::Caller) => identity,
            _ => self.owners.get(&auth).or(identity),
        }
    }

    /// The identities of credentials that were accepted for the user, the latest first.
    #[must_use]
    pub(crate) fn identities(&self, user: UserTag) -> Arc<[Identity]> {
        self.identities.get(&user).unwrap_or_default()
    }

    /// Returns whether the CRM may be asked whose credential it is. It is not asked for a while
    /// after it did not say.
    #[must_use]
    pub(crate) fn may_ask_who(&self, auth: AuthTag) -> bool {
        self.backoff.is_over(auth, self.clock.now())
    }

    /// The CRM was asked whose credential it is. `said` is whether it said so.
    pub(crate) fn asked_who(&self, auth: AuthTag, said: bool) {
        if said {
            self.backoff.succeeded(auth);
        } else {
            self.backoff.failed(auth, self.clock.now());
        }
    }

    /// Applies other settings, also to what is remembered.
    pub(crate) fn set_config(&self, config: AdmissionConfig) {
        let before = std::mem::replace(&mut *self.config.write(), config);
        if before == config {
            return;
        }
        // An acceptance that is too old by the old settings does not count again by the new ones: a
        // refusal that came after it may be forgotten already.
        let ended = self.clock.now().before(before.remembered);
        // Fails only if the cache was built without support for it.
        let _ = self
            .memory
            .invalidate_entries_if(move |_, verification| verification.asked <= ended);
        self.keep_refusals(self.refusals.recent());
    }

    /// A refusal is remembered as long as a verification is, counted from now with the current
    /// settings.
    fn keep_refusals(&self, refusals: Vec<(AuthTag, Timestamp)>) {
        for (auth, refused) in refusals {
            self.refusals.refuse(auth, refused);
        }
    }

    fn remembered(&self) -> Duration {
        self.config.read().remembered
    }

    fn is_revoked(&self, refusal: &LastRefusal, asked: Timestamp) -> bool {
        asked.0 < self.all_revoked.load(Ordering::Acquire) || refusal.is_after(asked)
    }

    /// If the CRM accepts a credential without naming its owner, the owner that it named before
    /// still counts. Otherwise the answers that are stored for that owner could not be found any
    /// more.
    fn named_before(&self, user: UserTag, auth: AuthTag, identity: Identity) -> Identity {
        let known = self.known(user, auth).map(|known| known.identity);
        match known.filter(Identity::is_known) {
            Some(named) if matches!(identity, Identity::Credential(_)) => named,
            _ => identity,
        }
    }

    /// Does not replace a later verification with the same identity.
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

    /// Adds the identity as the user's latest one.
    fn remember_identity(&self, user: UserTag, identity: Identity) {
        let known = self.identities(user);
        if known.first() == Some(&identity) {
            return;
        }
        self.identities.insert(user, latest(identity, &known));
    }

    fn judge(&self, asked: Timestamp, identity: Identity) -> Option<Credential> {
        let age = self.clock.now().since(asked);
        Credential::judge(identity, age, *self.config.read())
    }
}

/// An identity before the others that were known, the latest ones first.
fn latest(identity: Identity, known: &[Identity]) -> Arc<[Identity]> {
    let others = known.iter().filter(|known| **known != identity);
    let latest = std::iter::once(&identity).chain(others.take(IDENTITIES - 1));
    latest.copied().collect()
}

#[cfg(test)]
mod tests;
