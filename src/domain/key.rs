//! Keys: every input that can change an answer, and nothing else.
//!
//! Parts are length-prefixed before they are hashed, so that no two lists of parts share an
//! encoding (`a|b`, `c` and `a`, `b|c`), and each kind of key begins with a byte of its own. The
//! hash is SipHash-1-3 with 128 bits under a secret key: nobody outside can aim for a collision.
//! Replicas that share a Redis share the secret.
//!
//! What all questions of one asker have in common is hashed once ([`QuestionPrefix`]); each of them then
//! costs the hash of its number. A question is hashed without the identity of who asks it
//! ([`QuestionKey`]). Together with an identity it names a stored answer ([`ContactKey`]), so that
//! what one identity was shown is never found under another.

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

/// Changes when the parts or their order change. So replicas of two versions never read each
/// other's answers.
const SCHEMA: u8 = 3;

/// What a hash stands for; two kinds never collide.
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
    /// What [`Self::to_bytes`] gave on another replica.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// For names in a shared store.
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

/// All inputs of a question but the party, hashed as far as they go: made once for a call or a
/// batch.
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

impl fmt::Debug for QuestionPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuestionPrefix({:?})", self.user)
    }
}

/// One question of a user about a party, whoever the CRM says the user is.
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

    /// Whom it is about.
    #[must_use]
    pub(crate) fn party(&self) -> Party {
        self.party
    }

    /// What else the answer depends on, for names in a shared store.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.hash.to_be_bytes()
    }

    /// Where the answer for this identity is kept. Both hashes are secret and random, so their sum
    /// is as good as a hash of both.
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

/// Where an answer is kept: question and identity, with what the stores group it by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContactKey {
    slot: SlotKey,
    party: Party,
    owner: IdentityTag,
}

/// A [`ContactKey`] as two hashes, the party's digits left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotKey {
    user: UserTag,
    hash: u128,
}

impl ContactKey {
    /// The claimed user, by whom everything is invalidated.
    #[must_use]
    pub fn user(&self) -> UserTag {
        self.slot.user
    }

    /// Whom it is about.
    #[must_use]
    pub fn party(&self) -> Party {
        self.party
    }

    /// Whose answer it is.
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
    /// What [`SlotKey::user`] and [`SlotKey::to_bytes`] gave on another replica.
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

    /// Question and identity, for names in a shared store.
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

/// Whose quota a CRM call spends, as a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ScopeTag(u128);

impl ScopeTag {
    /// For names in a shared store.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// What of a connector's configuration can change an answer.
#[derive(Debug, Clone, Copy)]
pub struct Crm<'a> {
    /// The connector's name.
    pub connector: &'a str,
    /// Where the CRM is; empty if users name its host.
    pub base_url: &'a str,
    /// By which regions stored spellings are read; empty if by the user's.
    pub regions: &'a [Region],
    /// The names of the user settings that the connector reads.
    pub settings: &'a [String],
    /// The names of the fields of `platform_additional_info` that the connector reads.
    pub info: &'a [String],
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

    /// What the keys of all questions have in common that one user asks in one way.
    #[must_use]
    pub fn prefix(&self, crm: &Crm<'_>, user: &User, formats: &[NumberFormat]) -> QuestionPrefix {
        let mut parts = self.parts_at(TagKind::Question, crm, user.host.as_ref());
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

    /// The tag of a user, as the caller names them.
    #[must_use]
    pub(crate) fn user(&self, connector: &str, account: &str, id: &str) -> UserTag {
        let mut parts = self.parts(TagKind::User);
        for part in [connector, account, id] {
            parts.push(part.as_bytes());
        }
        UserTag(parts.finish())
    }

    /// The tag of a credential: of all its headers, names and values. It is good for one address:
    /// what one CRM accepts says nothing about another.
    #[must_use]
    pub(crate) fn auth<'a>(
        &self,
        crm: &Crm<'_>,
        host: Option<&Host>,
        headers: impl IntoIterator<Item = (&'a str, impl AsRef<str>)>,
    ) -> AuthTag {
        let mut parts = self.parts_at(TagKind::Credential, crm, host);
        for (name, value) in headers {
            parts.push(name.as_bytes());
            parts.push(value.as_ref().as_bytes());
        }
        AuthTag(parts.finish())
    }

    /// Who the CRM says a credential is.
    #[must_use]
    pub(crate) fn identity(&self, crm: &Crm<'_>, host: Option<&Host>, who: &WhoAmI) -> Identity {
        let tag = |kind, parts_of_it: &[&str]| {
            let mut parts = self.parts_at(kind, crm, host);
            for part in parts_of_it {
                parts.push(part.as_bytes());
            }
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

    /// Parts that hold for one address of one connector only.
    fn parts_at(&self, kind: TagKind, crm: &Crm<'_>, host: Option<&Host>) -> HashParts {
        let mut parts = self.parts(kind);
        // With an address in the settings nobody is asked at the host that a caller names, and a
        // quota is one for all of them. Answers are kept apart all the same.
        let host = host.filter(|_| kind == TagKind::Question || crm.base_url.is_empty());
        for part in [crm.connector, crm.base_url, host.map_or("", Host::as_str)] {
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

    /// Values by their names. A value is encoded deterministically: its maps are ordered.
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
