//! The second tier: answers in Redis, shared by replicas.
//!
//! Owns the layout of stored answers. All keys of one user share a hash slot; a number stands in them as a keyed hash.
//! One hash for each user and number, `…:n:<party>`, has the fields
//!
//! * `g`: the user's generation (see `link::user`) under which it began,
//! * `e`: its epoch, a random token,
//! * one field for each question (format set, host, settings), the bytes of [`codec`](super::codec), and one before it, `a` and the
//!   question, with the time when the CRM was asked;
//!
//! and expires with the last of its answers.
//!
//! Promises that a load which began before an invalidation never fills this tier after it. The walk: a load *begins*:
//! it finds or creates the hash and takes its epoch along. An invalidation of the number deletes the hash; one of the
//! user deletes the generation first. The load ends and *stores*: the epoch it took is gone, or another load has
//! begun since and made a new one, and the answer is refused. Nothing here can be outrun, because the token is random
//! and lives where the answers do: where Redis was flushed, restarted empty, failed over to a replica that had not
//! heard of it, or evicted the hash in the middle, the epoch is gone as well and the answer is refused, which costs
//! one more load. Where Redis evicted the generation, whatever carries it is not there for any reader.
//!
//! Knows nothing of freshness or of the CRM. Redis trouble is a [`LinkError`], for the caller to treat as a miss.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Script};

use super::codec::Codec;
use super::keys::{KeyRing, Place};
use crate::domain::{ContactKey, Entry, Party, UserTag};
use crate::link::user::{self, millis, token};
use crate::link::{Link, LinkError, PartyHash, hex};

/// How long an epoch waits for its load. A load that takes longer is served, but not stored here.
const EPOCH: Duration = Duration::from_secs(900);

/// Answers read in one round trip: Redis serves nobody else meanwhile, and the reply must fit into the timeout.
pub(super) const CHUNK: usize = 500;

const BEGIN: &str = "
local held = generation(KEYS[1], ARGV[1], ARGV[4])
if redis.call('HGET', KEYS[2], 'g') ~= held then
    redis.call('DEL', KEYS[2])
    redis.call('HSET', KEYS[2], 'g', held, 'e', ARGV[2])
end
keep(KEYS[2], ARGV[4])
enter(KEYS[3], ARGV[5], KEYS[2])
return redis.call('HMGET', KEYS[2], 'e', ARGV[3])
";

const STORE: &str = "
local field = ARGV[2]
local held = redis.call('HMGET', KEYS[2], 'e', 'g', 'a' .. field)
if held[1] ~= ARGV[1] or held[2] ~= redis.call('GET', KEYS[1]) then return 0 end
if held[3] and tonumber(held[3]) > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[2], field, ARGV[4], 'a' .. field, ARGV[3])
keep(KEYS[1], ARGV[5])
keep(KEYS[2], ARGV[5])
enter(KEYS[3], ARGV[6], KEYS[2])
return 1
";

/// What a load takes along from its beginning to its end.
#[derive(Clone, PartialEq, Eq)]
pub struct Epoch(Vec<u8>);

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Epoch(…)")
    }
}

/// The beginning of a load.
#[derive(Debug)]
pub struct Begun {
    /// What is stored already, however old: another replica may have been faster.
    pub entry: Option<Entry>,
    /// For [`RedisTier::store`].
    pub epoch: Epoch,
}

/// Answers in Redis.
#[derive(Clone)]
pub struct RedisTier {
    link: Link,
    codec: Codec,
    begin: Arc<Script>,
    store: Arc<Script>,
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier").field("link", &self.link).finish_non_exhaustive()
    }
}

impl RedisTier {
    /// A tier behind a link.
    #[must_use]
    pub fn new(link: Link) -> Self {
        let codec = Codec::default();
        Self { link, codec, begin: Arc::new(user::script(BEGIN)), store: Arc::new(user::script(STORE)) }
    }

    /// The same tier with its answers sealed under `keys`, if there are any.
    #[must_use]
    pub fn sealed(self, keys: Option<KeyRing>) -> Self {
        Self { codec: Codec::new(keys), ..self }
    }

    /// The hash that stands for a party in names and in the log.
    #[must_use]
    pub fn party_hash(&self, user: UserTag, party: Party) -> PartyHash {
        self.link.names().party(user, party)
    }

    /// The beginning of a load, in one round trip.
    ///
    /// # Errors
    /// [`LinkError`]; the load may go on, but has nothing to store its answer under.
    pub async fn begin(&self, key: &ContactKey) -> Result<Begun, LinkError> {
        let (keys, suffix) = self.keys(key.user(), key.party());
        let (generation, epoch, question, ttl) = (token(), token(), key.question(), millis(EPOCH));
        let args: [&[u8]; 5] = [&generation, &epoch, &question, &ttl, suffix.as_bytes()];
        let (epoch, stored): (Vec<u8>, Option<Vec<u8>>) = self.link.script(&self.begin, &keys, &args).await?;
        Ok(Begun { entry: stored.and_then(|bytes| self.codec.decode(&self.place(key), &bytes)), epoch: Epoch(epoch) })
    }

    /// The stored answer, however old. Writes nothing.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn get(&self, key: &ContactKey) -> Result<Option<Entry>, LinkError> {
        Ok(self.read(key.user(), std::slice::from_ref(key)).await?.pop().flatten())
    }

    /// The stored answers to many questions of one user, in the order asked, in one round trip for each 500.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn get_many(&self, user: UserTag, keys: &[ContactKey]) -> Result<Vec<Option<Entry>>, LinkError> {
        let mut entries = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            entries.extend(self.read(user, chunk).await?);
        }
        Ok(entries)
    }

    /// The end of a load: stores its answer for `ttl`. False where it was refused: the number or user was
    /// invalidated since the load began, or an answer that was asked for later is there.
    ///
    /// # Errors
    /// [`LinkError`]; after [`LinkError::Timeout`] or [`LinkError::Broken`] it may be stored all the same.
    pub async fn store(
        &self,
        key: &ContactKey,
        epoch: &Epoch,
        entry: &Entry,
        ttl: Duration,
    ) -> Result<bool, LinkError> {
        let (keys, suffix) = self.keys(key.user(), key.party());
        let (question, asked_at) = (key.question(), entry.asked_at().0.to_string());
        let Some(value) = self.codec.encode(&self.place(key), entry) else { return Ok(false) };
        let ttl = millis(ttl);
        let args: [&[u8]; 6] = [&epoch.0, &question, asked_at.as_bytes(), &value, &ttl, suffix.as_bytes()];
        self.link.script(&self.store, &keys, &args).await
    }

    /// Deletes all answers about some parties. Loads under way will be refused.
    ///
    /// # Errors
    /// [`LinkError`]; then they may still be there, and the call should be made again.
    pub async fn forget_numbers(&self, user: UserTag, parties: &[Party]) -> Result<(), LinkError> {
        for parties in parties.chunks(CHUNK) {
            let mut pipe = Pipeline::with_capacity(parties.len() * 2);
            for party in parties {
                let ([_, hash, index], suffix) = self.keys(user, *party);
                pipe.del(hash).zrem(index, suffix);
            }
            self.link.pipeline::<Vec<u64>>(pipe).await?;
        }
        Ok(())
    }

    /// Deletes every key of a user, those of other rooms included.
    ///
    /// # Errors
    /// [`LinkError`]; then some or all may still be there, and the call should be made again.
    pub async fn forget_user(&self, user: UserTag) -> Result<(), LinkError> {
        user::forget(&self.link, user).await
    }

    async fn read(&self, user: UserTag, keys: &[ContactKey]) -> Result<Vec<Option<Entry>>, LinkError> {
        let names = self.link.names();
        let mut pipe = Pipeline::with_capacity(keys.len() + 1);
        pipe.get(user::generation(names, user));
        for key in keys {
            let hash = names.of_user(user, &suffix(names.party(user, key.party())));
            pipe.cmd("HMGET").arg(hash).arg("g").arg(&key.question());
        }
        let mut replies = self.link.pipeline::<Vec<redis::Value>>(pipe).await?.into_iter();
        let generation = replies.next().filter(|generation| matches!(generation, redis::Value::BulkString(_)));
        Ok(replies.zip(keys).map(|(reply, key)| self.answer(generation.as_ref()?, key, reply)).collect())
    }

    /// The entry in a reply of two fields, if it is of this generation.
    fn answer(&self, generation: &redis::Value, key: &ContactKey, reply: redis::Value) -> Option<Entry> {
        match reply {
            redis::Value::Array(fields) => match fields.as_slice() {
                [held, redis::Value::BulkString(bytes)] if held == generation => {
                    self.codec.decode(&self.place(key), bytes)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// What a sealed answer is bound to.
    fn place(&self, key: &ContactKey) -> Place {
        Place::new(key.user(), self.party_hash(key.user(), key.party()), key.question())
    }

    /// Generation, hash and index, and the hash's name in the index.
    fn keys(&self, user: UserTag, party: Party) -> ([String; 3], String) {
        let names = self.link.names();
        let suffix = suffix(names.party(user, party));
        ([user::generation(names, user), names.of_user(user, &suffix), user::index(names, user)], suffix)
    }
}

fn suffix(party: PartyHash) -> String {
    format!("n:{}", hex(&party.0))
}
