//! Reads the log of invalidations.
//!
//! One script reads the events, notes that this replica is alive, counts the replicas, and returns
//! the shared time and the data token. It replaces the data token if Redis may have older data, and
//! corrects the shared time if Redis' clock was set.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Script;

use super::cursor::{Cursor, LogReply};
use super::event::ReplicaEvent;
use super::keys;
use crate::clock;
use crate::redis_link::user::{script, token};
use crate::redis_link::{DataToken, Link, LinkError, NotedPoll, RoundTrip, TimePoll};

/// How long a replica counts as alive after its last poll, in milliseconds.
const ALIVE_MS: &str = "10000";

/// How long after its last poll a replica counts as present, in milliseconds. It polls about every
/// 100.
const PRESENT_MS: &str = "350";

/// How long Redis notes when a replica polled last, in milliseconds.
const KEPT_MS: &str = "86400000";

/// Events read by one poll, including the last known one.
const BATCH: usize = 1000;

/// Reads from the last known event on. That event is included, to check that it is still the same.
/// Reading continues if this replica cannot be counted: if Redis is full or takes no writes, or a
/// key has another type.
const POLL: &str = "
if not redis.call('HGET', KEYS[1], 'id') then
    redis.call('HSETNX', KEYS[1], 'id', ARGV[1])
    redis.call('DEL', KEYS[2])
end
local replicas, refused = 0, ''
local function try(...)
    if refused ~= '' then return end
    replicas = redis.pcall(...)
    if type(replicas) == 'table' then replicas, refused = 0, replicas.err end
end
-- The shared time is this server's time of day plus a correction. A replica that has seen the sum jump proposes another
-- correction. Only the first proposal counts: the others start from a correction that does not hold any more.
local step, is_set = tonumber(redis.call('HGET', KEYS[1], 'step') or 0), false
if ARGV[9] ~= '' and step == tonumber(ARGV[8]) then
    step, is_set = tonumber(ARGV[9]), true
    try('HSET', KEYS[1], 'step', ARGV[9])
end
local time = now() + step
-- After a failover, or from a snapshot, the data may be older than what replicas have seen. If this replica finds its
-- last poll in the data, the data is not older. A server that has just taken over is known by its `run_id`.
local server = redis.pcall('INFO', 'server')
server = type(server) == 'string' and string.match(server, 'run_id:(%w+)') or ''
local known, data, loss = unpack(redis.call('HMGET', KEYS[1], 'server', 'data', 'loss'))
local polled, seen = tonumber(ARGV[6]), redis.pcall('ZSCORE', KEYS[3], ARGV[3])
seen = type(seen) == 'string' and tonumber(seen)
local is_older, is_known = seen and seen < polled, seen and polled > 0 and seen >= polled
local is_other = server ~= '' and server ~= known
try('HSETNX', KEYS[1], 'since', time)
-- Another replica has noticed the loss after this replica's last poll: the data that counts now began after that poll.
if polled <= tonumber(redis.call('HGET', KEYS[1], 'since') or 0) then is_older = false end
local is_lost = not data or #data ~= 8 or not loss or is_older or (is_other and not is_known)
if is_lost or is_set then
    data = string.sub(ARGV[1], 1, 8)
    if is_lost then loss = data end
    try('HSET', KEYS[1], 'since', time, 'data', data, 'loss', loss, 'server', server)
    if refused ~= '' then data = '' end
    if refused ~= '' and is_lost then loss = '' end
elseif is_other then
    try('HSET', KEYS[1], 'server', server)
end
-- The clock was set back: nobody can say any more for how long the data has been kept.
if tonumber(redis.call('HGET', KEYS[1], 'since') or time) > time then try('HSET', KEYS[1], 'since', time) end
try('ZREMRANGEBYSCORE', KEYS[3], '-inf', time - ARGV[10])
try('ZADD', KEYS[3], time, ARGV[3])
try('PEXPIRE', KEYS[3], ARGV[10])
try('ZCOUNT', KEYS[3], time - ARGV[7], '+inf')
local present = refused == '' and replicas or 0
try('ZCOUNT', KEYS[3], time - ARGV[2], '+inf')
local entries
if ARGV[4] == 'end' then
    entries = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
else
    entries = redis.call('XRANGE', KEYS[2], ARGV[4] .. '-0', '+', 'COUNT', ARGV[5])
end
local flat = {}
for _, entry in ipairs(entries) do
    flat[#flat + 1] = entry[1]
    flat[#flat + 1] = entry[2][2]
end
local head = redis.call('HMGET', KEYS[1], 'id', 'n', 'since')
local kept = math.max(time - tonumber(head[3] or time), 0)
return {head[1], tonumber(head[2] or '0'), replicas, flat, time, refused, kept, present, step, data, loss}
";

/// What one poll brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollResult {
    /// Events of other replicas since the last poll, in their order.
    pub events: Vec<ReplicaEvent>,
    /// Replicas that polled within the last ten seconds, including this one: at least 1. `None` if
    /// Redis could not count them.
    pub replicas: Option<u32>,
    /// How many of them have just polled.
    pub(crate) present: u32,
    /// Whether there may be more to read immediately.
    pub more: bool,
    /// What Redis says of the time.
    pub time: TimePoll,
    /// How long Redis has kept its data, as far as the log shows it.
    pub(crate) kept_for: Duration,
}

/// Reads what other replicas publish.
pub struct LogReader {
    link: Link,
    replica: [u8; 16],
    poll: Script,
    cursor: Option<Cursor>,
    /// Whether events may have been missed before the first successful poll.
    failed_before: bool,
    /// The failure that was logged last.
    logged: Option<String>,
    /// The last poll that Redis has noted.
    noted: Option<NotedPoll>,
    /// The last reading of the shared time.
    latest: Option<RoundTrip>,
    /// Whether Redis' clock was set and Redis has refused the correction. The jump has been logged
    /// then.
    has_jumped: bool,
    /// How many connections were made before the last poll.
    tried_on: u64,
}

/// A reply, and how it came.
struct TimedReply {
    reply: LogReply,
    trip: RoundTrip,
    /// The number of the connection.
    connection: u64,
}

/// Another correction of Redis' time of day, in milliseconds, instead of the one that held.
#[derive(Debug, Clone, Copy)]
struct NewStep {
    before: i64,
    after: i64,
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader")
            .field("failed_before", &self.failed_before)
            .finish_non_exhaustive()
    }
}

impl LogReader {
    pub(super) fn new(link: Link, replica: [u8; 16]) -> Self {
        Self {
            link,
            replica,
            poll: script(POLL),
            cursor: None,
            failed_before: false,
            logged: None,
            noted: None,
            latest: None,
            has_jumped: false,
            tried_on: 0,
        }
    }

    /// Waits before the next poll: for `longest`, or until there is a new connection if that is
    /// sooner. Nothing that comes over a new connection may be used before a poll on it.
    pub(crate) async fn pause(&self, longest: Duration) {
        let _ = clock::timeout(longest, self.link.connected_after(self.tried_on)).await;
    }

    /// Returns the events since the last poll, without waiting for new ones. It returns one batch,
    /// so a reader that was away for long needs several polls. May be dropped midway.
    ///
    /// # Errors
    /// [`LinkError`]. Nothing is lost: the next successful poll continues from here.
    pub async fn poll(&mut self) -> Result<PollResult, LinkError> {
        self.tried_on = self.link.connections().load(Ordering::Acquire);
        let polled = self.steady_reply().await;
        let TimedReply {
            reply,
            trip,
            connection,
        } = polled.inspect_err(|error| self.note(error))?;
        let replicas = self.count(&reply);
        let mut events = Vec::new();
        self.cursor = Some(if let Some(cursor) = self.cursor.take() {
            cursor.advance(&reply, BATCH, self.replica, &mut events)
        } else {
            // Events before the first poll are not read: they are for replicas that already served
            // then. If earlier polls failed, memory may have missed some events meanwhile.
            events.extend(self.failed_before.then_some(ReplicaEvent::Lost));
            Cursor::after(&reply)
        });
        Ok(PollResult {
            events,
            replicas,
            present: reply.present.max(1),
            more: reply.entries.len() >= 2 * BATCH,
            time: TimePoll {
                now: reply.now,
                step: reply.step,
                data: DataToken::read(&reply.data),
                loss: DataToken::read(&reply.loss),
                noted: self.noted,
                connection,
                took: trip.took(),
            },
            kept_for: reply.kept_for,
        })
    }

    fn note(&mut self, error: &LinkError) {
        self.failed_before = true;
        if let Some(code) = error.about_a_key() {
            let consequence = "invalidations at other replicas do not arrive here";
            self.log_once(&keys(&self.link)[..2], code, consequence);
        }
    }

    fn count(&mut self, reply: &LogReply) -> Option<u32> {
        if reply.refused.is_empty() {
            self.logged = None;
            self.link.set_impaired(false);
            return Some(reply.replicas.max(1));
        }
        if let Some(code) = self.link.refused(&reply.refused).about_a_key() {
            self.log_once(
                &keys(&self.link)[2..],
                code,
                "replicas cannot count each other",
            );
        }
        None
    }

    fn log_once(&mut self, keys: &[String], code: &str, consequence: &str) {
        self.link.set_impaired(true);
        if self.logged.as_deref() != Some(code) {
            let keys = keys.join(", ");
            tracing::warn!(
                code,
                keys,
                "Redis refuses the log of invalidations, perhaps because another program wrote these keys: \
                 {consequence}"
            );
            self.logged = Some(code.to_owned());
        }
    }

    /// A reply in which the shared time runs as it did before. If Redis' clock was set, this
    /// replica proposes another correction, or takes over that of the replica that was first.
    async fn steady_reply(&mut self) -> Result<TimedReply, LinkError> {
        let first = self.timed_request(None).await?;
        let trip = first.trip;
        let jump = self.latest.map_or(0, |latest| trip.jump_since(&latest));
        let polled = if jump == 0 {
            first
        } else {
            if !self.has_jumped {
                tracing::warn!(
                    jump_ms = jump,
                    "the clock of Redis was set, or another server with another clock took over"
                );
            }
            let step = NewStep {
                before: first.reply.step,
                after: first.reply.step - jump,
            };
            self.timed_request(Some(step)).await?
        };
        // If Redis has not written the correction, the next poll has to see the jump again.
        self.has_jumped = jump != 0 && !polled.reply.refused.is_empty();
        if !self.has_jumped {
            self.latest = Some(polled.trip);
        }
        Ok(polled)
    }

    async fn timed_request(&mut self, step: Option<NewStep>) -> Result<TimedReply, LinkError> {
        let sent = clock::now();
        let (reply, connection) = self.request(step).await?;
        if reply.refused.is_empty() {
            self.noted = Some(NotedPoll {
                replica: self.replica,
                at: reply.now,
            });
        }
        let trip = RoundTrip {
            told: reply.now,
            step: reply.step,
            sent,
            received: clock::now(),
        };
        Ok(TimedReply {
            reply,
            trip,
            connection,
        })
    }

    /// The reply, and the number of the connection.
    async fn request(&self, step: Option<NewStep>) -> Result<(LogReply, u64), LinkError> {
        let identity = token();
        let from = self
            .cursor
            .as_ref()
            .map_or("end".to_owned(), |cursor| cursor.number.max(1).to_string());
        let batch = BATCH.to_string();
        let polled = self.noted.map_or(0, |noted| noted.at.0).to_string();
        let [alive, present, kept] = [ALIVE_MS, PRESENT_MS, KEPT_MS].map(str::as_bytes);
        let steps = step.map_or_else(Default::default, |step| {
            [step.before, step.after].map(|step| step.to_string())
        });
        let args: [&[u8]; 10] = [
            &identity,
            alive,
            &self.replica,
            from.as_bytes(),
            batch.as_bytes(),
            polled.as_bytes(),
            present,
            steps[0].as_bytes(),
            steps[1].as_bytes(),
            kept,
        ];
        let keys = keys(&self.link);
        self.link.script_on(&self.poll, &keys, &args).await
    }
}
