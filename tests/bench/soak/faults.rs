//! A CRM that stumbles, and a Redis that comes and goes.

use std::sync::Arc;
use std::time::Duration;

use contactd::clock;
use fastrand::Rng;

use crate::Soak;
use crate::support::Reply;
use crate::support::redis::RedisServer;

/// How the CRM is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Limiting,
    Failing,
    Slow,
    Hostile,
}

impl Mood {
    /// What becomes of a call. Few meet a limit, because that lowers a user's pace for a while.
    pub(super) fn stumble(self) -> Option<Reply> {
        if fastrand::u8(..100) >= if self == Self::Limiting { 2 } else { 40 } {
            return None;
        }
        let odd = match self {
            Self::Well => return None,
            Self::Limiting => Reply::status(429).header("retry-after", "1"),
            Self::Failing => Reply::status(fastrand::choice([500, 502, 503, 408]).unwrap_or(500)),
            Self::Slow => {
                Reply::status(503).after(Duration::from_millis(fastrand::u64(100..3_000)))
            }
            Self::Hostile => match fastrand::u8(..8) {
                0 => Reply::cut(),
                1 => Reply::drip(),
                2 => Reply::huge(1 << 20),
                3 => Reply::html(),
                4 => Reply::status(302).header("location", "http://127.0.0.1:1/"),
                5 => Reply::text("application/json", "[".repeat(100_000)),
                6 => Reply::bytes("application/json", vec![0xff; 1_000])
                    .header("content-encoding", "gzip"),
                _ => Reply::text(
                    "application/json",
                    "{\"contacts\": {}, \"next_page\": \"x\"}".to_owned(),
                ),
            },
        };
        Some(odd)
    }
}

/// Changes the CRM's mood every few seconds; it is well half of the time.
pub(super) async fn trouble_the_crm(soak: Arc<Soak>, mut rng: Rng) -> anyhow::Result<()> {
    let moods = [Mood::Limiting, Mood::Failing, Mood::Slow, Mood::Hostile];
    while soak
        .goes_on_after(Duration::from_millis(rng.u64(2_000..8_000)))
        .await
    {
        let mood = if rng.bool() {
            Mood::Well
        } else {
            moods[rng.usize(..moods.len())]
        };
        *soak.world.mood.lock() = mood;
    }
    *soak.world.mood.lock() = Mood::Well;
    Ok(())
}

/// Does something to Redis every ten seconds or so. In the end it is there.
pub(super) async fn trouble_redis(
    soak: &Soak,
    mut redis: RedisServer,
    mut rng: Rng,
) -> RedisServer {
    while soak
        .goes_on_after(Duration::from_millis(rng.u64(5_000..15_000)))
        .await
    {
        soak.world.redis_in_trouble(true);
        match rng.u8(..6) {
            0 => {
                redis.stop();
                clock::sleep(Duration::from_millis(rng.u64(..5_000))).await;
                redis.restart().await;
            }
            1 => redis.restart().await,
            2 => redis.flush(),
            3 | 4 => {
                redis.pause();
                clock::sleep(Duration::from_millis(rng.u64(20..3_000))).await;
                redis.resume();
            }
            _ => drop(redis.run::<u64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])),
        }
        soak.world.redis_in_trouble(false);
    }
    redis
}
