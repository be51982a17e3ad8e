//! One load per key across replicas.
//!
//! A lease is a key in Redis with a random token of its holder, and expires by itself. As long as
//! Redis keeps it, at most one replica holds the lease of a question. If a holder dies, its lease
//! is free again within three seconds. A lease saves calls, but correctness does not depend on it:
//! without Redis every replica loads. Knows nothing of what is loaded.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redis::Script;
use tokio_util::task::TaskTracker;

use crate::clock::sleep;
use crate::domain::{AuthTag, Lane, QuestionKey};
use crate::redis_link::user::{self, millis, token};
use crate::redis_link::{Link, LinkError, hex};

/// How long a lease lives after its holder last renewed it.
const LIFE: Duration = Duration::from_secs(3);

/// How often a holder renews it: two of three renewals may be lost.
const RENEWAL: Duration = Duration::from_secs(1);

/// How many times a release is tried, and the time between two tries: a bit over a second in all.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(100);

/// A token is the urgency of its load, its replica, and a random part. A load for a ringing phone
/// takes over the lease of a background load, because the latter may wait in the queue for minutes.
/// A replica may also take over its own lease, for two reasons. An invalidation came during its
/// earlier load. Or Redis executed an earlier request late, after this replica had given it up and
/// released the lease.
const ACQUIRE: &str = "
local holder = redis.call('GET', KEYS[1])
-- A lease that lives for longer than it may was made before Redis' clock was set back.
if holder and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2]) then
    local hurry = string.byte(ARGV[1]) == 1 and string.byte(holder) == 0
    local own = string.sub(holder, 2, 8) == string.sub(ARGV[1], 2, 8)
    if not hurry and not own then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
enter(KEYS[2], ARGV[3], KEYS[1])
return 1
";

const RENEW: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
enter(KEYS[2], ARGV[3], KEYS[1])
return 1
";

const RELEASE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[3])
return redis.call('DEL', KEYS[1])
";

/// Leases of loads.
#[derive(Clone)]
pub struct Leases {
    link: Link,
    scripts: Arc<LeaseScripts>,
    tasks: TaskTracker,
    /// Random, in all tokens of this replica.
    replica: [u8; 7],
}

struct LeaseScripts {
    acquire: Script,
    renew: Script,
    release: Script,
}

impl Default for LeaseScripts {
    fn default() -> Self {
        Self {
            acquire: user::script(ACQUIRE),
            renew: user::script(RENEW),
            release: user::script(RELEASE),
        }
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// The answer to [`Leases::acquire`].
#[derive(Debug)]
pub enum Acquired {
    /// Load within [`Lease::keep`].
    Lease(Lease),
    /// Another replica loads: check Redis again in a moment.
    Held,
    /// Redis cannot be reached or refuses the command: load without a lease.
    Unavailable,
}

/// The right to load, until it expires. On drop it is given back in the background, so that others
/// need not wait for its expiry.
pub struct Lease {
    holding: Arc<Holding>,
    tasks: TaskTracker,
    held: bool,
}

struct Holding {
    link: Link,
    scripts: Arc<LeaseScripts>,
    keys: [String; 2],
    suffix: String,
    token: [u8; 16],
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease(…)")
    }
}

impl Leases {
    /// Leases over a link. They are given back in tasks of `tasks`.
    #[must_use]
    pub fn new(link: Link, tasks: TaskTracker) -> Self {
        let [replica @ .., _, _, _, _, _, _, _, _, _] = token();
        Self {
            link,
            scripts: Arc::default(),
            tasks,
            replica,
        }
    }

    /// Requests the lease of a question under a credential, within the link's timeout. If this
    /// replica holds it for an earlier load, the lease goes to this one. A call pop takes the lease
    /// from background work. That costs one more load.
    pub async fn acquire(&self, question: &QuestionKey, auth: AuthTag, lane: Lane) -> Acquired {
        // Counts as held from now on: if the caller leaves before Redis answers, Redis may still
        // have granted the lease.
        let mut lease = Lease {
            holding: Arc::new(self.holding(question, auth, lane)),
            tasks: self.tasks.clone(),
            held: true,
        };
        let acquired = lease.holding.run(&self.scripts.acquire).await;
        // If no answer arrived, the lease may have been granted as well.
        lease.held = matches!(
            acquired,
            Ok(true) | Err(LinkError::Timeout | LinkError::Broken)
        );
        match acquired {
            Ok(true) => Acquired::Lease(lease),
            Ok(false) => Acquired::Held,
            Err(_) => Acquired::Unavailable,
        }
    }

    /// What a lease has in Redis: its keys, and a token of its own.
    fn holding(&self, question: &QuestionKey, auth: AuthTag, lane: Lane) -> Holding {
        let (names, user) = (self.link.names(), question.user());
        let suffix = format!("l:{}:{}", hex(&question.to_bytes()), hex(&auth.to_bytes()));
        let mut token = token();
        token[0] = u8::from(lane == Lane::CallPop);
        token[1..8].copy_from_slice(&self.replica);
        Holding {
            link: self.link.clone(),
            scripts: Arc::clone(&self.scripts),
            keys: [names.of_user(user, &suffix), user::index_key(names, user)],
            suffix,
            token,
        }
    }
}

impl Lease {
    /// Runs a load and renews the lease meanwhile. If the lease is lost, the load continues.
    pub async fn keep<F: Future>(&self, load: F) -> F::Output {
        let mut load = pin!(load);
        loop {
            // The wait and the renewal run beside the load, which must not pause.
            let renewal = async {
                sleep(RENEWAL).await;
                // A failure looks like a lost lease, and nothing can be done about either.
                let _ = self.holding.run(&self.holding.scripts.renew).await;
            };
            tokio::select! {
                biased;
                loaded = &mut load => return loaded,
                () = renewal => {}
            }
        }
    }
}

/// Whether another attempt may succeed.
fn is_passing(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::Down | LinkError::Broken | LinkError::Timeout
    )
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.held {
            let holding = Arc::clone(&self.holding);
            self.tasks.spawn(async move { holding.release().await });
        }
    }
}

impl Holding {
    /// A broken connection is usually replaced in a moment, and another replica's phone may ring
    /// meanwhile. If all attempts fail, the lease expires by itself.
    async fn release(&self) {
        for _ in 0..TRIES {
            match self.run(&self.scripts.release).await {
                Err(error) if is_passing(&error) => sleep(BETWEEN).await,
                _ => return,
            }
        }
    }

    async fn run(&self, script: &Script) -> Result<bool, LinkError> {
        let life = millis(LIFE);
        let args: [&[u8]; 3] = [&self.token, &life, self.suffix.as_bytes()];
        self.link.script(script, &self.keys, &args).await
    }
}
