//! Replicas, Redis and a CRM under steady load and faults that are planned from a seed.
//!
//! Run with `cargo bench --profile dist --bench soak -- [MINUTES] [SEED]`; see [`run`]. It takes 20
//! minutes, and two of rest. Without a seed it draws one, and prints it.

use std::time::Duration;

use anyhow::Context as _;

use run::Load;

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic,
    clippy::pedantic,
    reason = "a benchmark speaks to a person"
)]
#[path = "run.rs"]
mod run;

#[allow(
    dead_code,
    unused_imports,
    missing_docs,
    reason = "made for the tests, and not all of it is needed here"
)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::pedantic,
    reason = "made for the tests"
)]
#[path = "../../it/support/mod.rs"]
mod support;

/// What two cores carry.
const LOAD: Load = Load {
    callers: 32,
    pause_ms: if cfg!(debug_assertions) { 100 } else { 40 },
    batches: 6,
    editors: 2,
    rude: 12,
};

fn main() -> anyhow::Result<()> {
    // Cargo adds a flag of its own.
    let numbers: Result<Vec<u64>, _> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .map(|arg| arg.parse())
        .collect();
    let numbers = numbers.context("minutes and a seed are numbers")?;
    let minutes = numbers.first().copied().unwrap_or(20).max(1);
    let seed = numbers
        .get(1)
        .copied()
        .unwrap_or_else(|| fastrand::u64(..1_000_000));
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run::run(Duration::from_secs(60 * minutes), seed, LOAD))
}
