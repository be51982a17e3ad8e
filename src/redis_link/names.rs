//! Names of keys in Redis.
//!
//! All keys of one user share a hash slot, so that one script may use them together. No name
//! contains a phone number, an id or a credential, only keyed hashes. Knows nothing of what the
//! keys contain.

use std::fmt;
use std::str::FromStr;

use super::secret::SharedSecret;
use crate::domain::{Party, UserTag};

/// The prefix of every name: 1 to 64 letters, digits and `: . _ -`. Braces would change the hash
/// slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix(String);

/// A text is not a [`KeyPrefix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 64 letters, digits or characters of ':._-'")]
pub struct KeyPrefixError;

impl FromStr for KeyPrefix {
    type Err = KeyPrefixError;

    fn from_str(text: &str) -> Result<Self, KeyPrefixError> {
        if text.bytes().all(is_plain) && (1..=64).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(KeyPrefixError)
        }
    }
}

impl Default for KeyPrefix {
    fn default() -> Self {
        Self("contactd".to_owned())
    }
}

impl KeyPrefix {
    /// The prefix, without the colon that follows it.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A party of one user as a keyed hash: the same number has another hash for another user.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartyHash(pub [u8; 16]);

impl fmt::Debug for PartyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartyHash(…)")
    }
}

/// Makes names.
#[derive(Clone)]
pub struct KeyNames {
    prefix: KeyPrefix,
    hash_key: [u8; 32],
}

impl fmt::Debug for KeyNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyNames")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl KeyNames {
    /// Names under a prefix. Replicas with the same secret make the same names.
    #[must_use]
    pub fn new(prefix: KeyPrefix, secret: &SharedSecret) -> Self {
        Self {
            prefix,
            hash_key: secret.for_names(),
        }
    }

    /// A name that belongs to no user: the prefix and the parts, joined by colons.
    #[must_use]
    pub(crate) fn shared(&self, parts: &[&str]) -> String {
        format!("{}:{}", self.prefix.0, parts.join(":"))
    }

    /// A name of a user, in the user's hash slot: `prefix:{user}:suffix`.
    #[must_use]
    pub(crate) fn of_user(&self, user: UserTag, suffix: &str) -> String {
        format!("{}:{{{}}}:{suffix}", self.prefix.0, hex(&user.to_bytes()))
    }

    /// The name of a number's value. Every look-up in Redis needs it, so it is built in one step.
    #[must_use]
    pub(crate) fn number(&self, user: UserTag, party: PartyHash) -> String {
        let mut name = String::with_capacity(self.prefix.0.len() + 6 + 4 * 16);
        name.push_str(&self.prefix.0);
        name.push_str(":{");
        push_hex(&mut name, &user.to_bytes());
        name.push_str("}:a:");
        push_hex(&mut name, &party.0);
        name
    }

    /// The suffix of that name.
    #[must_use]
    pub(crate) fn number_suffix(party: PartyHash) -> String {
        format!("a:{}", hex(&party.0))
    }

    /// The hash of a party.
    #[must_use]
    pub fn party(&self, user: UserTag, party: Party) -> PartyHash {
        let mut named = [0; 28];
        named[..16].copy_from_slice(&user.to_bytes());
        named[16..].copy_from_slice(&party.to_bytes());
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::keyed_hash(&self.hash_key, &named).as_bytes()[..16]);
        PartyHash(hash)
    }
}

/// Lower-case hexadecimal digits.
#[must_use]
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":._-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{E164, Extension, KeyMaker};

    fn names() -> KeyNames {
        KeyNames::new("contactd".parse().unwrap(), &SharedSecret::new([1; 32]))
    }

    #[test]
    fn hexadecimal_digits_are_lower_case_and_two_a_byte() {
        assert_eq!(hex(&[0x00, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }

    #[test]
    fn parties_differ_by_user_kind_and_number() {
        let maker = KeyMaker::new([1; 16]);
        let (one, other) = (maker.user("clio", "", "1"), maker.user("clio", "", "2"));
        let number = |text: &str| Party::Number(E164::parse(text, None).unwrap());
        let extension = |text: &str| Party::Extension(Extension::parse(text).unwrap());
        let parties = [
            number("+16505551234"),
            number("+16505551235"),
            number("+390612345678"),
            number("+39612345678"),
            extension("16505551234"),
            extension("016505551234"),
        ];
        let mut hashes: Vec<_> = [one, other]
            .iter()
            .flat_map(|user| parties.map(|party| names().party(*user, party).0))
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 12);
    }

    #[test]
    fn a_users_names_share_the_hash_tag() {
        let user = KeyMaker::new([1; 16]).user("clio", "", "1");
        let name = names().of_user(user, "i");
        assert_eq!(name, format!("contactd:{{{}}}:i", hex(&user.to_bytes())));
        let party = names().party(
            user,
            Party::Number(E164::parse("+16505551234", None).unwrap()),
        );
        assert_eq!(
            names().number(user, party),
            names().of_user(user, &KeyNames::number_suffix(party))
        );
        assert_eq!(names().shared(&["log", "s"]), "contactd:log:s");
    }

    #[test]
    fn a_prefix_cannot_hold_braces() {
        for bad in ["", "a{b}", "a b", "ü"] {
            assert!(bad.parse::<KeyPrefix>().is_err(), "{bad}");
        }
        assert_eq!(
            "prod:contactd".parse::<KeyPrefix>().unwrap().as_str(),
            "prod:contactd"
        );
    }
}
