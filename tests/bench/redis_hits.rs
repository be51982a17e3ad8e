//! Redis hits beside plain GETs of values of the same length, both over one multiplexed connection of the same crate.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use contactd::cache::{Config, MemoryCache, RedisTier, Tier, TieredCache, codec};
use contactd::clock::{Clock as _, Stopwatch, SystemClock};
use contactd::domain::caller::Settings;
use contactd::domain::{AgePolicy, Ages, Contact, ContactKey, Entry, Extension, KeyMaker, MatchQuality, Party, User};
use contactd::link::{self, KeyPrefix, Link, SharedSecret};
use contactd::metrics::Metrics;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

const IN_FLIGHT: usize = 64;
const KEYS: u32 = 2_000;
const ROUNDS: usize = 7;
const SLICE: Duration = Duration::from_millis(700);
const GOAL: f64 = 0.6;

/// Measures both by turns.
pub(super) async fn run(url: &str) -> anyhow::Result<()> {
    let (cache, keys) = filled(url).await?;
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let value = codec::encode(&entry(0)?);
    for n in 0..KEYS {
        redis::cmd("SET").arg(format!("raw:{n}")).arg(&value).exec_async(&mut connection).await?;
    }
    let (mut ratios, mut gets, mut hits) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (connection, cache, keys) = (connection.clone(), cache.clone(), Arc::clone(&keys));
        gets.push(rate(move |n| get(connection.clone(), n)).await?);
        hits.push(rate(move |n| hit(cache.clone(), Arc::clone(&keys), n)).await?);
        ratios.push(hits[hits.len() - 1] / gets[gets.len() - 1]);
    }
    let (ratio, gets, hits) = (median(&mut ratios), median(&mut gets), median(&mut hits));
    super::line("Redis hits a second, 64 in flight; the goal is 0.6 of GETs", GOAL * gets, hits, ratio, ratio >= GOAL);
    println!("  plain GETs of {} bytes through the same crate: {gets:.0} a second", value.len());
    Ok(())
}

async fn get(mut connection: MultiplexedConnection, n: u32) -> anyhow::Result<()> {
    let value: Option<Vec<u8>> = redis::cmd("GET").arg(format!("raw:{n}")).query_async(&mut connection).await?;
    ensure!(value.is_some_and(|value| value.len() > 100), "no value");
    Ok(())
}

async fn hit(cache: TieredCache, keys: Arc<Vec<ContactKey>>, n: u32) -> anyhow::Result<()> {
    let stored = cache.lookup(&keys[n as usize]).await.context("a miss")?;
    ensure!(stored.tier == Tier::Redis && stored.entry.count() == 1, "not from Redis");
    Ok(())
}

/// Calls a second with 64 in flight.
async fn rate<F>(call: impl Fn(u32) -> F + Clone + Send + 'static) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let (stopwatch, mut callers) = (Stopwatch::start(), JoinSet::new());
    for caller in 0..IN_FLIGHT {
        let call = call.clone();
        callers.spawn(async move {
            let mut count = 0;
            let first = u32::try_from(caller)? * 31;
            while stopwatch.elapsed() < SLICE {
                call((first + count) % KEYS).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut calls = 0;
    while let Some(count) = callers.join_next().await {
        calls += count??;
    }
    Ok(f64::from(calls) / stopwatch.elapsed().as_secs_f64())
}

/// A cache whose memory keeps nothing, so that each look-up goes to Redis.
async fn filled(url: &str) -> anyhow::Result<(TieredCache, Arc<Vec<ContactKey>>)> {
    let config = link::Config {
        url: url.parse()?,
        key_prefix: KeyPrefix::default(),
        timeout: Duration::from_secs(1),
        secret: Some(SharedSecret::new([7; 32])),
        ca: None,
    };
    let metrics = Metrics::default();
    let (link, keeper) = Link::new(&config, metrics.redis_up.clone())?;
    TaskTracker::new().spawn(keeper.run());
    let ages = Ages { fresh: Duration::from_secs(600), stale: Duration::from_secs(86_400) };
    let ages = AgePolicy { found: ages, absent: ages };
    let tier = RedisTier::new(link.clone());
    let maker = KeyMaker::new([7; 16]);
    let mut keys = Vec::new();
    for n in 0..KEYS {
        let user = User {
            id: format!("user-{}", n % 100),
            account: String::new(),
            host: None,
            region: None,
            settings: Settings::default(),
        };
        let key = maker.contact("example", &user, party(n)?, &[], &[]);
        let begun = tier.begin(&key).await?;
        ensure!(tier.store(&key, &begun.epoch, &entry(n)?, ages.found.stale).await?, "not stored");
        keys.push(key);
    }
    let memory = MemoryCache::new(Config { bytes: 0 }, ages);
    let names = link.names().clone();
    let log = contactd::cache::Log::new(link);
    let cache = TieredCache::new(memory, Some((tier, log)), names, ages, Arc::new(SystemClock), &metrics);
    Ok((cache, Arc::new(keys)))
}

fn party(n: u32) -> anyhow::Result<Party> {
    Ok(Party::Extension(Extension::parse(&format!("{n:012}"))?))
}

fn entry(n: u32) -> anyhow::Result<Entry> {
    let contact = Contact {
        id: n.to_string(),
        name: format!("Katherine Johnson {n}"),
        kind: "person".to_owned(),
        title: "Head of Procurement".to_owned(),
        company: "Summit Manufacturing Inc.".to_owned(),
        email: format!("katherine.johnson.{n}@example.com"),
        created: "2024-02-29T08:15:00Z".to_owned(),
        last_activity: "2025-06-30T16:45:00Z".to_owned(),
        additional_info: serde_json::Map::new(),
        quality: MatchQuality::Exact,
    };
    Ok(Entry::new(&party(n)?, &[contact], true, SystemClock.now()))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
