//! Keys: every input that can change an answer, and nothing else.
//!
//! Parts are length-prefixed before they are hashed, so that no two lists of parts have the same
//! encoding (`a|b`, `c` and `a`, `b|c`). Each kind of key begins with its own byte. The hash is
//! SipHash-1-3 with 128 bits under a secret key, so nobody outside can choose a collision. Replicas
//! with the same Redis share the secret.
//!
//! What all questions of one asker have in common is hashed once ([`QuestionPrefix`]). Each
//! question then only hashes its number. A question is hashed without the identity of the asker
//! ([`QuestionKey`]). Together with an identity it is the key of a stored answer ([`ContactKey`]).
//! So answers of one identity are never found under another.

use std::fmt;
use std::hash::Hasher as _;

use prost::Message as _;
use prost_types::Value;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::auth_tag::AuthTag;
use super::format::NumberFormat;
use super::identity::{Identity, IdentityTag};
use super::phone::{Party, Region};
use super::user::{Host, User, WhoAmI};

mod place;

pub use place::{AskedInput, Crm, CrmPlace};
pub(crate) use place::{GroupTag, ScopeTag};

/// Changes when the parts or their order change, so that replicas of two versions never read each
/// other's answers.
const SCHEMA: u8 = 4;

/// The purpose of a hash. Two kinds never collide.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TagKind {
    User = 1,
    Question,
    Credential,
    Identity,
    Account,
    Scope,
}

/// A user of one platform, as a keyed hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserTag(u128);

impl UserTag {
    /// Converts back from [`Self::to_bytes`] of another replica.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// For keys in a shared store.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Debug for UserTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserTag({:08x})", self.0 >> 96)
    }
}

/// All inputs of a question except the party, already hashed. Made once for a call or a batch.
#[derive(Clone)]
pub struct QuestionPrefix {
    user: UserTag,
    parts: HashParts,
}

impl QuestionPrefix {
    /// The claimed user.
    #[must_use]
    pub(crate) fn user(&self) -> UserTag {
        self.user
    }

    /// The key of the question about `party`.
    #[must_use]
    pub fn question(&self, party: Party) -> QuestionKey {
        let mut parts = self.parts.clone();
        parts.push(&party.to_bytes());
        QuestionKey {
            user: self.user,
            party,
            hash: parts.finish(),
        }
    }
}

impl QuestionPrefix {
    /// The group of the asker's questions.
    #[must_use]
    pub(crate) fn group(&self, auth: AuthTag) -> GroupTag {
        let mut parts = self.parts.clone();
        parts.push(&self.user.to_bytes());
        GroupTag(parts.finish(), auth)
    }
}

impl fmt::Debug for QuestionPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuestionPrefix({:?})", self.user)
    }
}

/// One question of a user about a party, without the identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuestionKey {
    user: UserTag,
    party: Party,
    hash: u128,
}

impl QuestionKey {
    /// The claimed user.
    #[must_use]
    pub(crate) fn user(&self) -> UserTag {
        self.user
    }

    /// The party that it is about.
    #[must_use]
    pub(crate) fn party(&self) -> Party {
        self.party
    }

    /// The other inputs of the answer, for keys in a shared store.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.hash.to_be_bytes()
    }

    /// The key of the answer for this identity. Both hashes are secret and random, so their sum is
    /// as good as a hash of both.
    #[must_use]
    pub fn of(&self, identity: &Identity) -> ContactKey {
        let owner = identity.tag();
        let slot = SlotKey {
            user: self.user,
            hash: self.hash.wrapping_add(owner.to_bits()),
        };
        ContactKey {
            slot,
            party: self.party,
            owner,
        }
    }
}

impl fmt::Debug for QuestionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuestionKey({:08x})", self.hash >> 96)
    }
}

/// The key of a stored answer: question and identity, with the fields by which stores group it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContactKey {
    slot: SlotKey,
    party: Party,
    owner: IdentityTag,
}

/// A [`ContactKey`] as two hashes, without the party's digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotKey {
    user: UserTag,
    hash: u128,
}

impl ContactKey {
    /// The claimed user, by which everything is invalidated.
    #[must_use]
    pub fn user(&self) -> UserTag {
        self.slot.user
    }

    /// The party that it is about.
    #[must_use]
    pub fn party(&self) -> Party {
        self.party
    }

    /// The owner of the answer.
    #[must_use]
    pub(crate) fn owner(&self) -> IdentityTag {
        self.owner
    }

    /// The same without the party's digits.
    #[must_use]
    pub fn slot(&self) -> SlotKey {
        self.slot
    }
}

impl SlotKey {
    /// Converts back from [`SlotKey::user`] and [`SlotKey::to_bytes`] of another replica.
    #[must_use]
    pub(crate) fn from_bytes(user: UserTag, hash: [u8; 16]) -> Self {
        Self {
            user,
            hash: u128::from_be_bytes(hash),
        }
    }

    /// The claimed user.
    #[must_use]
    pub(crate) fn user(&self) -> UserTag {
        self.user
    }

    /// Question and identity, for keys in a shared store.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.hash.to_be_bytes()
    }
}

impl fmt::Debug for ContactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContactKey({:08x})", self.slot.hash >> 96)
    }
}

impl fmt::Debug for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotKey({:08x})", self.hash >> 96)
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
    /// Keys under `secret`, which should be random. Nobody but the replicas should know it.
    #[must_use]
    pub fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    /// The common part of the keys of all questions of one user with the same settings.
    #[must_use]
    pub fn prefix(&self, crm: &Crm<'_>, user: &User, formats: &[NumberFormat]) -> QuestionPrefix {
        // Answers are kept separate by host even if the settings contain an address.
        let host = user.host.as_ref().map_or("", Host::as_str);
        let mut parts = self.parts_at(TagKind::Question, [crm.connector, crm.base_url, host]);
        parts.push(&user.region.map_or([0; 2], Region::to_bytes));
        parts.count(crm.regions.len());
        for region in crm.regions {
            parts.push(&region.to_bytes());
        }
        parts.count(formats.len());
        for format in formats {
            parts.push(format.pattern().as_bytes());
        }
        parts.inputs(crm.settings, |name| user.settings.get(name));
        parts.inputs(crm.info, |name| user.info.get(name));
        QuestionPrefix {
            user: self.user(crm.connector, &user.account, &user.id),
            parts,
        }
    }

    /// The tag of a user, as named by the caller.
    #[must_use]
    pub(crate) fn user(&self, connector: &str, account: &str, id: &str) -> UserTag {
        let mut parts = self.parts(TagKind::User);
        for part in [connector, account, id] {
            parts.push(part.as_bytes());
        }
        UserTag(parts.finish())
    }

    /// The tag of a credential: of the names and values of all its headers. It is valid for one
    /// address: acceptance by one CRM says nothing about another.
    #[must_use]
    pub(crate) fn auth<'a>(
        &self,
        crm: &CrmPlace<'_>,
        headers: impl IntoIterator<Item = (&'a str, impl AsRef<str>)>,
    ) -> AuthTag {
        let mut parts = self.parts_at(TagKind::Credential, crm.parts());
        for (name, value) in headers {
            parts.push(name.as_bytes());
            parts.push(value.as_ref().as_bytes());
        }
        crm.push_asked(&mut parts);
        AuthTag(parts.finish())
    }

    /// Whose a credential is, as the CRM says.
    #[must_use]
    pub(crate) fn identity(&self, crm: &CrmPlace<'_>, who: &WhoAmI) -> Identity {
        let tag = |kind, parts_of_it: &[&str]| {
            let mut parts = self.parts_at(kind, crm.parts());
            for part in parts_of_it {
                parts.push(part.as_bytes());
            }
            crm.push_asked(&mut parts);
            IdentityTag::from_bits(parts.finish())
        };
        let account = who
            .account()
            .map(|account| tag(TagKind::Account, &[account]));
        let user = tag(
            TagKind::Identity,
            &[who.account().unwrap_or_default(), who.user()],
        );
        Identity::Crm { user, account }
    }

    /// The tag of a budget's scope: an account, or a user if the CRM counts by user.
    #[must_use]
    pub(crate) fn scope(&self, parts_of_scope: &[&[u8]]) -> ScopeTag {
        let mut parts = self.parts(TagKind::Scope);
        parts.count(parts_of_scope.len());
        for part in parts_of_scope {
            parts.push(part);
        }
        ScopeTag(parts.finish())
    }

    /// Parts that are valid only for one address of one connector.
    fn parts_at(&self, kind: TagKind, place: [&str; 3]) -> HashParts {
        let mut parts = self.parts(kind);
        for part in place {
            parts.push(part.as_bytes());
        }
        parts
    }

    fn parts(&self, kind: TagKind) -> HashParts {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write_u8(SCHEMA);
        hasher.write_u8(kind as u8);
        HashParts(hasher)
    }
}

/// Length-prefixed parts of one hash.
#[derive(Clone)]
struct HashParts(SipHasher13);

impl HashParts {
    fn push(&mut self, part: &[u8]) {
        self.count(part.len());
        self.0.write(part);
    }

    fn count(&mut self, count: usize) {
        self.0.write_u64(count as u64);
    }

    /// Values by their names. The encoding of a value is deterministic: its maps are ordered.
    fn inputs<'a>(&mut self, names: &[String], get: impl Fn(&str) -> Option<&'a Value>) {
        self.count(names.len());
        for name in names {
            self.push(name.as_bytes());
            let value = get(name).map(Value::encode_to_vec);
            self.push(&value.unwrap_or_default());
        }
    }

    fn finish(self) -> u128 {
        self.0.finish128().as_u128()
    }
}

#[cfg(test)]
mod tests;
