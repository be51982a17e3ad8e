//! Events of the log and their bytes.
//!
//! Defines the payload of an entry. Later versions read every payload of this one. Knows nothing of
//! the stream.

use crate::domain::{AuthTag, SharedTime, SlotKey, UserTag};
use crate::redis_link::PartyHash;

/// An event that other replicas must apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaEvent {
    /// A number of a user is invalid.
    InvalidateNumber(UserTag, PartyHash),
    /// All numbers of a user are invalid, because many were invalidated.
    InvalidateNumbers(UserTag),
    /// Everything of a user is invalid.
    InvalidateUser(UserTag),
    /// A credential is no longer accepted.
    Revoke(AuthTag),
    /// Some events are lost: everything in memory is invalid.
    Lost,
    /// An answer was replaced by one that was loaded at this time: older copies are dropped.
    /// Running loads stay valid.
    Replaced(SlotKey, SharedTime),
    /// As [`ReplicaEvent::Replaced`], for all answers of a user.
    ReplacedMany(UserTag, SharedTime),
}

/// The replica's name, a byte for the kind, the user or credential, the number or slot if any, and
/// a time if the kind has one.
pub(super) fn encode(replica: [u8; 16], event: ReplicaEvent) -> Vec<u8> {
    const NONE: [u8; 16] = [0; 16];
    let (kind, whose, what, time) = match event {
        ReplicaEvent::InvalidateNumber(user, party) => (1, user.to_bytes(), party.0, None),
        ReplicaEvent::InvalidateUser(user) => (2, user.to_bytes(), NONE, None),
        ReplicaEvent::Revoke(auth) => (3, NONE, auth.to_bytes(), None),
        ReplicaEvent::Lost => (4, NONE, NONE, None),
        ReplicaEvent::Replaced(slot, at) => (5, slot.user().to_bytes(), slot.to_bytes(), Some(at)),
        ReplicaEvent::ReplacedMany(user, at) => (6, user.to_bytes(), NONE, Some(at)),
        ReplicaEvent::InvalidateNumbers(user) => (7, user.to_bytes(), NONE, None),
    };
    let time = time.map(|SharedTime(at)| at.to_be_bytes());
    [
        &replica[..],
        &[kind],
        &whose,
        &what,
        time.as_ref().map_or(&[], |time| &time[..]),
    ]
    .concat()
}

pub(super) fn decode(payload: &[u8]) -> Option<([u8; 16], ReplicaEvent)> {
    let (replica, payload) = payload.split_first_chunk::<16>()?;
    let (&kind, payload) = payload.split_first()?;
    let (whose, payload) = payload.split_first_chunk::<16>()?;
    let (what, time) = payload.split_first_chunk::<16>()?;
    let user = UserTag::from_bytes(*whose);
    let at = || Some(SharedTime(u64::from_be_bytes(time.try_into().ok()?)));
    let event = match kind {
        1 => ReplicaEvent::InvalidateNumber(user, PartyHash(*what)),
        2 => ReplicaEvent::InvalidateUser(user),
        3 => ReplicaEvent::Revoke(AuthTag::from_bytes(*what)),
        4 => ReplicaEvent::Lost,
        5 => ReplicaEvent::Replaced(SlotKey::from_bytes(user, *what), at()?),
        6 => ReplicaEvent::ReplacedMany(user, at()?),
        7 => ReplicaEvent::InvalidateNumbers(user),
        _ => return None,
    };
    Some((*replica, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_their_bytes() {
        let user = UserTag::from_bytes([1; 16]);
        for event in [
            ReplicaEvent::InvalidateNumber(user, PartyHash([7; 16])),
            ReplicaEvent::InvalidateNumbers(user),
            ReplicaEvent::InvalidateUser(UserTag::from_bytes([2; 16])),
            ReplicaEvent::Revoke(AuthTag::from_bytes([9; 16])),
            ReplicaEvent::Lost,
            ReplicaEvent::Replaced(
                SlotKey::from_bytes(user, [3; 16]),
                SharedTime(1_790_000_000_123),
            ),
            ReplicaEvent::ReplacedMany(user, SharedTime(1)),
        ] {
            assert_eq!(decode(&encode([5; 16], event)), Some(([5; 16], event)));
        }
        assert_eq!(decode(b""), None);
    }
}
