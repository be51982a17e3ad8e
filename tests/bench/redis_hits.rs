//! Redis hits beside plain GETs of values of the same length, each over one multiplexed connection
//! of the same crate.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use contactd::cache::codec::EntryCodec;
use contactd::cache::{
    InvalidationLog, MemoryCache, MemoryConfig, RedisTier, SealContext, SharedTier, StoreOutcome,
    TieredCache,
};
use contactd::clock::{Clock, Stopwatch, SystemClock};
use contactd::domain::user::{AdditionalInfo, Settings};
use contactd::domain::{
    AgePolicy, Ages, ContactKey, Crm, Entry, Extension, Identity, KeyMaker, Party, QuestionKey,
    SharedTime, Source, User,
};
use contactd::metrics::Metrics;
use contactd::redis_link::{self, DataToken, KeyPrefix, Link, Reads, RedisTime, SharedSecret};
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::sample::contact;

const IN_FLIGHT: u32 = 64;
/// Asked for once in each round, because a hit stays in memory.
const KEYS: u32 = 64_000;
const USERS: u32 = 500;
/// Asked for in each round, one after the other.
const ALONE: u32 = 5_000;
const ROUNDS: usize = 7;
const GOAL: f64 = 0.6;

/// A question and where its answer is.
type Key = (QuestionKey, ContactKey);

/// Measures both by turns.
pub(super) async fn run(url: &str) -> anyhow::Result<()> {
    let stored = Stored::fill(url).await?;
    let connection = redis::Client::open(url)?
        .get_multiplexed_async_connection()
        .await?;
    let (_, key) = &stored.keys[0];
    let place = SealContext::new(
        stored.link.names().party(key.user(), key.party()),
        key.slot(),
    );
    let value = EntryCodec::default()
        .encode(&place, &entry(0, stored.now)?)
        .context("no bytes")?;
    let (filling, bytes) = (connection.clone(), value.clone());
    rate(move |n| set(filling.clone(), n, bytes.clone())).await?;
    let (mut ratios, mut gets, mut hits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut reads, mut of_gets) = (Vec::new(), Vec::new());
    let (mut gets_alone, mut hits_alone) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (get_one, cache, keys) = (
            connection.clone(),
            Arc::new(stored.cold()),
            Arc::clone(&stored.keys),
        );
        gets_alone.push(alone(move |n| get(get_one.clone(), n)).await?);
        hits_alone.push(alone(move |n| hit(Arc::clone(&cache), Arc::clone(&keys), n)).await?);
        let (connection, cache, keys) = (
            connection.clone(),
            Arc::new(stored.cold()),
            Arc::clone(&stored.keys),
        );
        gets.push(rate(move |n| get(connection.clone(), n)).await?);
        hits.push(rate(move |n| hit(Arc::clone(&cache), Arc::clone(&keys), n)).await?);
        ratios.push(hits[hits.len() - 1] / gets[gets.len() - 1]);
        let (tier, keys) = (Arc::new(stored.tier()), Arc::clone(&stored.keys));
        reads.push(rate(move |n| read(Arc::clone(&tier), Arc::clone(&keys), n)).await?);
        of_gets.push(reads[reads.len() - 1] / gets[gets.len() - 1]);
    }
    let (read, reads) = (
        super::quantile(&mut of_gets, 50),
        super::quantile(&mut reads, 50),
    );
    let (ratio, gets, hits) = (
        super::quantile(&mut ratios, 50),
        super::quantile(&mut gets, 50),
        super::quantile(&mut hits, 50),
    );
    super::line(
        "Redis hits a second, 64 in flight; the goal is 0.6 of GETs",
        GOAL * gets,
        hits,
        ratio,
        ratio >= GOAL,
    );
    println!(
        "  without keeping them in memory, and no user token seen before: {reads:.0} a second, {read:.2} of GETs"
    );
    let (get, hit) = (
        super::quantile(&mut gets_alone, 50),
        super::quantile(&mut hits_alone, 50),
    );
    println!("  one after the other: {hit:.0} us a hit, {get:.0} us a GET");
    println!(
        "  plain GETs of {} bytes through the same crate: {gets:.0} a second",
        value.len()
    );
    Ok(())
}

async fn set(mut connection: MultiplexedConnection, n: u32, value: Vec<u8>) -> anyhow::Result<()> {
    Ok(redis::cmd("SET")
        .arg(format!("raw:{n}"))
        .arg(value)
        .exec_async(&mut connection)
        .await?)
}

async fn get(mut connection: MultiplexedConnection, n: u32) -> anyhow::Result<()> {
    let value: Option<Vec<u8>> = redis::cmd("GET")
        .arg(format!("raw:{n}"))
        .query_async(&mut connection)
        .await?;
    ensure!(value.is_some_and(|value| value.len() > 100), "no value");
    Ok(())
}

async fn read(tier: Arc<RedisTier>, keys: Arc<Vec<Key>>, n: u32) -> anyhow::Result<()> {
    let (_, key) = &keys[n as usize];
    let held = tier.get(key.user(), key.party(), None, data()?).await?;
    ensure!(
        tier.entry(&held, key)
            .is_some_and(|entry| entry.count() == 1),
        "a miss"
    );
    Ok(())
}

async fn hit(cache: Arc<TieredCache>, keys: Arc<Vec<Key>>, n: u32) -> anyhow::Result<()> {
    let (question, key) = &keys[n as usize];
    let stored = cache.lookup(question, key).await.context("a miss")?;
    ensure!(
        stored.source == Source::Redis && stored.entry.count() == 1,
        "not from Redis"
    );
    Ok(())
}

/// Calls a second with 64 in flight, one call for each key.
async fn rate<F>(call: impl Fn(u32) -> F + Clone + Send + 'static) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    Ok(f64::from(KEYS) / time(IN_FLIGHT, KEYS, call).await?)
}

/// Microseconds a call takes, one after the other.
async fn alone<F>(call: impl Fn(u32) -> F + Clone + Send + 'static) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    Ok(1e6 * time(1, ALONE, call).await? / f64::from(ALONE))
}

/// Seconds that the calls for so many keys take.
async fn time<F>(
    in_flight: u32,
    keys: u32,
    call: impl Fn(u32) -> F + Clone + Send + 'static,
) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let (stopwatch, mut callers) = (Stopwatch::start(), JoinSet::new());
    for caller in 0..in_flight {
        let call = call.clone();
        callers.spawn(async move {
            for n in (caller..keys).step_by(in_flight as usize) {
                call(n).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(stopwatch.elapsed().as_secs_f64())
}

/// Answers in Redis.
struct Stored {
    link: Link,
    /// Redis' time when they were stored.
    now: SharedTime,
    ages: AgePolicy,
    keys: Arc<Vec<Key>>,
}

impl Stored {
    async fn fill(url: &str) -> anyhow::Result<Self> {
        let config = redis_link::LinkConfig {
            url: url.parse()?,
            key_prefix: KeyPrefix::default(),
            timeout: Duration::from_secs(1),
            secret: Some(SharedSecret::new([7; 32])),
            ca: None,
        };
        let (link, keeper) = Link::new(&config, Metrics::default().redis_up)?;
        TaskTracker::new().spawn(keeper.run());
        let ages = Ages {
            fresh: Duration::from_secs(600),
            stale: Duration::from_secs(86_400),
        };
        let (tier, keys) = (tier(&link), Arc::new(keys()?));
        let (_, first) = &keys[0];
        let now = tier.begin(first.user(), first.party(), data()?).await?.now;
        let all = Arc::clone(&keys);
        rate(move |n| store(tier.clone(), Arc::clone(&all), n, (now, ages.stale))).await?;
        Ok(Self {
            link,
            now,
            ages: AgePolicy {
                found: ages,
                absent: ages,
            },
            keys,
        })
    }

    fn tier(&self) -> RedisTier {
        tier(&self.link)
    }

    /// A cache with nothing in memory.
    fn cold(&self) -> TieredCache {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let time = RedisTime::new(Arc::clone(&clock));
        time.apply(self.now);
        let memory = MemoryCache::new(
            MemoryConfig { bytes: 1 << 30 },
            self.ages,
            Arc::clone(&clock),
        );
        let log = InvalidationLog::new(self.link.clone());
        let shared = SharedTier {
            redis: self.tier(),
            log,
            time,
            tasks: TaskTracker::new(),
        };
        TieredCache::new(
            memory,
            Some(shared),
            self.link.names().clone(),
            clock,
            &Metrics::default(),
        )
    }
}

fn tier(link: &Link) -> RedisTier {
    RedisTier::new(link.clone(), Reads::new(link.clone(), TaskTracker::new()))
}

/// The data token of a Redis that has lost nothing.
fn data() -> anyhow::Result<DataToken> {
    DataToken::read(&[0; 8]).context("eight bytes")
}

async fn store(
    tier: RedisTier,
    keys: Arc<Vec<Key>>,
    n: u32,
    (now, life): (SharedTime, Duration),
) -> anyhow::Result<()> {
    let (_, key) = &keys[n as usize];
    let begun = tier.begin(key.user(), key.party(), data()?).await?;
    let outcome = tier
        .store(key, &begun.number_token, &entry(n, now)?, life, now)
        .await?;
    ensure!(outcome == StoreOutcome::Stored(None), "not stored");
    Ok(())
}

fn keys() -> anyhow::Result<Vec<Key>> {
    let maker = KeyMaker::new([7; 16]);
    let key = |n: u32| {
        let user = User {
            id: format!("user-{}", n % USERS),
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
        let question = maker.prefix(&crm, &user, &[]).question(party(n)?);
        anyhow::Ok((question, question.of(&Identity::Caller)))
    };
    (0..KEYS).map(key).collect()
}

fn party(n: u32) -> anyhow::Result<Party> {
    Ok(Party::Extension(Extension::parse(&format!("{n:012}"))?))
}

fn entry(n: u32, now: SharedTime) -> anyhow::Result<Entry> {
    let contact = contact(n, serde_json::Map::new());
    Ok(Entry::new(&party(n)?, &[contact], true, now))
}
