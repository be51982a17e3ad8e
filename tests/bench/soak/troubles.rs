//! When something was in trouble, so that nobody is blamed for what cannot be expected meanwhile.

use std::time::Duration;

use contactd::clock::{self, Instant};
use parking_lot::Mutex;

/// How long after its return Redis is used again by all, and what was missed is read.
const BACK: Duration = Duration::from_secs(3);

/// Longer than any answer lives, and any invalidation is remembered.
const KEPT: Duration = Duration::from_secs(600);

/// Who is in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// A replica does not run, or stands still.
    Replica(usize),
    /// A replica does not reach Redis.
    WayToRedis(usize),
    /// No replica reaches Redis.
    Redis,
    /// Redis loses what it was told.
    RedisData,
}

#[derive(Debug, Clone, Copy)]
struct Trouble {
    whose: Whose,
    begin: Instant,
    end: Option<Instant>,
}

impl Trouble {
    fn touches(&self, from: Instant, to: Instant, back: Duration) -> bool {
        self.begin <= to && self.end.is_none_or(|end| end + back >= from)
    }
}

/// All troubles of the last minutes.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<Vec<Trouble>>);

impl Troubles {
    pub(crate) fn begins(&self, whose: Whose) {
        let (mut all, begin) = (self.0.lock(), clock::now());
        all.retain(|trouble| trouble.end.is_none_or(|end| end + KEPT > begin));
        all.push(Trouble {
            whose,
            begin,
            end: None,
        });
    }

    pub(crate) fn ends(&self, whose: Whose) {
        let mut all = self.0.lock();
        let last = all.iter_mut().rev().find(|trouble| trouble.whose == whose);
        if let Some(trouble) = last {
            trouble.end = Some(clock::now());
        }
    }

    /// Whether a replica was down, or had just come back.
    pub(crate) fn replica_was_down(&self, replica: usize, from: Instant, to: Instant) -> bool {
        let back = Duration::from_secs(1);
        let all = self.0.lock();
        all.iter().any(|trouble| {
            trouble.whose == Whose::Replica(replica) && trouble.touches(from, to, back)
        })
    }

    /// Whether Redis had lost data, and not everybody may have noticed.
    pub(crate) fn data_was_lost(&self, from: Instant, to: Instant) -> bool {
        let all = self.0.lock();
        all.iter()
            .any(|trouble| trouble.whose == Whose::RedisData && trouble.touches(from, to, BACK))
    }

    /// When Redis last lost data, if `replica` may not have noticed it yet, because it has hardly
    /// reached Redis since.
    pub(crate) fn unnoticed_loss(&self, replica: usize, now: Instant) -> Option<Instant> {
        let is_loss = |trouble: &Trouble| trouble.whose == Whose::RedisData && trouble.begin <= now;
        let all = self.0.lock().clone();
        let noticed = |loss: &Trouble| self.known_by(replica, loss.begin, loss.end?);
        let losses = all.into_iter().filter(is_loss);
        let unnoticed = losses.filter(|loss| noticed(loss).is_none_or(|noticed| noticed > now));
        unnoticed.map(|loss| loss.end.unwrap_or(now)).max()
    }

    /// Whether Redis was down, for one replica or all of them.
    pub(crate) fn redis_was_down(&self, from: Instant, to: Instant) -> bool {
        let all = self.0.lock();
        all.iter().any(|trouble| {
            !matches!(trouble.whose, Whose::Replica(_)) && trouble.touches(from, to, BACK)
        })
    }

    /// When `replica` must know what was due at `due`; `None` while it cannot.
    pub(crate) fn known_by(&self, replica: usize, told: Instant, due: Instant) -> Option<Instant> {
        let mut due = due;
        for trouble in self.0.lock().iter() {
            let hits = match trouble.whose {
                Whose::Replica(n) | Whose::WayToRedis(n) => n == replica,
                Whose::Redis | Whose::RedisData => true,
            };
            if hits && trouble.touches(told, due, BACK) {
                due = due.max(trouble.end? + BACK);
            }
        }
        Some(due)
    }
}
