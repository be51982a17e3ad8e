//! A plan for scripts.

use serde_json::{Value, json};

use super::report::Report;
use crate::plan::{Bucket, ConnectorFigures, Figures, QuotaUse, TierPeak, Variant, Waits};

pub(super) fn report(report: &Report<'_>) -> Value {
    let (log, terms) = (&report.read.log, report.terms);
    let (users, accounts) = log.people();
    let variants = report.variants.iter().zip(report.figures);
    json!({
        "log": {
            "calls": log.len() as u64 + log.without_number(),
            "without_number": log.without_number(),
            "rows_left_out": report.read.left_out,
            "users": users,
            "accounts": accounts,
            "questions": log.questions(),
            "first_ms": log.span().map(|(first, _)| first),
            "last_ms": log.span().map(|(_, last)| last),
        },
        "assumed": {
            "known": (!report.read.says_known).then_some(report.known),
            "crm_latency_ms": u64::try_from(terms.latency.as_millis()).unwrap_or(u64::MAX),
            "answer_bytes": terms.answer_bytes,
            "redis": terms.has_redis,
        },
        "variants": variants.map(variant).collect::<Vec<_>>(),
        "five_minutes": report.base().map(five_minutes),
    })
}

fn variant((variant, figures): (&Variant, &Figures)) -> Value {
    json!({
        "what": variant.what,
        "value": variant.value,
        "replicas": variant.terms.replicas,
        "hit_rate": figures.hit_rate(),
        "hit_rate_after_the_first_day": figures.later_hit_rate(),
        "crm_calls_in_the_peak_hour": figures.peak_hour(),
        "memory": {
            "most": variant.terms.memory,
            "peak": peak(&figures.memory),
            "evicted_by_all_replicas": figures.evicted,
        },
        "redis": figures.redis.as_ref().map(peak),
        "connectors": figures.connectors.iter().map(connector).collect::<Vec<_>>(),
    })
}

/// The course of the first variant.
fn five_minutes(figures: &Figures) -> Value {
    let of = |what: fn(&Bucket) -> u32| figures.buckets.iter().map(what).collect::<Vec<_>>();
    json!({
        "begins_ms": figures.begins,
        "lookups": of(|bucket| bucket.lookups),
        "hits": of(|bucket| bucket.hits),
        "crm_calls": of(|bucket| bucket.crm_calls),
    })
}

fn peak(peak: &TierPeak) -> Value {
    json!({"bytes": peak.bytes, "answers": peak.answers, "evicted": peak.evicted})
}

fn connector(of: &ConnectorFigures) -> Value {
    let tier = |[fresh, stale]: [u64; 2]| json!({"fresh": fresh, "stale": stale});
    json!({
        "name": of.name,
        "lookups": of.lookups,
        "from_memory": tier(of.memory),
        "from_redis": tier(of.redis),
        "from_the_crm": of.crm,
        "shared_with_another": of.shared,
        "refused": of.refused,
        "crm_calls": of.crm_calls,
        "waits": { "call_pop": waits(&of.waits[0]), "background": waits(&of.waits[1]) },
        "quotas": of.quotas.iter().map(quota).collect::<Vec<_>>(),
    })
}

fn waits(waits: &Waits) -> Value {
    let longest = u64::try_from(waits.longest.as_millis()).unwrap_or(u64::MAX);
    json!({"calls": waits.calls, "waited": waits.waited, "longest_ms": longest})
}

fn quota(quota: &QuotaUse) -> Value {
    json!({
        "of": quota.what,
        "limit": quota.limit,
        "per_seconds": quota.per.as_secs_f64(),
        "scope": quota.scope,
        "peak": quota.peak,
        "headroom": quota.headroom(),
    })
}
