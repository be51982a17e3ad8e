//! Every metric family, declared once. Labels come only from the configuration and closed enums:
//! never a user, an account, a number, or a request's host name.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

mod labels;
mod plain;
mod reading;
mod spread;

use labels::BuildLabels;
pub(crate) use labels::{
    CacheLabels, CrmLabels, LookupLabels, MethodLabels, PlatformLabels, PrefetchLabels,
    QualityLabels, QuotaLabels, RedisRefusalLabels, RefusalLabels, SearchLabels, SourceLabels,
};
use reading::BUCKETS;
pub(crate) use reading::{HistogramBuckets, MetricsReading};
pub(crate) use spread::{Count, Durations};

/// Upper bounds in seconds. A memory hit takes microseconds, a CRM call that nearly times out takes
/// seconds.
const SECONDS: [f64; BUCKETS - 1] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// A gauge that not every daemon has: it has no series until it is used.
#[derive(Debug, Clone)]
pub(crate) struct Optional {
    name: &'static str,
    help: &'static str,
    gauge: Arc<OnceLock<Gauge>>,
}

impl Optional {
    fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            gauge: Arc::default(),
        }
    }

    /// The gauge, which is exported from now on.
    #[must_use]
    pub(crate) fn gauge(&self) -> Gauge {
        self.gauge.get_or_init(Gauge::default).clone()
    }
}

impl Collector for Optional {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(gauge) = self.gauge.get() else {
            return Ok(());
        };
        gauge.encode(encoder.encode_descriptor(self.name, self.help, None, gauge.metric_type())?)
    }
}

/// All metric families of one daemon, with the registry that prints them.
pub struct Metrics {
    registry: Registry,
    /// Calls by method, counted once the request is complete.
    pub(crate) calls: Family<MethodLabels, Count>,
    /// Look-ups that ended, and how.
    pub(crate) lookups: Family<LookupLabels, Count>,
    /// From the request's arrival to its answer.
    pub(crate) lookup_duration: Family<SourceLabels, Durations>,
    /// Look-ups that joined a running CRM look-up.
    pub(crate) lookups_shared: Family<PlatformLabels, Counter>,
    /// Answers with contacts, by the best match among them.
    pub(crate) answers_by_quality: Family<QualityLabels, Count>,
    /// `contactd_found_by_search_total`
    pub(crate) found_by_search: Family<SearchLabels, Counter>,
    /// Calls that were refused.
    pub(crate) calls_refused: Family<RefusalLabels, Counter>,
    /// HTTP calls to CRMs.
    pub(crate) crm_requests: Family<CrmLabels, Counter>,
    /// From sending a call to reading its reply.
    pub(crate) crm_request_duration: Family<PlatformLabels, Durations>,
    /// Look-ups in each cache tier.
    pub(crate) cache_requests: Family<CacheLabels, Count>,
    /// From requesting a CRM call to its permit.
    pub(crate) quota_wait: Family<QuotaLabels, Durations>,
    /// Running batches.
    pub(crate) prefetch_jobs: Family<PlatformLabels, Gauge>,
    /// Finished numbers of batches.
    pub(crate) prefetch_numbers: Family<PrefetchLabels, Counter>,
    /// 1 while Redis can be used for everything that needs it.
    pub redis_up: Gauge,
    /// Commands that Redis refused.
    pub(crate) redis_refused: Family<RedisRefusalLabels, Counter>,
    /// Seconds until the first certificate of the gRPC port expires; no series without TLS.
    pub(crate) tls_certificate_expires: Optional,
    /// 1 while spans can be sent; no series without traces.
    pub(crate) trace_exporter_up: Optional,
    /// Entries in the memory tier.
    pub(crate) cache_entries: Gauge,
    /// Bytes that the memory tier counts for its entries, including its own overhead.
    pub(crate) cache_bytes: Gauge,
    /// Log lines of this process that were dropped.
    log_lines_dropped: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Counter::default())
    }
}

impl Metrics {
    /// All families at zero, except dropped log lines, which are counted elsewhere.
    #[must_use]
    pub(crate) fn new(log_lines_dropped: Counter) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("contactd"),
            calls: Family::default(),
            lookups: Family::default(),
            lookup_duration: Family::default(),
            lookups_shared: Family::default(),
            answers_by_quality: Family::default(),
            found_by_search: Family::default(),
            calls_refused: Family::default(),
            crm_requests: Family::default(),
            crm_request_duration: Family::default(),
            cache_requests: Family::default(),
            quota_wait: Family::default(),
            prefetch_jobs: Family::default(),
            prefetch_numbers: Family::default(),
            redis_up: Gauge::default(),
            redis_refused: Family::default(),
            tls_certificate_expires: Optional::new(
                "tls_certificate_expires_seconds",
                "Seconds until the first certificate of the gRPC port expires",
            ),
            trace_exporter_up: Optional::new(
                "trace_exporter_up",
                "1 while the thread that sends spans runs",
            ),
            cache_entries: Gauge::default(),
            cache_bytes: Gauge::default(),
            log_lines_dropped,
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        self.register_lookups();
        self.register_crm_calls();
        self.register_redis();
        self.register_process();
    }

    fn register_lookups(&mut self) {
        let r = &mut self.registry;
        r.register(
            "calls",
            "Calls whose request was received completely, by method",
            self.calls.clone(),
        );
        r.register("lookups", "Look-ups that ended", self.lookups.clone());
        r.register(
            "lookup_duration_seconds",
            "Time to answer a look-up",
            self.lookup_duration.clone(),
        );
        r.register(
            "lookups_shared",
            "Look-ups that joined a running CRM look-up",
            self.lookups_shared.clone(),
        );
        r.register(
            "answers_by_quality",
            "Answers with contacts by their best match",
            self.answers_by_quality.clone(),
        );
        r.register(
            "found_by_search",
            "Look-ups that found contacts, by which search found them",
            self.found_by_search.clone(),
        );
        r.register(
            "calls_refused",
            "Calls that were refused",
            self.calls_refused.clone(),
        );
    }

    fn register_crm_calls(&mut self) {
        let r = &mut self.registry;
        r.register(
            "crm_requests",
            "HTTP calls to CRMs",
            self.crm_requests.clone(),
        );
        r.register(
            "crm_request_duration_seconds",
            "Time of an HTTP call to a CRM",
            self.crm_request_duration.clone(),
        );
        r.register(
            "cache_requests",
            "Look-ups in a cache tier",
            self.cache_requests.clone(),
        );
        r.register(
            "quota_wait_seconds",
            "Time a CRM call waits for its quota",
            self.quota_wait.clone(),
        );
        r.register(
            "prefetch_jobs",
            "Running batches",
            self.prefetch_jobs.clone(),
        );
        r.register(
            "prefetch_numbers",
            "Numbers done in batches",
            self.prefetch_numbers.clone(),
        );
    }

    fn register_redis(&mut self) {
        let r = &mut self.registry;
        r.register(
            "redis_up",
            "1 while Redis answers and refuses nothing that is needed",
            self.redis_up.clone(),
        );
        r.register(
            "redis_refused",
            "Commands that Redis refused",
            self.redis_refused.clone(),
        );
    }

    fn register_process(&mut self) {
        let r = &mut self.registry;
        r.register_collector(Box::new(self.tls_certificate_expires.clone()));
        r.register_collector(Box::new(self.trace_exporter_up.clone()));
        r.register(
            "cache_entries",
            "Entries in the memory tier",
            self.cache_entries.clone(),
        );
        r.register(
            "cache_bytes",
            "Bytes counted for the memory tier",
            self.cache_bytes.clone(),
        );
        r.register(
            "log_lines_dropped",
            "Log lines that were dropped",
            self.log_lines_dropped.clone(),
        );
        r.register("build_info", "Which build this is", build_info());
    }

    /// All families in the text format 0.0.4 of Prometheus.
    #[must_use]
    pub(crate) fn render_plain(&self) -> String {
        plain::from_open_metrics(&self.render())
    }

    /// All families in the `OpenMetrics` text format.
    #[must_use]
    pub(crate) fn render(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail. A truncated page would be rejected by the scraper.
        let _ = text::encode(&mut page, &self.registry);
        page
    }

    /// All current figures. As slow as exporting them, so for pages and not for look-ups.
    #[must_use]
    pub(crate) fn read(&self) -> MetricsReading {
        MetricsReading::parse(&self.render())
    }
}

/// The source revision, which `build.rs` finds out, or "unknown".
#[must_use]
pub(crate) fn revision() -> &'static str {
    env!("CONTACTD_REVISION")
}

fn build_info() -> Family<BuildLabels, Gauge> {
    let build = Family::<BuildLabels, Gauge>::default();
    let labels = BuildLabels {
        version: env!("CARGO_PKG_VERSION"),
        revision: revision(),
    };
    build.get_or_create(&labels).set(1);
    build
}
