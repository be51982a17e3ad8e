//! The log of invalidations, which carries events to the other replicas.
//!
//! It is a stream in Redis, not pub/sub, because a stream can be read again: a replica that was
//! away, or whose connection broke, continues where it stopped. A reader gets every event or
//! [`ReplicaEvent::Lost`]. Events are numbered without gaps. So a reader notices a trimmed stream
//! (`MAXLEN`), an evicted stream, a flushed Redis (the log has an identity), and a failover to a
//! server without the last events. Knows nothing of what the events mean.
//!
//! The command that reads the log also reports this replica as alive, and returns the number of
//! replicas, the time that they share, and the data token that Redis has.

mod cursor;
mod event;
mod reader;

use std::fmt;
use std::sync::Arc;

use redis::{Cmd, Script};

use crate::redis_link::user::{script, token};
use crate::redis_link::{Link, LinkError};

#[cfg(any(test, fuzzing))]
pub(crate) use cursor::event_is_sound;
pub use event::ReplicaEvent;
pub use reader::{LogReader, PollResult};

/// Events kept, approximately. A reader that is further behind has lost some.
const MOST: &str = "10000";

/// Numbers the event and appends it. The number is the first half of the entry's id. The second
/// half is random, so that a number that is reused after a failover makes a different id.
const PUBLISH: &str = "
if redis.call('HSETNX', KEYS[1], 'id', ARGV[1]) == 1 then redis.call('DEL', KEYS[2]) end
local number = redis.call('HINCRBY', KEYS[1], 'n', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], number .. '-' .. ARGV[3], 'e', ARGV[4])
return number
";

/// This replica's end of the log.
#[derive(Clone)]
pub struct InvalidationLog {
    link: Link,
    replica: [u8; 16],
    publish: Arc<Script>,
}

impl fmt::Debug for InvalidationLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvalidationLog")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl InvalidationLog {
    /// The log over a link, for a replica with a new random name.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self {
            link,
            replica: token(),
            publish: Arc::new(script(PUBLISH)),
        }
    }

    /// Waits until Redis answers, if it may do so soon.
    pub(crate) async fn redis_answers(&self) -> bool {
        self.link.answers().await
    }

    /// Publishes an event to the other replicas. This replica must apply it itself: its reader
    /// skips its own events. [`ReplicaEvent::Lost`] makes the others invalidate everything.
    ///
    /// # Errors
    /// [`LinkError`]. The others may not have the event, and the call should be repeated.
    pub async fn publish(&self, event: ReplicaEvent) -> Result<(), LinkError> {
        let identity = token();
        // 63 bits, so that Lua and Redis read this text in the same way.
        let random = (fastrand::u64(..) >> 1).to_string();
        let payload = event::encode(self.replica, event);
        let args: [&[u8]; 4] = [&identity, MOST.as_bytes(), random.as_bytes(), &payload];
        let keys = keys(&self.link);
        self.link
            .script::<u64>(&self.publish, &keys[..2], &args)
            .await
            .map(|_| ())
    }

    /// Two keys in one hash slot. One is a hash, whose field `loss` is the data token after the
    /// last loss. The other is a sorted set with the time of each replica's last poll.
    #[must_use]
    pub(crate) fn seen_keys(&self) -> [String; 2] {
        let [head, _, replicas] = keys(&self.link);
        [head, replicas]
    }

    /// This replica stops: the others need not reserve a share for it. Best effort.
    pub(crate) async fn leave(&self) {
        let mut leave = Cmd::new();
        leave
            .arg("ZREM")
            .arg(&keys(&self.link)[2])
            .arg(&self.replica);
        if let Err(error) = self.link.query::<u32>(leave).await {
            tracing::debug!(%error, "the other replicas count this one for a few seconds more");
        }
    }

    /// A reader that starts at the end of the log. Each replica has one, polled about every 100 ms.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.link.clone(), self.replica)
    }
}

/// Identity and counter, stream, replicas: in one hash slot.
fn keys(link: &Link) -> [String; 3] {
    ["{log}:h", "{log}:s", "{log}:r"].map(|part| link.key(&[part]))
}
