//! Keys: every input that can change an answer, and nothing else.
//!
//! Parts are length-prefixed before they are hashed, so that no two lists of parts share an encoding (`a|b`, `c` and
//! `a`, `b|c`). The hash is SipHash-1-3 with 128 bits under a secret key: nobody outside can aim for
//! a collision. Replicas that share a Redis share the secret. The region is not a part (it only decides how a spelling is read), nor is the credential (it decides
//! who may be answered; see [`AuthTag`]).

use std::fmt;
use std::hash::Hasher as _;

use prost::Message as _;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::caller::{AuthHeader, Host, User};
use super::format::NumberFormat;
use super::phone::{Extension, Party};

/// Changes when the parts or their order change.
const SCHEMA: u8 = 1;

/// A user of one platform, as a keyed hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserTag(u128);

impl UserTag {
    /// What [`Self::to_bytes`] gave on another replica.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// For names in a shared store.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Debug for UserTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserTag({:08x})", self.0 >> 96)
    }
}

/// Where an answer is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContactKey {
    user: UserTag,
    party: Party,
    question: u128,
}

impl ContactKey {
    /// Whose answer it is.
    #[must_use]
    pub fn user(&self) -> UserTag {
        self.user
    }

    /// Whom it is about.
    #[must_use]
    pub fn party(&self) -> Party {
        self.party
    }

    /// The key under which a credential proves itself: one per user, equal to no question's.
    #[must_use]
    pub fn proof(&self) -> Self {
        Self { user: self.user, party: Party::Extension(Extension::NONE), question: 0 }
    }

    /// What else the answer depends on (host, formats, settings), for names in a shared store.
    #[must_use]
    pub fn question(&self) -> [u8; 16] {
        self.question.to_be_bytes()
    }
}

impl fmt::Debug for ContactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContactKey({:08x})", self.question >> 96)
    }
}

/// A keyed hash of a credential: tells two headers apart without keeping either.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthTag(u128);

impl AuthTag {
    /// What [`Self::to_bytes`] gave on another replica.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// For names in a shared store.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// Whose quota a CRM call spends, as a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScopeTag(u128);

impl ScopeTag {
    /// For names in a shared store.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Debug for AuthTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthTag(…)")
    }
}

/// Makes keys under one secret.
#[derive(Clone)]
pub struct KeyMaker {
    secret: [u8; 16],
}

impl fmt::Debug for KeyMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMaker([REDACTED])")
    }
}

impl KeyMaker {
    /// Keys under `secret`, which should be random and never leave the process.
    #[must_use]
    pub fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    /// The key of one question. `settings` are the names of the user settings that the connector reads.
    #[must_use]
    pub fn contact(
        &self,
        connector: &str,
        user: &User,
        party: Party,
        formats: &[NumberFormat],
        settings: &[&str],
    ) -> ContactKey {
        let mut parts = self.parts();
        parts.push(user.host.as_ref().map_or("", Host::as_str).as_bytes());
        parts.count(formats.len());
        for format in formats {
            parts.push(format.pattern().as_bytes());
        }
        for name in settings {
            // A Value is encoded deterministically: its maps are ordered.
            parts.push(&user.settings.get(name).map(prost_types::Value::encode_to_vec).unwrap_or_default());
        }
        ContactKey { user: self.user(connector, &user.account, &user.id), party, question: parts.finish() }
    }

    /// The tag of a user.
    #[must_use]
    pub fn user(&self, connector: &str, account: &str, id: &str) -> UserTag {
        let mut parts = self.parts();
        for part in [connector, account, id] {
            parts.push(part.as_bytes());
        }
        UserTag(parts.finish())
    }

    /// The tag of a credential, which is good for one host: what one CRM accepts says nothing about another.
    #[must_use]
    pub fn auth(&self, header: &AuthHeader, host: Option<&Host>) -> AuthTag {
        let mut parts = self.parts();
        parts.push(host.map_or("", Host::as_str).as_bytes());
        parts.push(header.expose().as_bytes());
        AuthTag(parts.finish())
    }

    /// The tag of a budget's scope: an account, or a user where the CRM counts by user.
    #[must_use]
    pub fn scope(&self, parts_of_scope: &[&str]) -> ScopeTag {
        let mut parts = self.parts();
        parts.count(parts_of_scope.len());
        for part in parts_of_scope {
            parts.push(part.as_bytes());
        }
        ScopeTag(parts.finish())
    }

    fn parts(&self) -> Parts {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write_u8(SCHEMA);
        Parts(hasher)
    }
}

/// Length-prefixed parts of one hash.
struct Parts(SipHasher13);

impl Parts {
    fn push(&mut self, part: &[u8]) {
        self.count(part.len());
        self.0.write(part);
    }

    fn count(&mut self, count: usize) {
        self.0.write_u64(count as u64);
    }

    fn finish(self) -> u128 {
        self.0.finish128().as_u128()
    }
}

#[cfg(test)]
mod tests;
