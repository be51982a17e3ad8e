//! Watches the exporter of spans.
//!
//! OpenTelemetry's thread owns the exporter and cannot be observed from here. So its end is noticed
//! when the exporter is dropped. If that happens before the stop, one line is logged and a gauge is
//! set to 0. The daemon continues: no look-up needs traces.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus_client::metrics::gauge::Gauge;

/// An exporter whose end is noticed.
#[derive(Debug)]
pub(super) struct Watched<E> {
    exporter: E,
    /// `contactd_trace_exporter_up`
    up: Gauge,
    stopped: AtomicBool,
}

impl<E> Watched<E> {
    pub(super) fn new(exporter: E, up: Gauge) -> Self {
        up.set(1);
        Self {
            exporter,
            up,
            stopped: AtomicBool::new(false),
        }
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        self.exporter.export(batch)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.stopped.store(true, Ordering::Relaxed);
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E> Drop for Watched<E> {
    fn drop(&mut self) {
        self.up.set(0);
        if !self.stopped.load(Ordering::Relaxed) {
            tracing::error!(
                panicked = thread::panicking(),
                "the thread that sends spans has ended: no more spans are sent until a restart; look-ups continue"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stopwatch;
    use crate::trace::Tracer;

    #[derive(Debug)]
    struct Broken;

    impl SpanExporter for Broken {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            panic!("a bug in the exporter");
        }
    }

    #[test]
    fn an_exporter_that_panics_is_known_to_be_gone_and_holds_up_nobody() {
        let up = Gauge::default();
        let tracer = Tracer::over(Broken, up.clone(), 1.0);
        assert_eq!(up.get(), 1);
        let span = || tracer.request("FindContact", |_| None).end();
        span();
        tracer.flush();
        let stopwatch = Stopwatch::start();
        while up.get() == 1 {
            assert!(stopwatch.elapsed() < Duration::from_secs(10), "it is known");
            thread::yield_now();
        }
        let stopwatch = Stopwatch::start();
        (0..100_000).for_each(|_| span());
        tracer.finish();
        assert!(stopwatch.elapsed() < Duration::from_secs(10));
    }
}
