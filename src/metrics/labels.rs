//! The labels of metric families. Their values come from the configuration and from closed enums.

use prometheus_client::encoding::EncodeLabelSet;

/// Labels of `contactd_lookups_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LookupLabels {
    /// The connector's name.
    pub(crate) platform: String,
    /// incoming_call, manual_refresh, initial_match
    pub(crate) trigger: &'static str,
    /// memory, redis, crm, none
    pub(crate) source: &'static str,
    /// found, not_found, cancelled, or the error's reason in lower case
    pub(crate) outcome: String,
}

/// Labels of `contactd_calls_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct MethodLabels {
    /// A method of `contactd.v1.ContactService`
    pub(crate) method: &'static str,
}

/// Labels of the families that are split by answer source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SourceLabels {
    /// The connector's name.
    pub(crate) platform: String,
    /// memory, redis, crm, none
    pub(crate) source: &'static str,
}

/// Labels of the families that are split by connector only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PlatformLabels {
    /// The connector's name.
    pub(crate) platform: String,
}

/// Labels of `contactd_answers_by_quality_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct QualityLabels {
    /// The connector's name.
    pub(crate) platform: String,
    /// exact, likely, unverified
    pub(crate) quality: &'static str,
}

/// Labels of `contactd_found_by_search_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SearchLabels {
    /// The connector's name.
    pub(crate) platform: String,
    /// 1, 2, 3, 4+: which search of a look-up found contacts
    pub(crate) search: &'static str,
}

/// Labels of `contactd_crm_requests_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CrmLabels {
    /// The connector's name.
    pub(crate) platform: String,
    /// 2xx, 3xx, 4xx, 5xx, or error if there was no reply
    pub(crate) status: &'static str,
}

/// Labels of `contactd_cache_requests_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CacheLabels {
    /// memory, redis
    pub(crate) tier: &'static str,
    /// hit, stale, miss, error
    pub(crate) result: &'static str,
}

/// Labels of `contactd_quota_wait_seconds`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct QuotaLabels {
    /// The connector's name.
    pub(crate) platform: String,
    /// call_pop, revalidate, prefetch
    pub(crate) lane: &'static str,
}

/// Labels of `contactd_prefetch_numbers_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PrefetchLabels {
    /// The connector's name.
    pub(crate) platform: String,
    /// found, not_found, already_cached, invalid_number, failed
    pub(crate) outcome: &'static str,
}

/// Labels of `contactd_calls_refused_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusalLabels {
    /// caller_unauthenticated, caller_forbidden, overloaded
    pub(crate) reason: &'static str,
}

/// Labels of `contactd_redis_refused_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RedisRefusalLabels {
    /// `OOM`, `READONLY`, `MISCONF`, `NOREPLICAS`, `NOPERM`, `unknown command`, `WRONGTYPE`, and a
    /// few others
    pub(crate) code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabels {
    pub(super) version: &'static str,
    pub(super) revision: &'static str,
}
