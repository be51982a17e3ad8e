//! Traces: one span for each request, load and CRM call, sent to an OpenTelemetry collector if
//! the settings name one.
//!
//! Exports spans by OTLP over gRPC. Reads W3C trace context from requests and adds `traceparent` to
//! calls. Without a collector a [`Span`] is an empty value. A slow or absent collector neither
//! delays nor fails a call: spans wait in a bounded queue for a thread of their own, and what does
//! not fit is dropped. If that thread ends, that is logged. Attributes are connectors' names,
//! closed enums and numbers, never a telephone number, a user, an account, a host or a text of a
//! CRM.
//!
//! Nothing here is process-wide: two daemons in one process have two tracers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    SpanContext, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanExporter};
use prometheus_client::metrics::gauge::Gauge;

mod exporter;

use exporter::Watched;

/// How long one export may take.
const EXPORT: Duration = Duration::from_secs(5);
/// How long the last export may delay the stop.
const FLUSH: Duration = Duration::from_secs(2);

/// Settings of traces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TraceConfig {
    /// The collector's address for OTLP over gRPC.
    pub(crate) otlp_endpoint: url::Url,
    /// The fraction of requests that are traced if the caller has not decided.
    pub(crate) sample: f64,
}

/// Makes spans if there is a collector.
#[derive(Clone, Default)]
pub(crate) struct Tracer(Option<(SdkTracerProvider, SdkTracer)>);

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tracer").field(&self.0.is_some()).finish()
    }
}

impl Tracer {
    /// A tracer that sends to the collector. It connects when there is something to send. `up` is 1
    /// as long as it can send. Needs a runtime.
    ///
    /// # Errors
    /// If the endpoint can never work.
    pub(crate) fn new(config: &TraceConfig, up: Gauge) -> Result<Self, ExporterBuildError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(config.otlp_endpoint.as_str())
            .with_timeout(EXPORT);
        Ok(Self::over(exporter.build()?, up, config.sample))
    }

    fn over(exporter: impl SpanExporter + 'static, up: Gauge, sample: f64) -> Self {
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            // A new one at each start, so that the machine's name is not sent.
            KeyValue::new("service.instance.id", format!("{:016x}", fastrand::u64(..))),
        ]);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Watched::new(exporter, up))
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                sample,
            ))))
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Self(Some((provider, tracer)))
    }

    #[cfg(test)]
    fn flush(&self) {
        if let Some((provider, _)) = &self.0 {
            // Fails if the exporter does.
            let _ = provider.force_flush();
        }
    }

    /// The span of a request. Its parent is the client's span if `traceparent` names one. `header`
    /// reads the metadata.
    pub(crate) fn request<'a>(
        &self,
        name: &'static str,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Span {
        let Some((_, tracer)) = &self.0 else {
            return Span::default();
        };
        let headers = Headers {
            parent: header("traceparent"),
            state: header("tracestate"),
        };
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        Span(Some(LiveSpan::start(
            tracer,
            name,
            SpanKind::Server,
            &parent,
        )))
    }

    /// Sends the remaining spans, for at most two seconds. Blocks its thread.
    pub(crate) fn finish(&self) {
        if let Some((provider, _)) = &self.0
            && provider.shutdown_with_timeout(FLUSH).is_err()
        {
            tracing::warn!("the last spans did not reach tracing.otlp_endpoint");
        }
    }
}

/// The two headers of trace context.
struct Headers<'a> {
    parent: Option<&'a str>,
    state: Option<&'a str>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.parent,
            "tracestate" => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// One step of a request, or empty without a collector. Clones are the same span.
#[derive(Clone, Default)]
pub(crate) struct Span(Option<Arc<LiveSpan>>);

struct LiveSpan {
    tracer: SdkTracer,
    context: Context,
}

impl LiveSpan {
    fn start(
        tracer: &SdkTracer,
        name: &'static str,
        kind: SpanKind,
        parent: &Context,
    ) -> Arc<Self> {
        let span = tracer
            .span_builder(name)
            .with_kind(kind)
            .start_with_context(tracer, parent);
        Arc::new(Self {
            tracer: tracer.clone(),
            context: parent.with_span(span),
        })
    }

    fn names(&self) -> SpanContext {
        self.context.span().span_context().clone()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.0.is_some()).finish()
    }
}

impl Span {
    /// A step within this one.
    #[must_use]
    pub(crate) fn step(&self, name: &'static str) -> Self {
        self.child(name, SpanKind::Internal)
    }

    /// A call to another program within this step.
    #[must_use]
    pub(crate) fn call(&self, name: &'static str) -> Self {
        self.child(name, SpanKind::Client)
    }

    /// Returns whether it is recorded. If not, its attributes need not be computed.
    #[must_use]
    pub(crate) fn is_traced(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|live| live.context.span().is_recording())
    }

    /// Adds an attribute. It must not contain anything of a user; see the module's header.
    pub(crate) fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(live) = &self.0 {
            live.context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// Links another step that this one waits for, in this trace or another.
    pub(crate) fn link(&self, other: &Self) {
        if let (Some(live), Some(other)) = (&self.0, &other.0) {
            live.context.span().add_link(other.names(), Vec::new());
        }
    }

    /// Ends the step. Its clones have no effect after that.
    pub(crate) fn end(&self) {
        if let Some(live) = &self.0 {
            live.context.span().end();
        }
    }

    /// The header `traceparent` for a call within this step.
    #[must_use]
    pub(crate) fn traceparent(&self) -> Option<String> {
        let names = self.0.as_ref()?.names();
        Some(format!(
            "00-{}-{}-{:02x}",
            names.trace_id(),
            names.span_id(),
            names.trace_flags().to_u8()
        ))
    }

    /// The trace's id, for log lines.
    #[must_use]
    pub(crate) fn trace_id(&self) -> Option<String> {
        self.0
            .as_ref()
            .map(|live| live.names().trace_id().to_string())
    }

    fn child(&self, name: &'static str, kind: SpanKind) -> Self {
        Self(
            self.0
                .as_ref()
                .map(|live| LiveSpan::start(&live.tracer, name, kind, &live.context)),
        )
    }
}
