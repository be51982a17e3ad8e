//! The keys of a user in Redis.
//!
//! Defines the two keys that connect all keys of a user, in all modules that store something:
//!
//! * the *index* (`…:i`, a sorted set): the suffix of every key of the user with the time when it
//!   expires, so that erasing a user finds them all without a scan of the whole store;
//! * the *user token* (`…:g`): a random token in every value stored of the user. A value with
//!   another token does not count, and no value counts without the key. So erasing takes effect
//!   with one deletion (within a second, because readers of answers may remember the token that
//!   long). It also covers keys that the index has lost because Redis evicted it.
//!
//! After [`delete_keys`] no key of the user is left, except such lost ones, which nothing reads and
//! which expire by themselves. Knows nothing of what the keys contain.

use std::time::Duration;

use redis::Script;

use super::{KeyNames, Link, LinkError};
use crate::domain::UserTag;

/// Bytes of a token.
const TOKEN: usize = 16;

/// The most keys that one run of the script deletes, because Redis serves nobody else meanwhile.
/// [`delete_keys`] runs it until no key is left.
const CHUNK: usize = 1000;

/// The prelude of every script that [`script`] makes. Times are Redis' own, so that replicas with
/// other clocks agree.
const PRELUDE: &str = "
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
-- Lets a key live for at least ttl ms more; never shortens its life.
local function keep(key, ttl)
    if redis.call('PTTL', key) < tonumber(ttl) then redis.call('PEXPIRE', key, ttl) end
end
-- The user token, begun with the candidate if there is none.
local function user_token(key, candidate, ttl)
    local held = redis.call('GET', key)
    if not held or #held ~= 16 then
        redis.call('SET', key, candidate, 'PX', ttl)
        return candidate
    end
    keep(key, ttl)
    return held
end
-- Enters the key under its suffix into the index, and drops from it what has expired.
local function enter(index, suffix, key)
    local time, ttl = now(), redis.call('PTTL', key)
    redis.call('ZREMRANGEBYSCORE', index, '-inf', time)
    redis.call('ZADD', index, time + ttl, suffix)
    keep(index, ttl)
end
";

/// Deletes some keys of the index. The user token goes first: without it no other key counts.
const DELETE_KEYS: &str = "
local suffixes = redis.call('ZRANGE', KEYS[2], 0, ARGV[2] - 1)
redis.call('DEL', KEYS[1])
if #suffixes == 0 then return 0 end
local keys = {}
for i, suffix in ipairs(suffixes) do keys[i] = ARGV[1] .. suffix end
redis.call('DEL', unpack(keys))
redis.call('ZREM', KEYS[2], unpack(suffixes))
return redis.call('ZCARD', KEYS[2])
";

/// A user's token. It is not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserToken([u8; TOKEN]);

impl UserToken {
    /// The user token in the key's value, if it is one.
    #[must_use]
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// A script that may call `now`, `keep`, `user_token` and `enter`.
#[must_use]
pub(crate) fn script(body: &str) -> Script {
    Script::new(&format!("{PRELUDE}{body}"))
}

/// The name of the key of the user token. It ends in `g` because the token had another name in
/// earlier releases. Old and new replicas use the same key during an update.
#[must_use]
pub(crate) fn token_key(names: &KeyNames, user: UserTag) -> String {
    names.of_user(user, "g")
}

/// The name of the user's index.
#[must_use]
pub(crate) fn index_key(names: &KeyNames, user: UserTag) -> String {
    names.of_user(user, "i")
}

/// A new random token, for anything that nobody may guess or repeat.
#[must_use]
pub fn token() -> [u8; TOKEN] {
    let mut token = [0; TOKEN];
    if getrandom::fill(&mut token).is_err() {
        // The system has no random bytes, which it had at start. The tokens must still differ.
        token = fastrand::u128(..).to_be_bytes();
    }
    token
}

/// A duration for scripts: whole milliseconds, at least one, because Redis refuses zero.
#[must_use]
pub(crate) fn millis(duration: Duration) -> Vec<u8> {
    duration.as_millis().max(1).to_string().into_bytes()
}

/// Deletes every key of a user. What was stored is invalid immediately, except for readers that
/// remember the user token. If a load or an admission began before, it finds the token gone.
///
/// # Errors
/// [`LinkError`]. Then some or all keys may still be there, and the call should be repeated.
pub(crate) async fn delete_keys(link: &Link, user: UserTag) -> Result<(), LinkError> {
    let script = Script::new(DELETE_KEYS);
    let keys = [token_key(link.names(), user), index_key(link.names(), user)];
    let (base, chunk) = (link.names().of_user(user, ""), CHUNK.to_string());
    while link
        .script::<usize>(&script, &keys, &[base.as_bytes(), chunk.as_bytes()])
        .await?
        > 0
    {}
    Ok(())
}
