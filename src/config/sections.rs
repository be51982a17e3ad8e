//! The smaller sections: `ops`, `log`, `cache`, `lookup`, `tracing`.

use std::time::Duration;

use url::Url;

use super::connectors::{is_place, url};
use super::section::Section;
use super::{Log, Ops, longer_than_zero};
use crate::connector::CallLimits;
use crate::domain::phone::{WithheldWord, WithheldWords};
use crate::domain::{AgePolicy, Ages};
use crate::telemetry::LogFormat;
use crate::{cache, resolver, trace};

pub(super) fn ops(section: &mut Section<'_>) -> Ops {
    let ops = Ops {
        listen: section.address("listen", "127.0.0.1:9464"),
    };
    if !ops.listen.ip().to_canonical().is_loopback() {
        let message = format!(
            "{} can be reached from other machines, and everybody who reaches it may read the status page and the \
             metrics: a proxy or a firewall must protect this port",
            ops.listen
        );
        section.warn("listen", message);
    }
    ops
}

pub(super) fn log(section: &mut Section<'_>) -> Log {
    Log {
        level: section.parsed("level", "info"),
        format: section.choice("format", &LogFormat::ALL),
        lookups: section.switch("lookups", false),
    }
}

/// A size without a unit is in bytes, which nobody means.
fn warn_if_tiny(section: &mut Section<'_>, key: &str, bytes: u64, least: u64) {
    if bytes < least {
        section.warn(
            key,
            format!("is {bytes} bytes, which is hardly intended; write a unit, such as \"4MiB\""),
        );
    }
}

pub(super) fn caches(section: &mut Section<'_>) -> (cache::MemoryConfig, AgePolicy, Duration) {
    let bytes = section.size("memory", "256MiB");
    warn_if_tiny(section, "memory", bytes, 1024 * 1024);
    let found = section.nested_as("found", AGES, |found| ages(found, "10m", "24h"));
    let absent = section.nested_as("absent", AGES, |absent| ages(absent, "1m", "10m"));
    let admitted = section.duration("admitted", "1h");
    longer_than_zero(section, "admitted", admitted);
    (
        cache::MemoryConfig { bytes },
        AgePolicy { found, absent },
        admitted,
    )
}

/// How ages are written in the settings.
const AGES: &str = "{ fresh = \"10m\", stale = \"24h\" }";

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

pub(super) fn lookup(
    section: &mut Section<'_>,
    (max_loads, max_jobs): (usize, usize),
) -> (resolver::ResolverConfig, CallLimits, WithheldWords) {
    let timeout = section.duration("timeout", "15s");
    longer_than_zero(section, "timeout", timeout);
    let resolver = resolver::ResolverConfig {
        timeout,
        soft_deadline: section.duration("soft_deadline", "2s"),
        details_timeout: section.duration("details_timeout", "400ms"),
        max_loads,
        max_jobs,
        is_one_connector: false,
    };
    let withheld = section.list::<WithheldWord>("withheld", &[]).into();
    (resolver, call_limits(section), withheld)
}

fn call_limits(section: &mut Section<'_>) -> CallLimits {
    let call_timeout = section.duration("call_timeout", "5s");
    longer_than_zero(section, "call_timeout", call_timeout);
    let reply = section.size("max_reply", "4MiB");
    warn_if_tiny(section, "max_reply", reply, 1024);
    CallLimits {
        call_timeout,
        reply_bytes: usize::try_from(reply).unwrap_or(usize::MAX),
        pages: u32::try_from(section.count("max_pages", 5, 1..=1000)).unwrap_or(u32::MAX),
        contacts: section.count("max_contacts", 25, 1..=1000),
        concurrent_calls: section.count("max_concurrent_calls", 6, 1..=100),
    }
}

pub(super) fn tracing(section: &mut Section<'_>) -> Option<trace::TraceConfig> {
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

fn otlp_endpoint(text: &str) -> Result<Url, String> {
    let url = url(text)?;
    if url.scheme() == "http" && url.path() == "/" && is_place(&url) {
        return Ok(url);
    }
    Err(
        "must be http://host:port, where a collector receives OTLP over gRPC without TLS"
            .to_owned(),
    )
}
