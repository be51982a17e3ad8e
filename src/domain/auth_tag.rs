//! A credential for one address, as a keyed hash.

use std::fmt;

/// A keyed hash of a credential's headers and of the address that they are sent to. It
/// distinguishes two credentials without storing either.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthTag(pub(super) u128);

impl AuthTag {
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

impl fmt::Debug for AuthTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthTag(…)")
    }
}
