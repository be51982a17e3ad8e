#![allow(
    clippy::unnecessary_wraps,
    clippy::unchecked_time_subtraction,
    clippy::needless_pass_by_value,
    reason = "tests"
)]
use super::super::event::encode;
use super::*;
use crate::domain::UserTag;

const OWN: [u8; 16] = [1; 16];
const OTHER: [u8; 16] = [2; 16];

fn user(n: u8) -> UserTag {
    UserTag::from_bytes([n; 16])
}

fn cursor(number: u64) -> Cursor {
    Cursor {
        identity: b"log".to_vec(),
        number,
        random: Some(number.to_string()),
    }
}

/// A reply with the events of these numbers, all by another replica.
fn reply(end: u64, numbers: impl IntoIterator<Item = u64>) -> LogReply {
    let entries = numbers.into_iter().flat_map(|n| {
        let event = ReplicaEvent::InvalidateUser(user(u8::try_from(n).unwrap()));
        [format!("{n}-{n}").into_bytes(), encode(OTHER, event)]
    });
    LogReply {
        identity: b"log".to_vec(),
        end,
        entries: entries.collect(),
        ..LogReply::default()
    }
}

/// The reader's position afterwards, and how many events it has received; `None` if it knows that
/// some are missing.
fn followed(from: Cursor, reply: LogReply) -> Option<(u64, usize)> {
    let mut events = Vec::new();
    let cursor = from.advance(&reply, 3, OWN, &mut events);
    if events.last() != Some(&ReplicaEvent::Lost) {
        return Some((cursor.number, events.len()));
    }
    // After losing some, it continues from the end of this reply.
    assert_eq!(cursor, Cursor::after(&reply));
    None
}

#[test]
fn every_event_is_delivered_once_and_in_order() {
    assert_eq!(followed(cursor(0), reply(0, [])), Some((0, 0)));
    assert_eq!(followed(cursor(0), reply(2, [1, 2])), Some((2, 2)));
    assert_eq!(followed(cursor(2), reply(2, [2])), Some((2, 0)));
    assert_eq!(followed(cursor(2), reply(4, [2, 3, 4])), Some((4, 2)));
    assert_eq!(
        followed(cursor(2), reply(9, [2, 3, 4])),
        Some((4, 2)),
        "a full reply is not the end"
    );
}

#[test]
fn an_end_that_was_cut_off_behind_the_reader_loses_nothing() {
    assert_eq!(followed(cursor(2), reply(4, [3, 4])), Some((4, 2)));
}

#[test]
fn a_gap_is_noticed() {
    assert_eq!(
        followed(cursor(2), reply(5, [4, 5])),
        None,
        "cut off before the reader"
    );
    assert_eq!(
        followed(cursor(2), reply(5, [])),
        None,
        "the stream was evicted"
    );
    assert_eq!(followed(cursor(2), reply(3, [2])), None, "the end was lost");
}

#[test]
fn another_log_is_noticed() {
    let mut flushed = reply(2, [2]);
    flushed.identity = b"other".to_vec();
    assert_eq!(followed(cursor(2), flushed), None);
    assert_eq!(
        followed(cursor(2), reply(1, [])),
        None,
        "failed over to a server that knew less"
    );
    let mut again = reply(2, [2]);
    again.entries[0] = b"2-77".to_vec();
    assert_eq!(
        followed(cursor(2), again),
        None,
        "the number was given again"
    );
}

#[test]
fn a_replicas_own_events_are_not_repeated_to_it() {
    let mut own = reply(1, [1]);
    own.entries[1] = encode(OWN, ReplicaEvent::Lost);
    assert_eq!(followed(cursor(0), own), Some((1, 0)));
}

#[test]
fn an_event_of_a_later_version_means_everything() {
    let mut later = reply(1, [1]);
    later.entries[1][16] = 99;
    let mut events = Vec::new();
    cursor(0).advance(&later, 3, OWN, &mut events);
    assert_eq!(events, [ReplicaEvent::Lost]);
}
