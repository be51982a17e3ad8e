//! Settings: one TOML file, overridden by the environment. Every fault is reported at once.
//!
//! The modules define the settings that they need; this one reads them. [`read`] goes through the
//! sections once, which both checks them and lists the effective settings.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::connector::{CallLimits, ConnectorConfig};
use crate::domain::AgePolicy;
use crate::domain::phone::WithheldWords;
use crate::telemetry::{self, LogFormat};
use crate::tls::Tls;
use crate::{cache, redis_link, resolver, trace};

mod changes;
mod connectors;
mod environment;
mod files;
mod grpc;
mod quotas;
mod redis;
pub(crate) mod reference;
mod secret;
mod section;
mod sections;
mod shared_login;

pub(crate) use changes::Changes;
pub(crate) use environment::environment;
pub(crate) use grpc::Grpc;
pub(crate) use section::Fault;
use section::{Contents, Section, SettingsReader};
use shared_login::check_borrowers;

/// Running loads per running call: clients that leave before their answers arrive must not
/// accumulate loads without a limit.
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
    /// `cache.admitted`: how long a verified credential is trusted.
    pub(crate) admitted: Duration,
    /// Section `tracing`, if there is one.
    pub(crate) tracing: Option<trace::TraceConfig>,
    /// Section `redis`, if there is one.
    pub(crate) redis: Option<redis_link::LinkConfig>,
    /// `redis.replicas`: the least number of replicas that share the quotas.
    pub(crate) replicas: NonZeroU32,
    /// Whether the CRMs certainly had no calls before this start: only for CRMs that start with the
    /// daemon.
    pub are_crms_new: bool,
    /// `redis.encryption_key_file`: the keys that seal stored answers.
    pub(crate) redis_keys: Option<cache::KeyRing>,
    /// `lookup.timeout`, `lookup.soft_deadline`, `lookup.details_timeout`.
    pub(crate) resolver: resolver::ResolverConfig,
    /// The rest of section `lookup`.
    pub(crate) limits: CallLimits,
    /// `lookup.withheld`: an installation's own texts for "no number".
    pub(crate) withheld: WithheldWords,
    /// Sections `connectors.NAME`.
    pub connectors: Vec<ConnectorConfig>,
}

/// The operations port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ops {
    /// The address to listen on. Port 0 takes a free one.
    pub(crate) listen: SocketAddr,
}

/// Log lines. The command line and its variables take precedence.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// What is logged.
    pub(crate) level: telemetry::Level,
    /// The format of the lines.
    pub(crate) format: LogFormat,
    /// Whether each look-up is logged, without personal data.
    pub(crate) lookups: bool,
}

/// Settings that were read, with the effective value of each.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The settings of the daemon.
    pub config: Config,
    /// The same as TOML, with masked secrets.
    pub toml: String,
    /// What the TOML does not show.
    contents: Contents,
    /// What works, but may not be intended: reported at start and by `check-config`.
    pub warnings: Vec<Fault>,
}

/// Reads settings from a TOML text and from `CONTACTD__…` variables, which take precedence.
///
/// # Errors
/// Every fault, each with its path.
pub fn read(
    text: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Effective, Vec<Fault>> {
    read_beside(None, text, env)
}

/// The same in a running daemon: certificates in use may have expired.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_beside(
    in_use: Option<&Tls>,
    text: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Effective, Vec<Fault>> {
    let env: Vec<_> = env.into_iter().collect();
    let names = env.iter().map(|(name, _)| name.clone());
    let strays: Vec<String> = names.filter(|name| environment::is_stray(name)).collect();
    let mut reader = SettingsReader::new(text, env)?;
    for name in strays {
        reader.warn(&name, environment::STRAY);
    }
    let config = config(&mut reader, in_use);
    let (toml, contents, warnings) = reader.finish()?;
    Ok(Effective {
        config,
        toml,
        contents,
        warnings,
    })
}

/// Reads every section. What is faulty has its default.
fn config(reader: &mut SettingsReader, in_use: Option<&Tls>) -> Config {
    let grpc = reader.section("grpc", |section| grpc::grpc(section, in_use));
    let ops = reader.section("ops", sections::ops);
    check_ports(reader, &grpc, ops);
    let log = reader.section("log", sections::log);
    let (memory, ages, admitted) = reader.section("cache", sections::caches);
    let redis = reader.optional_section("redis", redis::redis);
    let redis = redis.unwrap_or_default();
    let tracing = reader.optional_section("tracing", sections::tracing);
    let most = (LOADS_PER_CALL * grpc.max_in_flight, grpc.max_prefetch_jobs);
    let (mut resolver, limits, withheld) =
        reader.section("lookup", |section| sections::lookup(section, most));
    let connectors = connectors(reader, &grpc);
    resolver.is_one_connector = connectors.len() == 1;
    Config {
        grpc,
        ops,
        log,
        memory,
        ages,
        admitted,
        tracing: tracing.flatten(),
        redis: redis.link,
        redis_keys: redis.keys,
        replicas: redis.replicas,
        resolver,
        limits,
        withheld,
        connectors,
        are_crms_new: false,
    }
}

/// The connectors. There must be at least one. Each platform in a client's list must be among them.
fn connectors(reader: &mut SettingsReader, grpc: &Grpc) -> Vec<ConnectorConfig> {
    let connectors = reader.sections("connectors", connectors::connector);
    for (n, client) in grpc.clients.iter().enumerate() {
        let unknown = |name: &&String| !connectors.iter().any(|(connector, _)| connector == *name);
        if let Some(name) = client.platforms.iter().flatten().find(unknown) {
            let path = format!("grpc.tokens[{n}].platforms");
            reader.fault(&path, format!("{name:?} is not a configured connector"));
        }
    }
    for (name, _) in connectors.iter().filter(|(name, _)| !is_platform(name)) {
        reader.fault(
            &format!("connectors.{name:?}"),
            "a connector's name must have 1 to 64 letters (a to z), digits, `_`, `-` and `.`, because clients send it \
             as user.platform",
        );
    }
    check_borrowers(reader, grpc, &connectors);
    if connectors.is_empty() && reader.is_sound("connectors") {
        reader.fault(
            "connectors",
            "at least one connector is needed, for example [connectors.pipedrive]",
        );
    }
    let read = connectors.into_iter();
    read.filter_map(|(_, connector)| connector).collect()
}

/// Returns whether a connector may have this name: every header, metric and log line can hold it.
fn is_platform(name: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=64).contains(&name.len()) && name.chars().all(is_of_name)
}

/// Two servers cannot use one port. Port 0 is a free one for each.
fn check_ports(reader: &mut SettingsReader, grpc: &Grpc, ops: Ops) {
    let (one, other) = (grpc.listen, ops.listen);
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let overlap = a == b || a.is_unspecified() || b.is_unspecified();
    let sound = reader.is_sound("grpc.listen") && reader.is_sound("ops.listen");
    if sound && overlap && one.port() == other.port() && one.port() != 0 {
        let port = other.port();
        let fault = format!("has the same port as grpc.listen, {port}; each needs its own");
        reader.fault("ops.listen", fault);
    }
}

fn longer_than_zero(section: &mut Section<'_>, key: &str, duration: Duration) {
    if duration.is_zero() {
        section.fault(key, "must be longer than zero");
    }
}

#[cfg(test)]
mod tests;
