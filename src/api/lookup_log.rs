//! The opt-in log of look-ups (`log.lookups`): one line for each, without personal data.
//!
//! A number appears as a keyed hash. Equal numbers have equal hashes, and nobody without the key
//! can find a number by hashing all numbers. The line names no user, account or host.

use std::fmt;
use std::time::Duration;

use crate::clients::Client;
use crate::clock::Stopwatch;
use crate::domain::Party;

/// The target of the lines. The settings switch it on and off, whatever `log.level` says.
const TARGET: &str = "contactd::lookups";

/// Hashes the numbers of the lines.
#[derive(Clone)]
pub(crate) struct NumberHasher([u8; 32]);

/// A number as the log shows it: enough bits that two numbers hardly ever share a hash.
pub(super) struct NumberHash([u8; 8]);

/// What a line says of a look-up that has ended.
pub(super) struct EndedLookup<'a> {
    pub(super) number: Option<&'a NumberHash>,
    pub(super) client: Option<&'a Client>,
    pub(super) platform: &'a str,
    pub(super) trigger: &'static str,
    pub(super) source: &'static str,
    pub(super) outcome: &'a str,
    pub(super) stopwatch: Stopwatch,
}

/// The hash of a party's number. `None` if look-ups are not logged.
pub(super) fn hash(numbers: &NumberHasher, party: Party) -> Option<NumberHash> {
    is_on().then(|| numbers.hash(party))
}

/// Writes the line, if look-ups are logged.
pub(super) fn write(ended: &EndedLookup<'_>) {
    if !is_on() {
        return;
    }
    tracing::info!(
        target: TARGET,
        number = ended.number.map(tracing::field::display),
        client = ended.client.map(Client::name),
        platform = ended.platform,
        trigger = ended.trigger,
        source = ended.source,
        outcome = ended.outcome,
        duration_ms = millis(ended.stopwatch.elapsed()),
        "look-up"
    );
}

fn is_on() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::INFO)
}

/// Milliseconds with three decimals.
#[expect(clippy::cast_precision_loss, reason = "no look-up takes 2^52 µs")]
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

impl fmt::Debug for NumberHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NumberHasher([REDACTED])")
    }
}

impl fmt::Display for NumberHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl NumberHasher {
    /// Hashes under `key`, which should be random and secret.
    #[must_use]
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    fn hash(&self, party: Party) -> NumberHash {
        let hash = blake3::keyed_hash(&self.0, &party.to_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        NumberHash(first)
    }
}
