//! Events of the log and their bytes.
//!
//! Owns the payload of an entry. Promises that every payload of this version is read by later ones. Knows nothing of
//! the stream.

use crate::domain::{AuthTag, UserTag};
use crate::link::PartyHash;

/// What another replica was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A number of a user is to be forgotten.
    ForgetNumber(UserTag, PartyHash),
    /// Everything of a user is to be forgotten.
    ForgetUser(UserTag),
    /// A credential of a user is not accepted any more.
    Revoke(UserTag, AuthTag),
    /// Some events will never be known: everything in memory is to be forgotten.
    Lost,
}

/// The replica's name, a byte of kind, the user, and what of the user.
pub(super) fn encode(replica: [u8; 16], event: Event) -> Vec<u8> {
    let (kind, user, rest) = match event {
        Event::ForgetNumber(user, party) => (1, user.to_bytes(), party.0),
        Event::ForgetUser(user) => (2, user.to_bytes(), [0; 16]),
        Event::Revoke(user, auth) => (3, user.to_bytes(), auth.to_bytes()),
        Event::Lost => (4, [0; 16], [0; 16]),
    };
    [&replica[..], &[kind], &user, &rest].concat()
}

pub(super) fn decode(payload: &[u8]) -> Option<([u8; 16], Event)> {
    let (replica, payload) = payload.split_first_chunk::<16>()?;
    let (&kind, payload) = payload.split_first()?;
    let (user, payload) = payload.split_first_chunk::<16>()?;
    let (user, rest) = (UserTag::from_bytes(*user), <[u8; 16]>::try_from(payload).ok()?);
    let event = match kind {
        1 => Event::ForgetNumber(user, PartyHash(rest)),
        2 => Event::ForgetUser(user),
        3 => Event::Revoke(user, AuthTag::from_bytes(rest)),
        4 => Event::Lost,
        _ => return None,
    };
    Some((*replica, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_their_bytes() {
        let auth = AuthTag::from_bytes([9; 16]);
        for event in [
            Event::ForgetNumber(UserTag::from_bytes([1; 16]), PartyHash([7; 16])),
            Event::ForgetUser(UserTag::from_bytes([2; 16])),
            Event::Revoke(UserTag::from_bytes([3; 16]), auth),
            Event::Lost,
        ] {
            assert_eq!(decode(&encode([5; 16], event)), Some(([5; 16], event)));
        }
        assert_eq!(decode(b""), None);
    }
}
