//! What a stored answer costs in resident memory beside its encoded bytes.
//!
//! Run with `cargo bench --profile dist --bench memory`. For each kind of answer and several
//! numbers of entries a fresh process fills the memory tier and reads its own resident memory
//! before and after; printed is what an entry takes beyond its payload, and the constant for
//! `OVERHEAD` in `src/cache/memory.rs` that follows.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to a person")]

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use contactd::cache::{MemoryCache, MemoryConfig, TieredCache};
use contactd::clock::{Clock, SystemClock};
use contactd::domain::user::{AdditionalInfo, Settings};
use contactd::domain::{
    AgePolicy, Ages, Contact, Crm, Entry, Extension, Identity, KeyMaker, Party, User,
};
use contactd::metrics::Metrics;
use contactd::redis_link::{KeyNames, KeyPrefix, SharedSecret};
use futures_util::FutureExt as _;
use serde_json::json;

mod sample;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// moka's table doubles on its way, so what an entry takes depends on how full it is: these lie
/// between two doublings.
const COUNTS: [u32; 5] = [150_000, 200_000, 250_000, 300_000, 400_000];
const KINDS: [&str; 2] = ["found", "absent"];

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [fill, kind, count] = &args[..]
        && fill == "--fill"
    {
        return fill_and_print(kind, count.parse()?);
    }
    println!(
        "{:<8} {:>8} {:>8} {:>9} {:>9}",
        "answer", "entries", "payload", "resident", "overhead"
    );
    for kind in KINDS {
        let mut overheads = Vec::new();
        for count in COUNTS {
            let (payload, resident) = measure(kind, count)?;
            overheads.push(resident - payload - payload / 8.0);
            println!(
                "{kind:<8} {count:>8} {payload:>8.0} {resident:>9.0} {:>9.0}",
                resident - payload
            );
        }
        let mean = overheads.iter().sum::<f64>() / f64::from(u32::try_from(overheads.len())?);
        println!(
            "{kind:<8} less an eighth for the allocator: OVERHEAD = {:.0}\n",
            (mean / 10.0).ceil() * 10.0
        );
    }
    Ok(())
}

/// Bytes of payload and of resident memory per entry, measured in a process of its own.
fn measure(kind: &str, count: u32) -> anyhow::Result<(f64, f64)> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--fill", kind, &count.to_string()])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let (payload, resident) = text.trim().split_once(' ').context("two figures")?;
    let each = |bytes: &str| anyhow::Ok(bytes.parse::<f64>()? / f64::from(count));
    Ok((each(payload)?, each(resident)?))
}

fn fill_and_print(kind: &str, count: u32) -> anyhow::Result<()> {
    let ages = Ages {
        fresh: Duration::from_secs(600),
        stale: Duration::from_secs(86_400),
    };
    let ages = AgePolicy {
        found: ages,
        absent: ages,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let memory = MemoryCache::new(MemoryConfig { bytes: u64::MAX }, ages, Arc::clone(&clock));
    let names = KeyNames::new(KeyPrefix::default(), &SharedSecret::new([7; 32]));
    let cache = TieredCache::new(memory, None, names, clock, &Metrics::default());
    let keys = KeyMaker::new([7; 16]);
    // Everything that is made once.
    store(&cache, &keys, kind, count)?;
    let before = resident()?;
    let mut payload = 0;
    for n in 0..count {
        payload += store(&cache, &keys, kind, n)?;
    }
    let (entries, _) = cache.memory_size();
    ensure!(entries == u64::from(count) + 1, "{entries} entries");
    println!("{payload} {}", resident()? - before);
    Ok(())
}

/// Stores one answer and serves it once; returns the length of its payload.
fn store(cache: &TieredCache, keys: &KeyMaker, kind: &str, n: u32) -> anyhow::Result<usize> {
    // As long as a telephone number; reading those would leave the phone engine's own memory in the
    // figures.
    let party = Party::Extension(Extension::parse(&format!("{n:012}"))?);
    let user = User {
        id: format!("user-{}", n % 500),
        account: String::new(),
        host: None,
        region: None,
        settings: Settings::default(),
        info: AdditionalInfo::default(),
    };
    let crm = Crm {
        connector: "example",
        base_url: "",
        regions: &[],
        settings: &[],
        info: &[],
    };
    let question = keys.prefix(&crm, &user, &[]).question(party);
    let key = question.of(&Identity::Caller);
    let contacts = if kind == "found" {
        vec![contact(n)]
    } else {
        Vec::new()
    };
    let ticket = cache
        .begin(&question)
        .now_or_never()
        .context("a load waits for nothing without Redis")?;
    let entry = Arc::new(Entry::new(&party, &contacts, true, ticket.asked_at()));
    cache
        .store(&key, &ticket, &entry, false)
        .now_or_never()
        .context("nor does its end")?;
    // The first reply makes the payload shareable, which takes an allocation that stays.
    let served = cache
        .in_memory(&key)
        .context("the entry is gone")?
        .entry
        .encoded()
        .clone();
    Ok(served.len())
}

/// One contact with two deals.
fn contact(n: u32) -> Contact {
    let deals = json!([{"const": n, "title": "Office chairs, second floor"}, {"const": n + 1, "title": "Renewal"}]);
    sample::contact(n, serde_json::Map::from_iter([("deals".to_owned(), deals)]))
}

/// Resident memory of this process in bytes.
fn resident() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
