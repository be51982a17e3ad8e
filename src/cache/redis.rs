//! The second tier: answers in Redis, shared by replicas.
//!
//! Defines the keys of stored answers. All keys of one user share a hash slot; a number appears in
//! them as a keyed hash. There is one value for each user and number, `…:a:<party>`. It contains
//! the answers to all questions about the number ([`layout`](super::layout)), and the tokens of the
//! user, of the data and of the number. It expires with the last of its answers.
//!
//! A load that began before an invalidation never fills this tier after it:
//!
//! * A load *begins*: it finds or creates the value and keeps its number token.
//! * An invalidation of the number deletes the value. An invalidation of the user deletes the user
//!   token first.
//! * The load ends and *stores*. If its number token is gone, or another load has begun since and
//!   made a new one, the answer is refused.
//!
//! The order of events does not matter, because the token is random and stored with the answers. If
//! Redis was flushed, restarted empty, failed over to a replica without the value, or evicted it,
//! the number token is gone as well. Then the answer is refused, which costs one more load. If the
//! token of the data is replaced, no earlier value counts, and the next load makes a new one. If
//! Redis evicted the user token, readers ignore everything with that token, except those who read
//! it within the last second ([`token_cache`](super::token_cache)).
//!
//! Knows nothing of freshness or of the CRM. Redis failures are [`LinkError`]s, which the caller
//! treats as misses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Script};

use super::codec::EntryCodec;
use super::keys::{KeyRing, SealContext};
use super::layout::{Layout, NumberAnswers, OWNERS, RECORDS, record};
use crate::domain::{ContactKey, Entry, Party, SharedTime, UserTag};
use crate::redis_link::user::{self, UserToken, millis, token};
use crate::redis_link::{DataToken, KeyNames, Link, LinkError, PartyHash, Reads};

/// How long a number token waits for its load. A longer load is served, but not stored here.
const TOKEN_LIFE: Duration = Duration::from_secs(900);

/// Answers read in one round trip: Redis serves nobody else meanwhile, and the reply must arrive
/// within the timeout.
pub(super) const CHUNK: usize = 500;

const BEGIN: &str = "
local token = user_token(KEYS[1], ARGV[1], ARGV[3])
local value = redis.call('GET', KEYS[2])
if not value or #value < 40 or string.sub(value, 1, 24) ~= token .. ARGV[5] then
    value = token .. ARGV[5] .. ARGV[2]
    redis.call('SET', KEYS[2], value, 'PX', ARGV[3])
end
keep(KEYS[2], ARGV[3])
enter(KEYS[3], ARGV[4], KEYS[2])
return {value, now()}
";

/// What [`STORE`] returns if the number or the user was invalidated, and if a later answer is
/// stored.
const INVALIDATED: i64 = -1;
const SUPERSEDED: i64 = -2;

/// Returns the time at which the replaced answer was loaded, zero if there was none, or one of the
/// two codes above. A damaged length ends the loop over the records, or lets one through that no
/// reader accepts.
const STORE: &str = "
local value, record = redis.call('GET', KEYS[2]), ARGV[2]
if not value or string.sub(value, 1, 16) ~= redis.call('GET', KEYS[1]) then return -1 end
if string.sub(value, 25, 40) ~= ARGV[1] then return -1 end
local slot, asked, replaced = string.sub(record, 9, 24), struct.unpack('>I8', record, 25), 0
local parts, from = {string.sub(value, 1, 40), record}, 41
local kept, owners = {[string.sub(record, 1, 8)] = 1}, 1
while from + 35 <= #value do
    local owner, earlier, length = string.sub(value, from, from + 7), struct.unpack('>I8I4', value, from + 24)
    local to = from + 35 + length
    if string.sub(value, from + 8, from + 23) == slot then
        if earlier > asked and earlier <= tonumber(ARGV[7]) then return -2 end
        replaced = earlier
    else
        if not kept[owner] and owners < tonumber(ARGV[6]) then kept[owner], owners = 0, owners + 1 end
        if kept[owner] and kept[owner] < tonumber(ARGV[5]) then
            kept[owner] = kept[owner] + 1
            parts[#parts + 1] = string.sub(value, from, to)
        end
    end
    from = to + 1
end
redis.call('SET', KEYS[2], table.concat(parts), 'PX', math.max(ARGV[3], redis.call('PTTL', KEYS[2])))
keep(KEYS[1], ARGV[3])
enter(KEYS[3], ARGV[4], KEYS[2])
return replaced
";

/// What a load keeps from its start to its end.
#[derive(Clone, PartialEq, Eq)]
pub struct NumberToken(Vec<u8>);

impl fmt::Debug for NumberToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NumberToken(…)")
    }
}

/// The start of a load.
#[derive(Debug)]
pub struct Begun {
    /// What is already stored, whatever its age: another replica may have been faster.
    pub held: NumberAnswers,
    /// For [`RedisTier::store`].
    pub number_token: NumberToken,
    /// Redis' time.
    pub now: SharedTime,
}

/// How storing an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOutcome {
    /// It is stored. If it replaced an earlier one: when that was loaded.
    Stored(Option<SharedTime>),
    /// The number or user was invalidated since the load began.
    Invalidated,
    /// A later answer is stored.
    Superseded,
}

impl StoreOutcome {
    /// Decodes the return value of [`STORE`].
    fn read(replaced: i64) -> Self {
        match replaced {
            INVALIDATED => Self::Invalidated,
            SUPERSEDED => Self::Superseded,
            asked => Self::Stored(time_of(asked)),
        }
    }
}

/// A time that a script returns; 0 or less is none.
fn time_of(asked: i64) -> Option<SharedTime> {
    let asked = u64::try_from(asked).ok().filter(|asked| *asked > 0);
    asked.map(SharedTime)
}

/// Answers in Redis.
#[derive(Clone)]
pub struct RedisTier {
    link: Link,
    reads: Reads,
    codec: EntryCodec,
    begin: Arc<Script>,
    store: Arc<Script>,
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl RedisTier {
    /// A tier over a link. Its look-ups are batched with others by `reads`.
    #[must_use]
    pub fn new(link: Link, reads: Reads) -> Self {
        let codec = EntryCodec::default();
        Self {
            link,
            reads,
            codec,
            begin: Arc::new(user::script(BEGIN)),
            store: Arc::new(user::script(STORE)),
        }
    }

    /// The same tier with its answers sealed under `keys`, if there are any.
    #[must_use]
    pub fn sealed(self, keys: Option<KeyRing>) -> Self {
        Self {
            codec: EntryCodec::new(keys),
            ..self
        }
    }

    /// Begins a load, in one round trip.
    ///
    /// # Errors
    /// [`LinkError`]. The load may continue, but cannot store its answer.
    pub async fn begin(
        &self,
        user: UserTag,
        party: Party,
        data: DataToken,
    ) -> Result<Begun, LinkError> {
        let (keys, suffix, party) = self.keys(user, party);
        let (user_token, number_token, ttl) = (token(), token(), millis(TOKEN_LIFE));
        let args: [&[u8]; 5] = [
            &user_token,
            &number_token,
            &ttl,
            suffix.as_bytes(),
            data.as_bytes(),
        ];
        let (bytes, now): (Vec<u8>, u64) = self.link.script(&self.begin, &keys, &args).await?;
        let layout = Layout::read(&bytes).ok_or(LinkError::Unexpected)?;
        let (user_token, number_token) = (
            Some(layout.user_token),
            NumberToken(layout.number_token.to_vec()),
        );
        Ok(Begun {
            held: NumberAnswers {
                party,
                value: Some(bytes),
                user_token,
                data,
            },
            number_token,
            now: SharedTime(now),
        })
    }

    /// Reads what is stored for a number, whatever its age. Writes nothing. Takes one round trip,
    /// which concurrent look-ups share, and reads one key if the user token is `known`, otherwise
    /// two. If the user has another token by now, it takes a second round trip.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn get(
        &self,
        user: UserTag,
        party: Party,
        known: Option<UserToken>,
        data: DataToken,
    ) -> Result<NumberAnswers, LinkError> {
        let names = self.link.names();
        let party = names.party(user, party);
        let value = self.reads.get(names.number(user, party));
        let (mut user_token, value) = match known {
            Some(known) => (Some(known), value.await?),
            None => tokio::try_join!(self.user_token(user), value)?,
        };
        let read = value.as_deref().and_then(Layout::read);
        if known.is_some() && read.is_some_and(|layout| user_token != Some(layout.user_token)) {
            user_token = self.user_token(user).await?;
        }
        Ok(NumberAnswers {
            party,
            value,
            user_token,
            data,
        })
    }

    async fn user_token(&self, user: UserTag) -> Result<Option<UserToken>, LinkError> {
        let held = self
            .reads
            .get(user::token_key(self.link.names(), user))
            .await?;
        Ok(held.and_then(|held| UserToken::read(&held)))
    }

    /// The answer to one question for one identity, if `held` contains it.
    #[must_use]
    pub fn entry(&self, held: &NumberAnswers, key: &ContactKey) -> Option<Entry> {
        self.codec.decode(
            &SealContext::new(held.party, key.slot()),
            held.layout()?.find(key)?,
        )
    }

    /// Ends a load: stores its answer for `ttl`. `now` is the shared time. If a stored answer's
    /// time is later than `now` by more than clocks can differ, the answer is replaced as if it
    /// were older.
    ///
    /// # Errors
    /// [`LinkError`]. After [`LinkError::Timeout`] or [`LinkError::Broken`] the answer may be
    /// stored anyway.
    pub async fn store(
        &self,
        key: &ContactKey,
        number_token: &NumberToken,
        entry: &Entry,
        ttl: Duration,
        now: SharedTime,
    ) -> Result<StoreOutcome, LinkError> {
        let (keys, suffix, party) = self.keys(key.user(), key.party());
        let bytes = self
            .codec
            .encode(&SealContext::new(party, key.slot()), entry);
        let record = bytes.and_then(|bytes| record(key, entry.asked_at().0, &bytes));
        let Some(record) = record else {
            return Ok(StoreOutcome::Invalidated);
        };
        let (ttl, records, owners) = (millis(ttl), RECORDS.to_string(), OWNERS.to_string());
        let latest = now.latest().0.to_string();
        let args: [&[u8]; 7] = [
            &number_token.0,
            &record,
            &ttl,
            suffix.as_bytes(),
            records.as_bytes(),
            owners.as_bytes(),
            latest.as_bytes(),
        ];
        let replaced = self.link.script(&self.store, &keys, &args).await?;
        Ok(StoreOutcome::read(replaced))
    }

    /// Deletes all answers about some parties. Running loads will be refused.
    ///
    /// # Errors
    /// [`LinkError`]. Then they may still be there, and the call should be repeated.
    pub async fn invalidate_numbers(
        &self,
        user: UserTag,
        parties: &[Party],
    ) -> Result<(), LinkError> {
        for parties in parties.chunks(CHUNK) {
            let mut pipe = Pipeline::with_capacity(parties.len() * 2);
            for party in parties {
                let ([_, value, index], suffix, _) = self.keys(user, *party);
                pipe.del(value).zrem(index, suffix);
            }
            self.link.pipeline::<Vec<u64>>(pipe).await?;
        }
        Ok(())
    }

    /// Deletes every key of a user, including those of other modules.
    ///
    /// # Errors
    /// [`LinkError`]. Then some or all may still be there, and the call should be repeated.
    pub async fn invalidate_user(&self, user: UserTag) -> Result<(), LinkError> {
        user::delete_keys(&self.link, user).await
    }

    /// The stored answers to at most 500 questions of one user, in their order, with one command.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn get_many(
        &self,
        user: UserTag,
        keys: &[ContactKey],
        data: DataToken,
    ) -> Result<Vec<Option<Entry>>, LinkError> {
        let names = self.link.names();
        let party = |key: &ContactKey| names.party(user, key.party());
        let parties: Vec<PartyHash> = keys.iter().map(party).collect();
        let mut mget = redis::cmd("MGET");
        mget.arg(user::token_key(names, user));
        for party in &parties {
            mget.arg(names.number(user, *party));
        }
        let values: Vec<Option<Vec<u8>>> = self.link.query(mget).await?;
        let mut values = values.into_iter();
        let user_token = values.next().flatten().as_deref().and_then(UserToken::read);
        let entry = |((value, party), key)| {
            let held = NumberAnswers {
                party,
                value,
                user_token,
                data,
            };
            self.entry(&held, key)
        };
        Ok(values.zip(parties).zip(keys).map(entry).collect())
    }

    /// The keys of the user token, value and index, the value's name in the index, and the party's
    /// hash.
    fn keys(&self, user: UserTag, party: Party) -> ([String; 3], String, PartyHash) {
        let names = self.link.names();
        let party = names.party(user, party);
        let keys = [
            user::token_key(names, user),
            names.number(user, party),
            user::index_key(names, user),
        ];
        (keys, KeyNames::number_suffix(party), party)
    }
}
