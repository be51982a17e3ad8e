//! What replicas share about credentials, in Redis.
//!
//! A credential has two keys. The *record* (`…:c:<credential>`, among the keys of the claimed user)
//! contains the tokens of the user and of the data, the time of acceptance and the identity. The
//! *refusal* (`…:r`, of the credential alone) contains the time at which the CRM refused it. A
//! record counts if it has the current tokens and is later than the refusal. So one refusal applies
//! to all users. Erasing a user ends the user's records. If Redis comes back with older data, its
//! records do not count. Times are the shared time.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Script};

use crate::domain::identity::IDENTITY_BYTES;
use crate::domain::{AuthTag, Identity, SharedTime, UserTag};
use crate::redis_link::user::{self, UserToken, millis};
use crate::redis_link::{DATA_TOKEN, DataToken, Link, LinkError, Reads, RedisTime, hex};

/// The record contains the user token, and does not count without it. This script never creates a
/// user token: the load that used the credential did. If the token is gone, the user was erased
/// meanwhile, and nothing of theirs may be written.
const ADMIT: &str = "
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
keep(KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], held .. ARGV[3], 'PX', ARGV[1])
enter(KEYS[3], ARGV[2], KEYS[2])
return 1
";

const USER_TOKEN: usize = 16;
const TIME: usize = 8;

/// What Redis knows of credentials.
#[derive(Clone)]
pub(super) struct SharedCredentials {
    link: Link,
    reads: Reads,
    time: RedisTime,
    admit: Arc<Script>,
}

impl SharedCredentials {
    pub(super) fn new(link: Link, reads: Reads, time: RedisTime) -> Self {
        Self {
            link,
            reads,
            time,
            admit: Arc::new(user::script(ADMIT)),
        }
    }

    pub(super) fn time(&self) -> &RedisTime {
        &self.time
    }

    /// When the credential was accepted for the user, and whose it is. Shares a command with
    /// concurrent look-ups.
    pub(super) async fn read(
        &self,
        user: UserTag,
        auth: AuthTag,
    ) -> Result<Option<(SharedTime, Identity)>, LinkError> {
        let names = self.link.names();
        let data = self.time.data();
        let token = self.reads.get(user::token_key(names, user));
        let record = self.reads.get(names.of_user(user, &suffix(auth)));
        let refusal = self.reads.get(refusal(&self.link, auth));
        let (token, record, refusal) = tokio::try_join!(token, record, refusal)?;
        let token = token.as_deref().and_then(UserToken::read);
        let record = record
            .as_deref()
            .and_then(parse)
            .filter(|record| Some(record.token) == token && Some(record.data) == data)
            .filter(|_| self.time.data() == data);
        let refused = refusal.as_deref().and_then(time_of);
        let valid = record.filter(|record| refused.is_none_or(|refused| refused < record.accepted));
        Ok(valid.map(|record| (record.accepted, record.identity)))
    }

    /// Stores nothing if it is not known what data Redis has.
    pub(super) async fn admit(
        &self,
        user: UserTag,
        auth: AuthTag,
        accepted: SharedTime,
        identity: &Identity,
        remembered: Duration,
    ) -> Result<(), LinkError> {
        let Some(data) = self.time.data() else {
            return Ok(());
        };
        let (names, suffix) = (self.link.names(), suffix(auth));
        let keys = [
            user::token_key(names, user),
            names.of_user(user, &suffix),
            user::index_key(names, user),
        ];
        let (ttl, record) = (
            millis(remembered),
            [
                data.as_bytes(),
                &accepted.0.to_be_bytes(),
                &identity.to_bytes(),
            ]
            .concat(),
        );
        let args: [&[u8]; 3] = [&ttl, suffix.as_bytes(), &record];
        self.link
            .script::<u32>(&self.admit, &keys, &args)
            .await
            .map(|_| ())
    }

    pub(super) async fn revoke(
        &self,
        auth: AuthTag,
        at: SharedTime,
        remembered: Duration,
    ) -> Result<(), LinkError> {
        let mut set = Cmd::new();
        set.arg("SET")
            .arg(refusal(&self.link, auth))
            .arg(&at.0.to_be_bytes())
            .arg("PX")
            .arg(millis(remembered));
        self.link.query(set).await
    }
}

/// A parsed record.
struct CredentialRecord {
    token: UserToken,
    data: DataToken,
    accepted: SharedTime,
    identity: Identity,
}

fn parse(bytes: &[u8]) -> Option<CredentialRecord> {
    let (token, rest) = bytes.split_at_checked(USER_TOKEN)?;
    let (data, rest) = rest.split_at_checked(DATA_TOKEN)?;
    let (accepted, identity) = rest.split_at_checked(TIME)?;
    let identity = Identity::from_bytes(identity).filter(|_| identity.len() == IDENTITY_BYTES)?;
    Some(CredentialRecord {
        token: UserToken::read(token)?,
        data: DataToken::read(data)?,
        accepted: time_of(accepted)?,
        identity,
    })
}

/// A record is what was written, or none.
#[cfg(any(test, fuzzing))]
pub(crate) fn record_is_sound(bytes: &[u8]) {
    if let Some(record) = parse(bytes) {
        let (accepted, identity) = bytes[USER_TOKEN + DATA_TOKEN..].split_at(TIME);
        assert_eq!(record.accepted.0.to_be_bytes(), accepted);
        let again = record.identity.to_bytes();
        assert_eq!(Identity::from_bytes(&again), Some(record.identity));
        assert_eq!(identity.len(), again.len());
    }
    let _ = time_of(bytes);
}

fn time_of(bytes: &[u8]) -> Option<SharedTime> {
    Some(SharedTime(u64::from_be_bytes(bytes.try_into().ok()?)))
}

fn suffix(auth: AuthTag) -> String {
    format!("c:{}", hex(&auth.to_bytes()))
}

/// The key of the refusal, which has a hash slot of its own.
fn refusal(link: &Link, auth: AuthTag) -> String {
    link.key(&[&format!("{{{}}}", hex(&auth.to_bytes())), "r"])
}
