//! How far a reader has read, and whether an event is missing before the log's end.
//!
//! Never skips a missing event. Pure: knows nothing of connections or time.

use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value};

use super::event::{self, ReplicaEvent};
use crate::domain::SharedTime;

/// The reply of one poll, in the order of the script. A loss of data and a correction of the time
/// need a new data token. If Redis refuses to write the new one, `data` is empty, and after a loss
/// of data `loss` too.
#[derive(Debug, Clone, Default)]
pub(super) struct LogReply {
    pub(super) identity: Vec<u8>,
    /// The number of the log's last event.
    pub(super) end: u64,
    /// Live replicas.
    pub(super) replicas: u32,
    /// Ids and payloads of events, alternately. They start with the reader's last event, or with
    /// the log's last one if the reader has no cursor yet.
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) now: SharedTime,
    /// Why the replicas could not be counted; otherwise empty.
    pub(super) refused: String,
    /// How long Redis has kept its data.
    pub(super) kept_for: Duration,
    /// Replicas that are present.
    pub(super) present: u32,
    /// The correction of Redis' time of day.
    pub(super) step: i64,
    /// The data token.
    pub(super) data: Vec<u8>,
    /// What the data token was after the last loss of data.
    pub(super) loss: Vec<u8>,
}

impl FromRedisValue for LogReply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (identity, end, replicas, entries, now, refused, kept_for, present, step, data, loss) =
            FromRedisValue::from_redis_value(value)?;
        Ok(Self {
            identity,
            end,
            replicas,
            entries,
            now: SharedTime(now),
            refused,
            kept_for: Duration::from_millis(kept_for),
            present,
            step,
            data,
            loss,
        })
    }
}

/// How far a reader has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    identity: Vec<u8>,
    /// The last event's number; 0 before the first one.
    pub(super) number: u64,
    /// The random half of the last event's id, if it is known.
    random: Option<String>,
}

impl Cursor {
    /// A cursor behind the last event of a reply.
    pub(super) fn after(reply: &LogReply) -> Self {
        let last = reply
            .entries
            .chunks_exact(2)
            .last()
            .and_then(|entry| split(&entry[0]));
        let (number, random) =
            last.map_or((reply.end, None), |(number, random)| (number, Some(random)));
        Self {
            identity: reply.identity.clone(),
            number,
            random,
        }
    }

    /// Moves over the events of a reply with at most `most` events, and adds those of other
    /// replicas to `events`. If one is missing, the last event added is [`ReplicaEvent::Lost`].
    pub(super) fn advance(
        self,
        reply: &LogReply,
        most: usize,
        own: [u8; 16],
        events: &mut Vec<ReplicaEvent>,
    ) -> Self {
        self.advanced_over(reply, most, own, events)
            .unwrap_or_else(|| {
                events.push(ReplicaEvent::Lost);
                Self::after(reply)
            })
    }

    fn advanced_over(
        self,
        reply: &LogReply,
        most: usize,
        own: [u8; 16],
        events: &mut Vec<ReplicaEvent>,
    ) -> Option<Self> {
        if reply.identity != self.identity || reply.end < self.number {
            return None;
        }
        let mut at = self;
        for entry in reply.entries.chunks_exact(2) {
            let (number, random) = split(&entry[0])?;
            if number == at.number {
                if at.random.as_ref().is_some_and(|known| *known != random) {
                    return None; // the number was given again
                }
                continue;
            }
            if Some(number) != at.number.checked_add(1) {
                return None;
            }
            (at.number, at.random) = (number, Some(random));
            events.extend(event_of_another(&entry[1], own));
        }
        // A reply that is not full must reach the end. Otherwise the stream was trimmed or evicted.
        (at.number == reply.end || reply.entries.len() / 2 >= most).then_some(at)
    }
}

/// The event of a payload, unless this replica published it.
fn event_of_another(payload: &[u8], own: [u8; 16]) -> Option<ReplicaEvent> {
    match event::decode(payload) {
        Some((replica, _)) if replica == own => None,
        Some((_, event)) => Some(event),
        // From a later version: invalidating everything covers any meaning.
        None => Some(ReplicaEvent::Lost),
    }
}

/// Number and random half of an entry's id.
fn split(id: &[u8]) -> Option<(u64, String)> {
    let (number, random) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some((number.parse().ok()?, random.to_owned()))
}

/// A payload decodes to what was written, or to nothing. Whatever the entries are, the cursor ends
/// where a reader can continue.
#[cfg(any(test, fuzzing))]
pub(crate) fn event_is_sound(bytes: &[u8]) {
    if let Some((replica, event)) = event::decode(bytes) {
        let again = event::encode(replica, event);
        assert_eq!(event::decode(&again), Some((replica, event)));
    }
    let entries: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(Vec::from).collect();
    let most = entries.len() / 2;
    let end = entries
        .iter()
        .find_map(|id| split(id))
        .map_or(0, |(number, _)| number);
    let reply = LogReply {
        identity: vec![1],
        end,
        entries,
        ..LogReply::default()
    };
    let mut events = Vec::new();
    let at = Cursor {
        identity: vec![1],
        number: end.saturating_sub(1),
        random: None,
    };
    let at = at.advance(&reply, most, [0; 16], &mut events);
    assert!(events.len() <= most + 1);
    let again = at.clone().advance(&reply, most, [0; 16], &mut Vec::new());
    assert!(again.number >= at.number || events.last() == Some(&ReplicaEvent::Lost));
}

#[cfg(test)]
mod tests;
