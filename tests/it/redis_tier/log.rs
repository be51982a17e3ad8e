//! The log of invalidations between replicas.

use std::time::Duration;

use contactd::cache::{InvalidationLog, LogReader, ReplicaEvent};
use contactd::clock::sleep;
use contactd::domain::{AuthTag, SharedTime, UserTag};
use contactd::redis_link::DataToken;

use super::{key, party};
use crate::support::clocks::Clocks;
use crate::support::ports::free_port;
use crate::support::redis::{RedisServer, link_to};

fn user(n: u8) -> UserTag {
    UserTag::from_bytes([n; 16])
}

/// A replica that has not begun to read.
fn replica(server: &RedisServer) -> (InvalidationLog, LogReader) {
    let log = InvalidationLog::new(link_to(&server.url()));
    let reader = log.reader();
    (log, reader)
}

/// Two replicas that have begun to read.
async fn two(server: &RedisServer) -> [(InvalidationLog, LogReader); 2] {
    let mut replicas = [(); 2].map(|()| replica(server));
    for (_, reader) in &mut replicas {
        assert_eq!(reader.poll().await.unwrap().events, []);
    }
    replicas
}

async fn events(reader: &mut LogReader) -> Vec<ReplicaEvent> {
    reader.poll().await.unwrap().events
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_replica_gets_what_others_publish_once_and_in_order() {
    let server = RedisServer::start().await;
    let [(one, mut own), (_, mut other)] = two(&server).await;
    let hash = link_to(&server.url())
        .names()
        .party(key("u", 1).user(), party(1));
    let published = [
        ReplicaEvent::InvalidateNumber(key("u", 1).user(), hash),
        ReplicaEvent::InvalidateUser(user(2)),
        ReplicaEvent::Revoke(AuthTag::from_bytes([4; 16])),
        ReplicaEvent::Replaced(key("u", 1).slot(), SharedTime(7)),
        ReplicaEvent::ReplacedMany(user(5), SharedTime(8)),
    ];
    for event in published {
        one.publish(event).await.unwrap();
    }
    assert_eq!(events(&mut other).await, published);
    let polled = other.poll().await.unwrap();
    assert_eq!(
        (polled.events.len(), polled.replicas, polled.more),
        (0, Some(2), false)
    );
    let time: (u64, u64) = server.run(&["TIME"]);
    assert!(
        time.0.abs_diff(polled.time.now.0 / 1000) <= 1,
        "Redis' own time: {polled:?}"
    );
    assert_eq!(events(&mut own).await, [], "its own are not repeated to it");
    one.publish(ReplicaEvent::InvalidateUser(user(5)))
        .await
        .unwrap();
    assert_eq!(
        events(&mut other).await,
        [ReplicaEvent::InvalidateUser(user(5))]
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_reader_begins_at_the_end() {
    let server = RedisServer::start().await;
    let [(one, _), _] = two(&server).await;
    one.publish(ReplicaEvent::InvalidateUser(user(1)))
        .await
        .unwrap();
    let mut late = InvalidationLog::new(link_to(&server.url())).reader();
    assert_eq!(events(&mut late).await, []);
    one.publish(ReplicaEvent::InvalidateUser(user(2)))
        .await
        .unwrap();
    assert_eq!(
        events(&mut late).await,
        [ReplicaEvent::InvalidateUser(user(2))]
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn many_events_come_in_batches_and_a_reader_too_far_behind_learns_it() {
    let server = RedisServer::start().await;
    let [(one, _), (_, mut other)] = two(&server).await;
    for n in 0..2_500_u32 {
        one.publish(ReplicaEvent::InvalidateUser(user(
            u8::try_from(n % 250).unwrap(),
        )))
        .await
        .unwrap();
    }
    let mut read = Vec::new();
    while read.len() < 2_500 {
        let batch = events(&mut other).await;
        assert!(!batch.is_empty() && !batch.contains(&ReplicaEvent::Lost));
        read.extend(batch);
    }
    assert_eq!(events(&mut other).await, []);

    for n in 0..20 {
        one.publish(ReplicaEvent::InvalidateUser(user(n)))
            .await
            .unwrap();
    }
    server.run::<()>(&["XTRIM", "contactd:{log}:s", "MAXLEN", "5"]);
    assert_eq!(events(&mut other).await, [ReplicaEvent::Lost]);
    one.publish(ReplicaEvent::InvalidateUser(user(9)))
        .await
        .unwrap();
    assert_eq!(
        events(&mut other).await,
        [ReplicaEvent::InvalidateUser(user(9))],
        "and goes on"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_flushed_or_evicted_log_is_noticed() {
    let server = RedisServer::start().await;
    let [(one, _), (_, mut other)] = two(&server).await;
    for (n, gone) in (0..).zip(["everything", "contactd:{log}:s", "contactd:{log}:h"]) {
        for before in [true, false] {
            one.publish(ReplicaEvent::InvalidateUser(user(n)))
                .await
                .unwrap();
            assert_eq!(
                events(&mut other).await,
                [ReplicaEvent::InvalidateUser(user(n))]
            );
            if before {
                one.publish(ReplicaEvent::InvalidateUser(user(n)))
                    .await
                    .unwrap();
            }
            if gone == "everything" {
                server.flush()
            } else {
                server.run::<()>(&["DEL", gone])
            }
            if !before {
                one.publish(ReplicaEvent::InvalidateUser(user(n)))
                    .await
                    .unwrap();
            }
            let read = events(&mut other).await;
            // With the stream alone gone and everything heard before, nothing was missed.
            let whole = !before && gone.ends_with('s');
            assert_eq!(
                read,
                [if whole {
                    ReplicaEvent::InvalidateUser(user(n))
                } else {
                    ReplicaEvent::Lost
                }],
                "{gone} {before}"
            );
            assert_eq!(events(&mut other).await, []);
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_replica_that_was_cut_off_catches_up() {
    let mut server = RedisServer::start().await;
    let [(one, _), (_, mut other)] = two(&server).await;
    server.pause();
    for _ in 0..4 {
        assert!(other.poll().await.is_err());
    }
    server.resume();
    publish_when_up(&one).await;
    assert_eq!(
        poll_when_up(&mut other).await,
        [ReplicaEvent::InvalidateUser(user(1))],
        "nothing was missed"
    );

    server.restart().await;
    assert_eq!(
        poll_when_up(&mut other).await,
        [ReplicaEvent::Lost],
        "an empty Redis knows of nothing"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_reader_that_could_not_begin_may_have_missed_some() {
    let mut server = RedisServer::on(crate::support::ports::free_port(), &[]);
    let mut reader = InvalidationLog::new(link_to(&server.url())).reader();
    assert!(reader.poll().await.is_err());
    server.restart().await;
    assert_eq!(poll_when_up(&mut reader).await, [ReplicaEvent::Lost]);
    assert_eq!(events(&mut reader).await, []);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn replicas_that_are_gone_are_not_counted() {
    let server = RedisServer::start().await;
    let [(_, mut own), _] = two(&server).await;
    assert_eq!(own.poll().await.unwrap().replicas, Some(2));
    // Their last polls, moved into the past.
    let mut connection = redis::Client::open(server.url())
        .unwrap()
        .get_connection()
        .unwrap();
    let names: Vec<Vec<u8>> = redis::cmd("ZRANGE")
        .arg("contactd:{log}:r")
        .arg(0)
        .arg(-1)
        .query(&mut connection)
        .unwrap();
    for name in names {
        redis::cmd("ZADD")
            .arg("contactd:{log}:r")
            .arg("XX")
            .arg(1000)
            .arg(name)
            .exec(&mut connection)
            .unwrap();
    }
    assert_eq!(own.poll().await.unwrap().replicas, Some(1));
}

async fn publish_when_up(log: &InvalidationLog) {
    for _ in 0..200 {
        if log
            .publish(ReplicaEvent::InvalidateUser(user(1)))
            .await
            .is_ok()
        {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("still down");
}

async fn poll_when_up(reader: &mut LogReader) -> Vec<ReplicaEvent> {
    for _ in 0..200 {
        if let Ok(polled) = reader.poll().await {
            return polled.events;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("still down");
}

/// The data token, as a replica reads it.
async fn data(reader: &mut LogReader) -> Option<DataToken> {
    reader.poll().await.unwrap().time.data
}

/// The data comes from another server: from its snapshot, or by replication.
fn from_another_server(server: &RedisServer) {
    let keys = server.keys();
    let head = keys.iter().find(|key| key.ends_with("{log}:h")).unwrap();
    server.run::<()>(&["HSET", head, "server", "another"]);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn data_that_a_replica_knows_keeps_its_token_at_another_server() {
    let server = RedisServer::start().await;
    let [(_, mut one), (_, mut other)] = two(&server).await;
    let before = data(&mut one).await;
    assert!(before.is_some());
    from_another_server(&server);
    assert_eq!(data(&mut one).await, before);
    assert_eq!(data(&mut other).await, before);
    let (_, mut new) = replica(&server);
    assert_eq!(data(&mut new).await, before);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn data_that_nobody_knows_gets_another_token() {
    let server = RedisServer::start().await;
    let [(_, mut one), (_, mut other)] = two(&server).await;
    let before = data(&mut one).await;
    from_another_server(&server);
    // Nobody is there who has seen what the data was.
    let (_, mut new) = replica(&server);
    let after = data(&mut new).await;
    assert_ne!(after, before);
    assert_eq!([data(&mut one).await, data(&mut other).await], [after; 2]);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn older_data_gets_another_token_however_often_others_have_read_the_log_since() {
    let server = RedisServer::start().await;
    let [(_, mut one), (_, mut other)] = two(&server).await;
    let before = data(&mut one).await;
    let dumped = server.dump();
    sleep(Duration::from_millis(5)).await;
    assert_eq!(data(&mut one).await, before);
    server.set_back(&dumped);
    for _ in 0..50 {
        data(&mut other).await;
    }
    let after = data(&mut one).await;
    assert_ne!(after, before);
    assert_eq!(data(&mut other).await, after);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn data_that_nobody_knows_has_no_token_while_redis_takes_no_writes() {
    let server = RedisServer::start().await;
    let [(_, mut one), _] = two(&server).await;
    let before = data(&mut one).await;
    from_another_server(&server);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let (_, mut new) = replica(&server);
    assert_eq!(data(&mut new).await, None);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    let after = data(&mut new).await;
    assert!(after.is_some() && after != before);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_clock_that_was_set_while_redis_takes_no_writes_is_corrected_once_it_does() {
    let clocks = Clocks::compile();
    let clock = clocks.clock("redis");
    let mut server = RedisServer::on(free_port(), &[]).with_env(&clock.env());
    server.restart().await;
    let [(_, mut one), _] = two(&server).await;
    let before = one.poll().await.unwrap().time;
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    clock.step(Duration::from_secs(600), false);
    for _ in 0..4 {
        assert_eq!(data(&mut one).await, None);
    }
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    let after = one.poll().await.unwrap().time;
    assert!(after.data.is_some() && after.data != before.data);
    let passed = after.now.0.saturating_sub(before.now.0);
    assert!(passed < 60_000, "{passed} ms");
    assert!(after.now >= before.now, "{before:?} {after:?}");
}
