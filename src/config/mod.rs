//! Settings: one TOML file, environment on top, every fault reported at once.
//!
//! The rooms own what they need; this room reads it. [`read`] walks the sections once, and that
//! walk is at the same time the check and the list of effective settings.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::budget::{CallKind, Quota, Quotas, Scope};
use crate::cache;
use crate::connector::{self, HostPattern, IdentitySource, Kind, Limits};
use crate::domain::phone::{HouseWord, HouseWords};
use crate::domain::{AgePolicy, Ages, Region};
use crate::redis_link::{self, RedisUrl};
use crate::resolver;
use crate::telemetry::{self, LogFormat};
use crate::trace;

mod changes;
mod environment;
mod files;
mod grpc;
mod section;

pub(crate) use environment::environment;
use files::{ca_file, key_file, secret_file, secrets};
pub(crate) use grpc::Grpc;
pub(crate) use section::Fault;
use section::{Reader, Section};

/// Loads under way at once for each call in hand: callers that leave before their answers are there
/// must not pile up loads without end.
const LOADS_PER_CALL: usize = 2;

/// The settings of a daemon.
#[derive(Debug, Clone)]
pub struct Config {
    /// Section `grpc`.
    pub grpc: Grpc,
    /// Section `ops`.
    pub(crate) ops: Ops,
    /// Section `log`.
    pub(crate) log: Log,
    /// `cache.memory`.
    pub(crate) memory: cache::MemoryConfig,
    /// `cache.found`, `cache.absent`.
    pub ages: AgePolicy,
    /// `cache.admitted`: how long a credential that has proved itself is believed.
    pub(crate) admitted: Duration,
    /// Section `tracing`, if there is one.
    pub(crate) tracing: Option<trace::TraceConfig>,
    /// Section `redis`, if there is one.
    pub(crate) redis: Option<redis_link::LinkConfig>,
    /// `redis.replicas`: how many replicas share the quotas at least.
    pub(crate) replicas: NonZeroU32,
    /// Whether nobody can have called the CRMs before this start: only of those that begin with the
    /// daemon.
    pub are_crms_new: bool,
    /// `redis.encryption_key_file`: what stored answers are sealed under.
    pub(crate) redis_keys: Option<cache::KeyRing>,
    /// Secrets of section `redis`, which are read at start only.
    redis_secrets: Secrets,
    /// `lookup.timeout`, `lookup.soft_deadline`, `lookup.details_timeout`.
    pub(crate) resolver: resolver::Config,
    /// The rest of section `lookup`.
    pub(crate) limits: Limits,
    /// `lookup.withheld`: a house's own texts for "no number".
    pub(crate) withheld: HouseWords,
    /// Sections `connectors.NAME`.
    pub connectors: Vec<connector::Config>,
}

/// The operations port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ops {
    /// Where to listen; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
}

/// Log lines. What the command line and its variables say wins.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// What is logged.
    pub(crate) level: telemetry::Level,
    /// How lines look.
    pub(crate) format: LogFormat,
}

/// Settings that were read, with the effective value of each.
#[derive(Debug, Clone)]
pub struct Effective {
    /// What the daemon runs on.
    pub config: Config,
    /// The same as TOML, secrets masked.
    pub toml: String,
    /// What works, but is worth a second thought: told at start and by `check-config`.
    pub warnings: Vec<Fault>,
}

/// Reads settings from a TOML text and from `CONTACTD__…` variables, which win.
///
/// # Errors
/// Every fault, each with its path.
pub fn read(
    text: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Effective, Vec<Fault>> {
    let env: Vec<_> = env.into_iter().collect();
    let strays: Vec<String> = env
        .iter()
        .filter(|(name, _)| environment::is_stray(name))
        .map(|(name, _)| name.clone())
        .collect();
    let mut reader = Reader::new(text, env)?;
    for name in strays {
        reader.warn(&name, environment::STRAY);
    }
    let grpc = reader.section("grpc", grpc::grpc);
    let ops = reader.section("ops", ops);
    check_ports(&mut reader, &grpc, ops);
    let log = reader.section("log", |log| Log {
        level: log.parsed("level", "info"),
        format: log.choice("format", &LogFormat::ALL),
    });
    let (memory, ages, admitted) = reader.section("cache", caches);
    let Redis {
        link: redis,
        keys: redis_keys,
        replicas,
        secrets: redis_secrets,
    } = reader.optional_section("redis", redis).unwrap_or_default();
    let tracing = reader.optional_section("tracing", tracing).flatten();
    let most = (LOADS_PER_CALL * grpc.max_in_flight, grpc.max_prefetch_jobs);
    let (resolver, limits, withheld) = reader.section("lookup", |section| lookup(section, most));
    let connectors = reader.sections("connectors", connector);
    for (n, caller) in grpc.callers.iter().enumerate() {
        let unknown = |name: &&String| !connectors.iter().any(|(connector, _)| connector == *name);
        if let Some(name) = caller.platforms.iter().flatten().find(unknown) {
            reader.fault(
                &format!("grpc.tokens[{n}].platforms"),
                &format!("{name:?} is not a configured connector"),
            );
        }
    }
    if connectors.is_empty() && reader.is_sound("connectors") {
        reader.fault(
            "connectors",
            "at least one connector is needed, for example [connectors.pipedrive]",
        );
    }
    let connectors = connectors
        .into_iter()
        .filter_map(|(_, connector)| connector)
        .collect();
    let (toml, warnings) = reader.finish()?;
    #[rustfmt::skip]
    let config = Config {
        grpc, ops, log, memory, ages, admitted, tracing, redis, redis_keys, redis_secrets, replicas, resolver, limits,
        withheld, connectors,
        are_crms_new: false,
    };
    Ok(Effective {
        config,
        toml,
        warnings,
    })
}

fn ops(section: &mut Section<'_>) -> Ops {
    let ops = Ops {
        listen: section.parsed("listen", "127.0.0.1:9464"),
    };
    if !ops.listen.ip().to_canonical().is_loopback() {
        let message = format!(
            "{} can be reached from other machines, and whoever reaches it may read the status page and the metrics: \
             let something in front guard this port",
            ops.listen
        );
        section.warn("listen", &message);
    }
    ops
}

/// Two servers cannot have one port. Port 0 is a free one for each.
fn check_ports(reader: &mut Reader, grpc: &Grpc, ops: Ops) {
    let (one, other) = (grpc.listen, ops.listen);
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let overlap = a == b || a.is_unspecified() || b.is_unspecified();
    let sound = reader.is_sound("grpc.listen") && reader.is_sound("ops.listen");
    if sound && overlap && one.port() == other.port() && one.port() != 0 {
        reader.fault(
            "ops.listen",
            &format!(
                "has port {} as grpc.listen has; each needs its own",
                other.port()
            ),
        );
    }
}

fn caches(section: &mut Section<'_>) -> (cache::MemoryConfig, AgePolicy, Duration) {
    let bytes = section.size("memory", "256MiB");
    let found = section.nested("found", |found| ages(found, "10m", "24h"));
    let absent = section.nested("absent", |absent| ages(absent, "1m", "10m"));
    let admitted = section.duration("admitted", "1h");
    longer_than_zero(section, "admitted", admitted);
    (
        cache::MemoryConfig { bytes },
        AgePolicy { found, absent },
        admitted,
    )
}

/// Section `redis`.
struct Redis {
    link: Option<redis_link::LinkConfig>,
    keys: Option<cache::KeyRing>,
    replicas: NonZeroU32,
    secrets: Secrets,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            link: None,
            keys: None,
            replicas: NonZeroU32::MIN,
            secrets: Vec::new(),
        }
    }
}

/// Settings of which the effective ones do not show everything, each with a hash of what was read.
type Secrets = Vec<(&'static str, blake3::Hash)>;

fn redis(section: &mut Section<'_>) -> Redis {
    let mut url_hash = None;
    let url = section.required("url", "such as \"redis://127.0.0.1:6379\"", |text| {
        url_hash = Some(blake3::hash(text.as_bytes()));
        text.parse::<RedisUrl>().map_err(|error| error.to_string())
    });
    let key_prefix = section.parsed("key_prefix", "contactd");
    let timeout = section.duration("timeout", "50ms");
    longer_than_zero(section, "timeout", timeout);
    let secret = secrets(section, "key_secret_file", secret_file);
    let keys = secrets(section, "encryption_key_file", key_file);
    let ca = section.optional("ca_file", ca_file);
    let hashes = [
        ("redis.url", url_hash),
        (
            "redis.key_secret_file",
            secret.as_ref().map(|file| file.hash),
        ),
        (
            "redis.encryption_key_file",
            keys.as_ref().map(|file| file.hash),
        ),
        ("redis.ca_file", ca.as_ref().map(|file| file.hash)),
    ];
    let secrets = hashes
        .into_iter()
        .filter_map(|(setting, hash)| Some((setting, hash?)))
        .collect();
    let (secret, ca) = (secret.map(|file| file.content), ca.map(|file| file.content));
    let link = url.map(|url| redis_link::LinkConfig {
        url,
        key_prefix,
        timeout,
        secret,
        ca,
    });
    Redis {
        link,
        keys: keys.map(|file| file.content),
        replicas: replicas(section),
        secrets,
    }
}

/// The fleet's size: what shares of a quota are reckoned by if Redis cannot say how many replicas
/// there are.
fn replicas(section: &mut Section<'_>) -> NonZeroU32 {
    if !section.is_given("replicas") {
        section.warn(
            "replicas",
            "is not set: replicas that start while Redis is away each spend the whole quota; set how many you run",
        );
    }
    let replicas = section.count("replicas", 1, 1..=1000);
    u32::try_from(replicas)
        .ok()
        .and_then(NonZeroU32::new)
        .unwrap_or(NonZeroU32::MIN)
}

fn tracing(section: &mut Section<'_>) -> Option<trace::TraceConfig> {
    let endpoint = section.required(
        "otlp_endpoint",
        "such as \"http://127.0.0.1:4317\"",
        otlp_endpoint,
    );
    let sample = section.part("sample", 0.01);
    Some(trace::TraceConfig {
        otlp_endpoint: endpoint?,
        sample,
    })
}

fn otlp_endpoint(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if url.scheme() != "http"
        || !url.has_host()
        || !plain
        || url.password().is_some()
        || url.path() != "/"
    {
        return Err(
            "must be http://host:port: the collector's OTLP over gRPC, beside the daemon and without TLS".to_owned()
        );
    }
    Ok(url)
}

fn cells(section: &mut Section<'_>, key: &str, default: NonZeroU32) -> u32 {
    u32::try_from(section.count(key, default.get() as usize, 1..=1_000_000)).unwrap_or(u32::MAX)
}

fn ages(section: &mut Section<'_>, fresh: &str, stale: &str) -> Ages {
    let ages = Ages {
        fresh: section.duration("fresh", fresh),
        stale: section.duration("stale", stale),
    };
    if ages.stale < ages.fresh && section.is_sound("fresh") && section.is_sound("stale") {
        section.fault(
            "stale",
            "must not be shorter than \"fresh\": both count from the moment the CRM was asked",
        );
    }
    ages
}

fn longer_than_zero(section: &mut Section<'_>, key: &str, duration: Duration) {
    if duration.is_zero() {
        section.fault(key, "must be longer than zero");
    }
}

fn lookup(
    section: &mut Section<'_>,
    (max_loads, max_jobs): (usize, usize),
) -> (resolver::Config, Limits, HouseWords) {
    let timeout = section.duration("timeout", "15s");
    let soft_deadline = section.duration("soft_deadline", "2s");
    let details_timeout = section.duration("details_timeout", "400ms");
    let withheld = section.list::<HouseWord>("withheld", &[]).into();
    let limits = Limits {
        call_timeout: section.duration("call_timeout", "5s"),
        reply_bytes: usize::try_from(section.size("max_reply", "4MiB")).unwrap_or(usize::MAX),
        pages: u32::try_from(section.count("max_pages", 5, 1..=1000)).unwrap_or(u32::MAX),
        contacts: section.count("max_contacts", 25, 1..=1000),
        concurrent_calls: section.count("max_concurrent_calls", 6, 1..=100),
    };
    longer_than_zero(section, "timeout", timeout);
    longer_than_zero(section, "call_timeout", limits.call_timeout);
    (
        resolver::Config {
            timeout,
            soft_deadline,
            details_timeout,
            max_loads,
            max_jobs,
        },
        limits,
        withheld,
    )
}

fn connector(name: &str, section: &mut Section<'_>) -> Option<connector::Config> {
    let kinds: Vec<&str> = Kind::ALL.iter().map(|(name, _)| *name).collect();
    let kind = section.one_of("kind", &kinds).and_then(|kind| {
        Kind::ALL
            .into_iter()
            .find_map(|(name, value)| (name == kind).then_some(value))
    });
    let base_url = section.optional("base_url", base_url);
    if base_url
        .as_ref()
        .is_some_and(|url| url.scheme() == "http" && !is_this_machine(url))
    {
        section.warn(
            "base_url",
            "is http: credentials and contacts cross the network unencrypted; https:// if it can",
        );
    }
    let default_hosts = kind.map_or(&[][..], Kind::default_hosts);
    let allowed_hosts: Vec<HostPattern> = section.list("allowed_hosts", default_hosts);
    let create_option = section.switch("create_option", true);
    let identity = section.choice("identity", &IdentitySource::ALL);
    if identity == IdentitySource::Caller {
        section.warn(
            "identity",
            "is \"caller\": whoever calls with any valid credential is believed to be the user it names",
        );
    }
    let regions = regions(section);
    let quotas = section.nested("quota", |quota| {
        quotas(kind.unwrap_or(Kind::Example), quota)
    });
    let nowhere = base_url.is_none() && allowed_hosts.is_empty();
    if kind.is_some()
        && nowhere
        && section.is_sound("base_url")
        && section.is_sound("allowed_hosts")
    {
        section.fault(
            "base_url",
            "is required where there are no allowed_hosts: nothing says where the CRM is",
        );
    }
    Some(connector::Config {
        name: name.to_owned(),
        kind: kind?,
        base_url,
        allowed_hosts,
        create_option,
        identity,
        regions,
        quotas: quotas?,
    })
}

/// Most regions of one connector: each is one more reading of every phone field.
const MAX_REGIONS: usize = 16;

fn regions(section: &mut Section<'_>) -> Vec<Region> {
    let mut regions: Vec<Region> = Vec::new();
    for region in section.list("region", &[]) {
        if !regions.contains(&region) {
            regions.push(region);
        }
    }
    if regions.len() > MAX_REGIONS {
        section.fault(
            "region",
            &format!("must have at most {MAX_REGIONS} entries"),
        );
    }
    if regions.is_empty() {
        section.warn(
            "region",
            "is not set: stored numbers without a country code are read in user.region, or, without that, never exact",
        );
    }
    regions
}

/// A CRM's quotas; what is not given is the CRM's documented limit. Whoever gives a limit means all
/// calls, unless one kind of them has its own in the settings as well. All have one scope.
fn quotas(kind: Kind, section: &mut Section<'_>) -> Option<Quotas> {
    let default = kind.default_quotas();
    let documented = !section.is_given("rate") && !section.is_given("per");
    let (is_burst_given, is_share_given) = (
        section.is_given("burst"),
        section.is_given("prefetch_share"),
    );
    let scope = section.parsed("scope", default.all.scope().name());
    let all = quota(default.all, scope, section)?;
    let mut own = |key: &str, kind: CallKind| {
        let own = default.own(kind).filter(|_| documented);
        if own.is_none() && !section.has_below(key) {
            return Some(None);
        }
        let own = own.copied().unwrap_or(all);
        let burst = if is_burst_given {
            own.burst().min(all.burst())
        } else {
            own.burst()
        };
        let share = if is_share_given {
            all.prefetch_share()
        } else {
            own.prefetch_share()
        };
        let own = Quota::new(own.rate().get(), own.per(), burst.get(), scope, share).ok()?;
        section
            .nested(key, |nested| quota(own, scope, nested))
            .map(Some)
    };
    Some(Quotas {
        all,
        search: own("search", CallKind::Search)?,
        other: own("other", CallKind::Other)?,
    })
}

fn quota(default: Quota, scope: Scope, section: &mut Section<'_>) -> Option<Quota> {
    let rate = cells(section, "rate", default.rate());
    let per = section.duration(
        "per",
        &humantime::format_duration(default.per()).to_string(),
    );
    let burst = cells(
        section,
        "burst",
        default.burst().min(NonZeroU32::new(rate)?),
    );
    let share = section.share("prefetch_share", default.prefetch_share());
    let quota = Quota::new(rate, per, burst, scope, share);
    let known = ["rate", "per", "burst", "scope", "prefetch_share"]
        .iter()
        .all(|key| section.is_sound(key));
    // Of values that stand in for faulty ones nothing is to be said.
    quota
        .map_err(|error| {
            if known {
                section.fault(error.key(), &error.to_string());
            }
        })
        .ok()
}

fn base_url(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !matches!(url.scheme(), "http" | "https")
        || !url.has_host()
        || !plain
        || url.password().is_some()
    {
        return Err(
            "must be http(s)://host[:port][/path], without user, query and fragment".to_owned(),
        );
    }
    Ok(url)
}

fn is_this_machine(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests;
