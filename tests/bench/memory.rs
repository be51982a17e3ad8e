//! What a stored answer takes of resident memory, what moka alone takes, and how long a sweep is.
//!
//! Run with `cargo bench --profile dist --bench memory`. For each kind of answer and several
//! numbers of entries a fresh process fills the memory tier and reads its own resident memory
//! before and after. Printed is what an entry takes, what the daemon counts for it, and the lowest
//! constant for `OVERHEAD` in `src/cache/memory.rs` with which the count is never too low. At the
//! end, five times as many answers of mixed sizes are stored as a ceiling allows.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to a person")]

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use contactd::cache::{MemoryCache, MemoryConfig, TieredCache};
use contactd::clock::{Clock, Stopwatch, SystemClock};
use contactd::domain::user::{AdditionalInfo, Settings};
use contactd::domain::{
    AgePolicy, Ages, Contact, ContactKey, Crm, Entry, Extension, Identity, KeyMaker, Party,
    QuestionKey, SlotKey, User,
};
use contactd::metrics::Metrics;
use contactd::redis_link::{KeyNames, KeyPrefix, SharedSecret};
use futures_util::FutureExt as _;
use serde_json::json;

mod sample;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// moka's table doubles on its way, so what an entry takes depends on how full it is: these are
/// shortly before and shortly after two doublings.
const COUNTS: [u32; 4] = [700_000, 750_000, 1_000_000, 1_500_000];
const KINDS: [&str; 3] = ["found", "absent", "moka"];

/// The ceiling of the last part.
const CEILING: u64 = 64 << 20;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [fill, kind, count] = &args[..]
        && fill == "--fill"
    {
        return fill_and_print(kind, count.parse()?);
    }
    println!(
        "{:<8} {:>9} {:>8} {:>9} {:>8} {:>9}",
        "answer", "entries", "payload", "resident", "counted", "sweep"
    );
    let mut beyond = f64::MIN;
    for kind in KINDS {
        for count in COUNTS {
            let [payload, resident, counted, sweep] = measure(kind, count)?;
            let each = |bytes: f64| bytes / f64::from(count);
            println!(
                "{kind:<8} {count:>9} {:>8.0} {:>9.0} {:>8.0} {:>6.0} ms",
                each(payload),
                each(resident),
                each(counted),
                sweep / 1e3
            );
            if kind != "moka" {
                beyond = beyond.max(each(resident - counted));
            }
        }
        println!();
    }
    println!("the lowest OVERHEAD is the one of this build {beyond:+.0}");
    let [_, resident, counted, _] = measure("ceiling", 0)?;
    let mib = |bytes: f64| bytes / 1024.0 / 1024.0;
    println!(
        "with a ceiling of {} MiB: counted {:.1} MiB, resident {:.1} MiB",
        CEILING >> 20,
        mib(counted),
        mib(resident)
    );
    Ok(())
}

/// Bytes of payload, resident and counted, and microseconds of a sweep, in a process of its own.
fn measure(kind: &str, count: u32) -> anyhow::Result<[f64; 4]> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--fill", kind, &count.to_string()])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let figures: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
    figures?.try_into().ok().context("four figures")
}

fn fill_and_print(kind: &str, count: u32) -> anyhow::Result<()> {
    match kind {
        "moka" => fill_moka(count),
        "ceiling" => fill_to(CEILING),
        _ => fill(kind, count),
    }
}

/// The same keys with a number instead of an answer, and everything else of moka as the daemon uses
/// it.
fn fill_moka(count: u32) -> anyhow::Result<()> {
    let keys = KeyMaker::new([7; 16]);
    let cache = moka::sync::Cache::builder()
        .max_capacity(u64::MAX)
        .weigher(|_: &SlotKey, _: &u64| 1)
        .eviction_policy(moka::policy::EvictionPolicy::lru())
        .build_with_hasher(foldhash::fast::RandomState::default());
    let insert = |n| {
        cache.insert(key(&keys, n)?.1.slot(), u64::from(n));
        anyhow::Ok(())
    };
    insert(0)?;
    let before = resident()?;
    (0..count).try_for_each(insert)?;
    cache.run_pending_tasks();
    ensure!(cache.entry_count() == u64::from(count), "all are kept");
    println!("0 {} 0 0", resident()? - before);
    Ok(())
}

fn fill(kind: &str, count: u32) -> anyhow::Result<()> {
    let (cache, keys) = (cache(u64::MAX), KeyMaker::new([7; 16]));
    // Everything that is made once.
    store(&cache, &keys, kind, 0)?;
    let before = resident()?;
    let mut payload = 0;
    for n in 0..count {
        payload += store(&cache, &keys, kind, n)?;
    }
    let (entries, counted) = cache.memory_size();
    ensure!(entries == u64::from(count), "{entries} entries");
    let resident = resident()? - before;
    println!("{payload} {resident} {counted} {}", sweep(&cache)?);
    Ok(())
}

/// Microseconds of work, without the pauses.
fn sweep(cache: &TieredCache) -> anyhow::Result<u128> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let watch = Stopwatch::start();
    runtime.block_on(cache.sweep_once());
    Ok(watch.elapsed().as_micros())
}

/// Five times as many answers as there is room for, of both kinds and with names of any length.
fn fill_to(ceiling: u64) -> anyhow::Result<()> {
    let (cache, keys) = (cache(ceiling), KeyMaker::new([7; 16]));
    store(&cache, &keys, "found", 0)?;
    let before = resident()?;
    let (mut stored, mut n) = (0, 0);
    while stored < 5 * ceiling {
        let kind = if n % 3 == 0 { "absent" } else { "any length" };
        stored += 300 + store(&cache, &keys, kind, n)? as u64;
        n += 1;
    }
    let (resident, (_, counted)) = (resident()? - before, cache.memory_size());
    ensure!(counted <= ceiling, "{counted} bytes are counted");
    ensure!(resident <= ceiling, "{resident} bytes are resident");
    println!("0 {resident} {counted} 0");
    Ok(())
}

fn cache(bytes: u64) -> TieredCache {
    let ages = Ages {
        fresh: Duration::from_secs(600),
        stale: Duration::from_secs(86_400),
    };
    let ages = AgePolicy {
        found: ages,
        absent: ages,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let memory = MemoryCache::new(MemoryConfig { bytes }, ages, Arc::clone(&clock));
    let names = KeyNames::new(KeyPrefix::default(), &SharedSecret::new([7; 32]));
    TieredCache::new(memory, None, names, clock, &Metrics::default())
}

/// Stores one answer; returns the length of its payload.
fn store(cache: &TieredCache, keys: &KeyMaker, kind: &str, n: u32) -> anyhow::Result<usize> {
    let (question, key) = key(keys, n)?;
    let contacts = match kind {
        "found" => vec![contact(n)],
        "any length" => vec![Contact {
            title: "x".repeat(n as usize * 7 % 900),
            ..contact(n)
        }],
        _ => Vec::new(),
    };
    let ticket = cache
        .begin(&question)
        .now_or_never()
        .context("a load waits for nothing without Redis")?;
    let entry = Entry::new(&key.party(), &contacts, true, ticket.asked_at());
    cache
        .store(&key, &ticket, &entry, false)
        .now_or_never()
        .context("nor does its end")?;
    Ok(entry.encoded().len())
}

fn key(keys: &KeyMaker, n: u32) -> anyhow::Result<(QuestionKey, ContactKey)> {
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
    Ok((question, question.of(&Identity::Caller)))
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
