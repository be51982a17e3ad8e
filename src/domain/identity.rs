//! Whom stored answers belong to: the user that the CRM names for the credential, if any.
//!
//! A caller's user id is an unverified claim. So answers are stored under an identity as well.
//! Somebody who sends a valid credential of their own with another user's id finds nothing.

use std::fmt;

use super::auth_tag::AuthTag;

/// An identity as a keyed hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdentityTag(u128);

impl IdentityTag {
    pub(super) fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    pub(super) fn to_bits(self) -> u128 {
        self.0
    }

    /// For keys in a shared store.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Debug for IdentityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityTag({:08x})", self.0 >> 96)
    }
}

/// Whom an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// A user of the CRM, as the CRM says.
    Crm {
        /// Address, account and user.
        user: IdentityTag,
        /// Address and account, if the CRM names one.
        account: Option<IdentityTag>,
    },
    /// The CRM names nobody: only this very credential finds its answers.
    Credential(AuthTag),
    /// The caller's user id is trusted (`identity = "caller"`).
    Caller,
}

/// Bytes of an identity in a shared store.
pub(crate) const IDENTITY_BYTES: usize = 33;

impl Identity {
    /// The identity's part of an answer's key.
    #[must_use]
    pub(crate) fn tag(&self) -> IdentityTag {
        match self {
            Self::Crm { user, .. } => *user,
            Self::Credential(auth) => IdentityTag(u128::from_be_bytes(auth.to_bytes())),
            // Any constant works: the claimed user is a part of the key.
            Self::Caller => IdentityTag(0),
        }
    }

    /// Returns whether the CRM has named the user.
    #[must_use]
    pub(crate) fn is_known(&self) -> bool {
        matches!(self, Self::Crm { .. })
    }

    /// For a shared store: the kind, the user, the account.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; IDENTITY_BYTES] {
        let (kind, account) = match self {
            Self::Credential(_) => (0, None),
            Self::Crm { account: None, .. } => (1, None),
            Self::Crm {
                account: Some(account),
                ..
            } => (2, Some(account)),
            Self::Caller => (3, None),
        };
        let mut bytes = [0; IDENTITY_BYTES];
        bytes[0] = kind;
        bytes[1..17].copy_from_slice(&self.tag().to_bytes());
        bytes[17..].copy_from_slice(&account.map(IdentityTag::to_bytes).unwrap_or_default());
        bytes
    }

    /// Converts back from [`Identity::to_bytes`] of another replica. `None` for other bytes.
    #[must_use]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let (user, account) = rest.split_first_chunk::<16>()?;
        let account = IdentityTag(u128::from_be_bytes(account.try_into().ok()?));
        let tag = IdentityTag(u128::from_be_bytes(*user));
        match kind {
            0 => Some(Self::Credential(AuthTag::from_bytes(*user))),
            1 => Some(Self::Crm {
                user: tag,
                account: None,
            }),
            2 => Some(Self::Crm {
                user: tag,
                account: Some(account),
            }),
            3 => Some(Self::Caller),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_survive_their_bytes() {
        let (user, account) = (IdentityTag(7), IdentityTag(9));
        for identity in [
            Identity::Crm {
                user,
                account: None,
            },
            Identity::Crm {
                user,
                account: Some(account),
            },
            Identity::Credential(AuthTag::from_bytes([3; 16])),
            Identity::Caller,
        ] {
            assert_eq!(Identity::from_bytes(&identity.to_bytes()), Some(identity));
        }
        for junk in [&[][..], &[0; 32], &[0; 34], &[4; 33]] {
            assert_eq!(Identity::from_bytes(junk), None);
        }
    }
}
