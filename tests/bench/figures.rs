//! What is computed from a closed loop of calls, and what a right answer is.

use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use contactd::pb::v1 as pb;
use prost::Message as _;

use super::load::Measured;

/// The figures of one slice of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    /// Calls a second.
    pub(super) rate: f64,
    /// Milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Microseconds of the server process per call.
    pub(super) cpu: f64,
}

impl Slice {
    /// The figures of what was measured while the server used so much CPU.
    pub(super) fn of(measured: &mut Measured, cpu: Duration) -> Self {
        measured.latencies.sort_unstable();
        let count = measured.latencies.len();
        let quantile =
            |percent: usize| f64::from(measured.latencies[(count - 1) * percent / 100]) / 1e6;
        #[expect(clippy::cast_precision_loss, reason = "far fewer requests than 2^52")]
        let requests = count as f64;
        Self {
            rate: requests / measured.elapsed.as_secs_f64(),
            p50: quantile(50),
            p99: quantile(99),
            cpu: cpu.as_secs_f64() * 1e6 / requests,
        }
    }
}

/// Fails unless the answer is fresh, from memory, and has this many contacts.
pub(super) fn check(answer: Bytes, contacts: usize) -> anyhow::Result<()> {
    let answer = pb::FindContactResponse::decode(answer)?;
    let lookup = answer.lookup.unwrap_or_default();
    ensure!(
        lookup.source() == pb::Source::Memory && lookup.freshness() == pb::Freshness::Fresh,
        "{lookup:?}"
    );
    let real = answer
        .matched_contact_info
        .iter()
        .filter(|contact| !contact.is_new_contact && !contact.name.is_empty());
    ensure!(
        real.count() == contacts && lookup.complete,
        "not {contacts} contacts"
    );
    Ok(())
}

/// The middle one; the upper one of two.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
