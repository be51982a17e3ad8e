//! Which credential has proved itself for which user.
//!
//! Owns that memory, in this process and in Redis. Promises that a credential counts as proven only for a limited time
//! after the CRM accepted it for this very user, after that as lapsed until no stored answer is left that it was accepted
//! for, and that Redis trouble admits nobody. So a cached answer is never
//! given to somebody who has learnt a user's id but not the credential. Keeps keyed hashes of credentials only. Knows
//! nothing of how the CRM is asked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use redis::{Pipeline, Script};

use crate::clock::Clock;
use crate::domain::{AuthTag, Timestamp, UserTag};
use crate::link::user::{self, millis};
use crate::link::{Link, LinkError, hex};

/// Credentials remembered in this process, at some 150 bytes each; the least recently used is forgotten first.
const MOST: u64 = 100_000;

/// The admission carries the user's generation, so that it ends with it. It begins none: the load that proved the
/// credential did, and where that one is gone the user was erased meanwhile, and nothing of theirs is to be written.
const ADMIT: &str = "
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
keep(KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], held, 'PX', ARGV[1])
enter(KEYS[3], ARGV[2], KEYS[2])
return 1
";

/// Settings of admissions.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How long a credential that the CRM accepted is believed without asking it again.
    pub admitted: Duration,
    /// How long it is remembered that the CRM accepted it: at least as long.
    pub remembered: Duration,
}

/// What is known of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The CRM accepted it a short time ago.
    Proven,
    /// The CRM accepted it, but it is time to ask again. Where the CRM cannot say, it is still better than none.
    Lapsed,
    /// Nothing.
    Unknown,
}

/// Remembers which credentials were accepted.
#[derive(Clone)]
pub struct Admissions {
    config: Config,
    clock: Arc<dyn Clock>,
    /// When the CRM accepted it.
    memory: Cache<(UserTag, AuthTag), Timestamp, foldhash::fast::RandomState>,
    /// When it was taken back, for loads that began before.
    revoked: Cache<(UserTag, AuthTag), Timestamp, foldhash::fast::RandomState>,
    /// Counts what was taken back, so that an answer of Redis from before is not remembered after.
    revocations: Arc<AtomicU64>,
    shared: Option<Shared>,
}

#[derive(Clone)]
struct Shared {
    link: Link,
    admit: Arc<Script>,
}

impl fmt::Debug for Admissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admissions").field("memory", &self.memory.entry_count()).finish_non_exhaustive()
    }
}

impl Admissions {
    /// Nobody is admitted yet in this process; without a link nobody elsewhere counts.
    #[must_use]
    pub fn new(config: Config, clock: Arc<dyn Clock>, link: Option<Link>) -> Self {
        let cache = || {
            Cache::builder()
                .max_capacity(MOST)
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .time_to_live(config.remembered)
                .support_invalidation_closures()
                .build_with_hasher(foldhash::fast::RandomState::default())
        };
        let shared = link.map(|link| Shared { link, admit: Arc::new(user::script(ADMIT)) });
        Self { config, clock, memory: cache(), revoked: cache(), revocations: Arc::default(), shared }
    }

    /// What this process knows of the credential. Asks nobody.
    #[must_use]
    pub fn known(&self, user: UserTag, auth: AuthTag) -> Standing {
        self.memory.get(&(user, auth)).map_or(Standing::Unknown, |accepted| self.judge(accepted))
    }

    /// What this process or another one knows of the credential. Waits for Redis, at most for the link's timeout, where
    /// this process does not know it as proven.
    pub async fn standing(&self, user: UserTag, auth: AuthTag) -> Standing {
        let known = self.known(user, auth);
        let Some(shared) = self.shared.as_ref().filter(|_| known != Standing::Proven) else {
            return known;
        };
        let before = self.revocations.load(Ordering::Acquire);
        let Ok(Some(left)) = shared.left(user, auth).await else {
            return known;
        };
        let age = self.config.remembered.saturating_sub(left);
        let now = self.clock.now();
        let accepted = Timestamp(now.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
        if self.revocations.load(Ordering::Acquire) == before {
            self.memory.insert((user, auth), accepted);
        }
        self.judge(accepted)
    }

    /// Whether the credential is proven; as [`Admissions::standing`].
    pub async fn is_admitted(&self, user: UserTag, auth: AuthTag) -> bool {
        self.standing(user, auth).await == Standing::Proven
    }

    /// The CRM has accepted the credential for a load that began at `asked_at`. This process knows at once; Redis, and
    /// with it the others, as soon as this ends, if it can be reached. A refusal that came after the load began has the
    /// last word.
    pub async fn admit(&self, user: UserTag, auth: AuthTag, asked_at: Timestamp) {
        if self.revoked.get(&(user, auth)).is_some_and(|revoked| revoked >= asked_at) {
            return;
        }
        self.memory.insert((user, auth), self.clock.now());
        if let Some(shared) = &self.shared {
            // Where it cannot be told, another replica asks the CRM once more.
            let _ = shared.admit(user, auth, self.config.remembered).await;
        }
    }

    /// The CRM has refused the credential. The other replicas have to be told as well (`cache::Event::Revoke`).
    pub async fn revoke(&self, user: UserTag, auth: AuthTag) {
        self.revoke_here(user, auth);
        if let Some(shared) = &self.shared {
            let _ = shared.revoke(user, auth).await;
        }
    }

    /// As [`Self::revoke`], in this process only: what another replica tells.
    pub fn revoke_here(&self, user: UserTag, auth: AuthTag) {
        self.revocations.fetch_add(1, Ordering::Release);
        self.revoked.insert((user, auth), self.clock.now());
        self.memory.invalidate(&(user, auth));
    }

    /// Takes back all admissions of a user in this process. Those in Redis go with all else of the user
    /// ([`user::forget`]).
    pub fn forget_user_here(&self, user: UserTag) {
        self.revocations.fetch_add(1, Ordering::Release);
        // Fails only where the cache was built without support for it.
        let _ = self.memory.invalidate_entries_if(move |(of, _), _| *of == user);
    }

    /// Takes back everything in this process.
    pub fn clear_here(&self) {
        self.revocations.fetch_add(1, Ordering::Release);
        self.memory.invalidate_all();
    }

    fn judge(&self, accepted: Timestamp) -> Standing {
        match self.clock.now().since(accepted) {
            age if age < self.config.admitted => Standing::Proven,
            age if age < self.config.remembered => Standing::Lapsed,
            _ => Standing::Unknown,
        }
    }
}

impl Shared {
    /// How long it will still be remembered that the credential was accepted, if it was.
    async fn left(&self, user: UserTag, auth: AuthTag) -> Result<Option<Duration>, LinkError> {
        let names = self.link.names();
        let key = names.of_user(user, &suffix(auth));
        let mut pipe = Pipeline::new();
        pipe.get(user::generation(names, user)).get(&key).pttl(&key);
        let (generation, held, left): (Option<Vec<u8>>, Option<Vec<u8>>, i64) = self.link.pipeline(pipe).await?;
        let left = u64::try_from(left).ok().filter(|_| generation.is_some() && generation == held);
        Ok(left.map(Duration::from_millis))
    }

    async fn admit(&self, user: UserTag, auth: AuthTag, remembered: Duration) -> Result<(), LinkError> {
        let (names, suffix) = (self.link.names(), suffix(auth));
        let keys = [user::generation(names, user), names.of_user(user, &suffix), user::index(names, user)];
        let ttl = millis(remembered);
        let args: [&[u8]; 2] = [&ttl, suffix.as_bytes()];
        self.link.script::<u32>(&self.admit, &keys, &args).await.map(|_| ())
    }

    async fn revoke(&self, user: UserTag, auth: AuthTag) -> Result<(), LinkError> {
        let (names, suffix) = (self.link.names(), suffix(auth));
        let mut pipe = Pipeline::new();
        pipe.del(names.of_user(user, &suffix)).zrem(user::index(names, user), suffix);
        self.link.pipeline::<(u64, u64)>(pipe).await.map(|_| ())
    }
}

fn suffix(auth: AuthTag) -> String {
    format!("c:{}", hex(&auth.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn user(n: u8) -> UserTag {
        UserTag::from_bytes([n; 16])
    }

    fn auth(n: u8) -> AuthTag {
        AuthTag::from_bytes([n; 16])
    }

    fn admissions() -> (Admissions, ManualClock) {
        let clock = ManualClock::new(Timestamp(1_000_000));
        let config = Config { admitted: Duration::from_secs(3600), remembered: Duration::from_secs(86_400) };
        (Admissions::new(config, Arc::new(clock.clone()), None), clock)
    }

    #[tokio::test]
    async fn an_accepted_credential_is_believed_for_an_hour() {
        let (admissions, clock) = admissions();
        assert!(!admissions.is_admitted(user(1), auth(1)).await);
        admissions.admit(user(1), auth(1), clock.now()).await;
        clock.advance(Duration::from_secs(3599));
        assert!(admissions.is_admitted(user(1), auth(1)).await);
        clock.advance(Duration::from_secs(1));
        assert_eq!(admissions.standing(user(1), auth(1)).await, Standing::Lapsed, "for want of a better one");
        clock.advance(Duration::from_secs(86_400 - 3600));
        assert_eq!(admissions.standing(user(1), auth(1)).await, Standing::Unknown);
    }

    #[tokio::test]
    async fn a_load_that_began_before_a_refusal_does_not_undo_it() {
        let (admissions, clock) = admissions();
        let asked_at = clock.now();
        clock.advance(Duration::from_millis(5));
        admissions.revoke(user(1), auth(1)).await;
        admissions.admit(user(1), auth(1), asked_at).await;
        assert_eq!(admissions.known(user(1), auth(1)), Standing::Unknown);
        clock.advance(Duration::from_millis(5));
        admissions.admit(user(1), auth(1), clock.now()).await;
        assert_eq!(admissions.known(user(1), auth(1)), Standing::Proven);
    }

    #[tokio::test]
    async fn it_is_believed_for_its_user_only() {
        let (admissions, clock) = admissions();
        admissions.admit(user(1), auth(1), clock.now()).await;
        assert!(!admissions.is_admitted(user(2), auth(1)).await);
        assert!(!admissions.is_admitted(user(1), auth(2)).await);
    }

    #[tokio::test]
    async fn what_is_taken_back_is_not_believed() {
        let (admissions, clock) = admissions();
        for n in 1..=3 {
            admissions.admit(user(n), auth(n), clock.now()).await;
            admissions.admit(user(n), auth(9), clock.now()).await;
        }
        admissions.revoke(user(1), auth(1)).await;
        admissions.forget_user_here(user(2));
        let mut known = Vec::new();
        for n in 1..=3 {
            known.push([9, n].map(|m| admissions.known(user(n), auth(m)) == Standing::Proven));
        }
        assert_eq!(known, [[true, false], [false, false], [true, true]]);
        admissions.clear_here();
        assert_eq!(admissions.known(user(3), auth(3)), Standing::Unknown);
    }
}
