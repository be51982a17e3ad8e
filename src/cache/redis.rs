//! The second tier: answers in Redis, shared by replicas.
//!
//! Owns the layout of stored answers. All keys of one user share a hash slot; a number stands in them as a keyed hash.
//! One [`Sheet`] for each user and number, `…:n:<party>`, holds the answers to all questions about it, the generation and
//! the epoch of what is stored there, and expires with the last of its answers.
//!
//! Promises that a load which began before an invalidation never fills this tier after it. The walk: a load *begins*:
//! it finds or creates the sheet and takes its epoch along. An invalidation of the number deletes the sheet; one of the
//! user deletes the generation first. The load ends and *stores*: the epoch it took is gone, or another load has
//! begun since and made a new one, and the answer is refused. Nothing here can be outrun, because the token is random
//! and lives where the answers do: where Redis was flushed, restarted empty, failed over to a replica that had not
//! heard of it, or evicted the sheet in the middle, the epoch is gone as well and the answer is refused, which costs
//! one more load. Where Redis evicted the generation, whatever carries it is not there for readers, except for those
//! who read it within the last second (`seen`).
//!
//! Knows nothing of freshness or of the CRM. Redis trouble is a [`LinkError`], for the caller to treat as a miss.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Script};
use tokio_util::task::TaskTracker;

use super::codec::Codec;
use super::keys::{KeyRing, Place};
use super::reads::Reads;
use super::sheet::{RECORDS, Sheet, record};
use crate::domain::{ContactKey, Entry, Party, UserTag};
use crate::link::user::{self, Generation, millis, token};
use crate::link::{Link, LinkError, Names, PartyHash};

/// How long an epoch waits for its load. A load that takes longer is served, but not stored here.
const EPOCH: Duration = Duration::from_secs(900);

/// Answers read in one round trip: Redis serves nobody else meanwhile, and the reply must fit into the timeout.
pub(super) const CHUNK: usize = 500;

const BEGIN: &str = "
local generation = generation(KEYS[1], ARGV[1], ARGV[3])
local sheet = redis.call('GET', KEYS[2])
if not sheet or #sheet < 32 or string.sub(sheet, 1, 16) ~= generation then
    sheet = generation .. ARGV[2]
    redis.call('SET', KEYS[2], sheet, 'PX', ARGV[3])
end
keep(KEYS[2], ARGV[3])
enter(KEYS[3], ARGV[4], KEYS[2])
return sheet
";

/// A length that is damaged ends the walk over the records, or lets one pass that nobody will take for sound.
const STORE: &str = "
local sheet, record = redis.call('GET', KEYS[2]), ARGV[2]
if not sheet or string.sub(sheet, 1, 16) ~= redis.call('GET', KEYS[1]) then return 0 end
if string.sub(sheet, 17, 32) ~= ARGV[1] then return 0 end
local question, asked = string.sub(record, 1, 16), struct.unpack('>I8', record, 17)
local parts, from = {string.sub(sheet, 1, 32), record}, 33
while from + 27 <= #sheet do
    local earlier, length = struct.unpack('>I8I4', sheet, from + 16)
    local to = from + 27 + length
    if string.sub(sheet, from, from + 15) ~= question then
        parts[#parts + 1] = string.sub(sheet, from, to)
    elseif earlier > asked then
        return 0
    end
    from = to + 1
end
sheet = table.concat(parts, '', 1, math.min(#parts, ARGV[5] + 1))
redis.call('SET', KEYS[2], sheet, 'PX', math.max(ARGV[3], redis.call('PTTL', KEYS[2])))
keep(KEYS[1], ARGV[3])
enter(KEYS[3], ARGV[4], KEYS[2])
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

/// What a reader found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The stored answer, however old.
    pub entry: Option<Entry>,
    /// The user's generation, for the next read.
    pub generation: Option<Generation>,
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
    reads: Reads,
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
    /// A tier behind a link. What it does on behalf of several callers are tasks of `tasks`.
    #[must_use]
    pub fn new(link: Link, tasks: TaskTracker) -> Self {
        let (codec, reads) = (Codec::default(), Reads::new(link.clone(), tasks));
        Self { link, reads, codec, begin: Arc::new(user::script(BEGIN)), store: Arc::new(user::script(STORE)) }
    }

    /// The same tier with its answers sealed under `keys`, if there are any.
    #[must_use]
    pub fn sealed(self, keys: Option<KeyRing>) -> Self {
        Self { codec: Codec::new(keys), ..self }
    }

    /// The beginning of a load, in one round trip.
    ///
    /// # Errors
    /// [`LinkError`]; the load may go on, but has nothing to store its answer under.
    pub async fn begin(&self, key: &ContactKey) -> Result<Begun, LinkError> {
        let (keys, suffix, party) = self.keys(key.user(), key.party());
        let (generation, epoch, ttl) = (token(), token(), millis(EPOCH));
        let args: [&[u8]; 4] = [&generation, &epoch, &ttl, suffix.as_bytes()];
        let sheet: Vec<u8> = self.link.script(&self.begin, &keys, &args).await?;
        let sheet = Sheet::read(&sheet).ok_or_else(|| LinkError::Failed("no sheet".to_owned()))?;
        Ok(Begun { entry: self.entry(sheet, sheet.generation, key, party), epoch: Epoch(sheet.epoch.to_vec()) })
    }

    /// The stored answer, however old. Writes nothing. Takes one round trip, which look-ups that come at the same moment
    /// share, and reads one key where `known` is the user's generation, two where it is not known; where it is another
    /// one by now it takes a second round trip.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn get(&self, key: &ContactKey, known: Option<Generation>) -> Result<Read, LinkError> {
        let names = self.link.names();
        let party = names.party(key.user(), key.party());
        let sheet = self.reads.get(names.number(key.user(), party));
        let (mut generation, sheet) = match known {
            Some(known) => (Some(known), sheet.await?),
            None => tokio::try_join!(self.generation(key.user()), sheet)?,
        };
        let sheet = sheet.as_deref().and_then(Sheet::read);
        if known.is_some() && sheet.is_some_and(|sheet| generation != Some(sheet.generation)) {
            generation = self.generation(key.user()).await?;
        }
        let entry = sheet.zip(generation).and_then(|(sheet, generation)| self.entry(sheet, generation, key, party));
        Ok(Read { entry, generation })
    }

    async fn generation(&self, user: UserTag) -> Result<Option<Generation>, LinkError> {
        let held = self.reads.get(user::generation(self.link.names(), user)).await?;
        Ok(held.and_then(|held| Generation::read(&held)))
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
        let (keys, suffix, party) = self.keys(key.user(), key.party());
        let place = Place::new(key.user(), party, key.question());
        let Some(bytes) = self.codec.encode(&place, entry) else { return Ok(false) };
        let Some(record) = record(key.question(), entry.asked_at().0, &bytes) else { return Ok(false) };
        let (ttl, most) = (millis(ttl), RECORDS.to_string());
        let args: [&[u8]; 5] = [&epoch.0, &record, &ttl, suffix.as_bytes(), most.as_bytes()];
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
                let ([_, sheet, index], suffix, _) = self.keys(user, *party);
                pipe.del(sheet).zrem(index, suffix);
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

    /// The stored answers to at most 500 questions of one user, in the order asked, by one command.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn get_many(&self, user: UserTag, keys: &[ContactKey]) -> Result<Vec<Option<Entry>>, LinkError> {
        let names = self.link.names();
        let parties: Vec<PartyHash> = keys.iter().map(|key| names.party(user, key.party())).collect();
        let mut mget = redis::cmd("MGET");
        mget.arg(user::generation(names, user));
        for party in &parties {
            mget.arg(names.number(user, *party));
        }
        let values: Vec<Option<Vec<u8>>> = self.link.query(mget).await?;
        let Some((generation, sheets)) = values.split_first() else { return Ok(Vec::new()) };
        let generation = generation.as_deref().and_then(Generation::read);
        let entry = |(sheet, (key, party)): (&Option<Vec<u8>>, (&ContactKey, &PartyHash))| {
            self.entry(Sheet::read(sheet.as_deref()?)?, generation?, key, *party)
        };
        Ok(sheets.iter().zip(keys.iter().zip(&parties)).map(entry).collect())
    }

    /// The entry on a sheet, if that is of this generation.
    fn entry(&self, sheet: Sheet<'_>, generation: Generation, key: &ContactKey, party: PartyHash) -> Option<Entry> {
        let bytes = sheet.find(key.question()).filter(|_| sheet.generation == generation)?;
        self.codec.decode(&Place::new(key.user(), party, key.question()), bytes)
    }

    /// Generation, sheet and index; the sheet's name in the index; the party's hash.
    fn keys(&self, user: UserTag, party: Party) -> ([String; 3], String, PartyHash) {
        let names = self.link.names();
        let party = names.party(user, party);
        let keys = [user::generation(names, user), names.number(user, party), user::index(names, user)];
        (keys, Names::number_suffix(party), party)
    }
}
