//! The CRM that keys belong to, and tags that group what belongs to one user or asker.

use std::borrow::Cow;
use std::fmt;

use prost::Message as _;
use prost_types::Value;

use super::HashParts;
use crate::domain::auth_tag::AuthTag;
use crate::domain::phone::Region;

/// Whose quota a CRM call spends, as a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ScopeTag(pub(super) u128);

impl ScopeTag {
    /// For keys in a shared store.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// The part of a connector's configuration that can change an answer.
#[derive(Debug, Clone, Copy)]
pub struct Crm<'a> {
    /// The connector's name.
    pub connector: &'a str,
    /// The address of the CRM; empty if users name its host.
    pub base_url: &'a str,
    /// The regions for reading stored spellings; empty to use the user's.
    pub regions: &'a [Region],
    /// The names of the user settings that the connector reads.
    pub settings: &'a [String],
    /// The names of the fields of `platform_additional_info` that the connector reads.
    pub info: &'a [String],
}

/// The CRM that a user's calls go to.
#[derive(Debug, Clone)]
pub struct CrmPlace<'a> {
    /// The connector's name.
    pub connector: &'a str,
    /// The address of the CRM; empty if it is the host.
    pub base_url: Cow<'a, str>,
    /// The host that the user names; empty if it does not determine which CRM answers.
    pub host: &'a str,
    /// What requests read of the user: it may name a tenant.
    pub asked: Vec<AskedInput<'a>>,
}

/// A user's value that requests contain.
#[derive(Debug, Clone, Copy)]
pub struct AskedInput<'a> {
    /// Where it comes from: a setting and a field of `platform_additional_info` may have one name.
    pub source: &'static str,
    /// Its name there.
    pub name: &'a str,
    /// The value.
    pub value: &'a Value,
}

impl CrmPlace<'_> {
    /// Adds what requests read, if they read anything.
    pub(super) fn push_asked(&self, parts: &mut HashParts) {
        for input in &self.asked {
            parts.push(input.source.as_bytes());
            parts.push(input.name.as_bytes());
            parts.push(&input.value.encode_to_vec());
        }
    }

    pub(super) fn parts(&self) -> [&str; 3] {
        [self.connector, &self.base_url, self.host]
    }
}

/// Questions that one asker may ask together: of one user, with the same inputs and credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GroupTag(pub(super) u128, pub(super) AuthTag);

impl fmt::Debug for GroupTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupTag({:08x})", self.0 >> 96)
    }
}
