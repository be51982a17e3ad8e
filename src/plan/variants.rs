//! The terms that a plan compares, and their replays, several at once.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::figures::Figures;
use super::log::CallLog;
use super::replay::replay;
use super::terms::Terms;

/// Factors by which ages, quotas and memory are varied.
const FACTORS: [f64; 3] = [0.5, 2.0, 4.0];

/// Some terms, and what they are called.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    /// What is different: "replicas", "ages", "quotas" or "memory".
    pub(crate) what: &'static str,
    /// The number of replicas, or the factor.
    pub(crate) value: f64,
    pub(crate) terms: Terms,
}

/// The terms with each number of replicas. `is_varied`: also those with other ages, quotas and
/// memory, for the first number. A quota that the daemon would refuse is left out.
#[must_use]
pub(crate) fn variants(terms: &Terms, replicas: &[NonZeroU32], is_varied: bool) -> Vec<Variant> {
    let of_replicas = |count: &NonZeroU32| Variant {
        what: "replicas",
        value: f64::from(count.get()),
        terms: terms.with_replicas(*count),
    };
    let mut variants: Vec<Variant> = replicas.iter().map(of_replicas).collect();
    let Some(base) = variants.first().map(|first| first.terms.clone()) else {
        return variants;
    };
    let mut add = |what, value, terms| variants.push(Variant { what, value, terms });
    for factor in FACTORS.into_iter().filter(|_| is_varied) {
        add("ages", factor, base.with_ages(factor));
    }
    for factor in FACTORS.into_iter().filter(|_| is_varied) {
        if let Some(terms) = base.with_quotas(factor) {
            add("quotas", factor, terms);
        }
    }
    for factor in FACTORS.into_iter().filter(|_| is_varied) {
        add("memory", factor, base.with_memory(factor));
    }
    variants
}

/// Replays the log under each of the terms, on all processors. Returns the figures in the order of
/// the variants. `done` is called after each.
pub(crate) fn run_all(
    log: &CallLog,
    variants: &[Variant],
    done: impl Fn(&Variant) + Sync,
) -> Vec<Figures> {
    let next = AtomicUsize::new(0);
    let ended = Mutex::new(Vec::new());
    let work = || {
        while let Some((n, variant)) = {
            let n = next.fetch_add(1, Ordering::Relaxed);
            variants.get(n).map(|variant| (n, variant))
        } {
            let figures = replay(log, &variant.terms);
            ended.lock().push((n, figures));
            done(variant);
        }
    };
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut ended = ended.into_inner();
    ended.sort_by_key(|(n, _)| *n);
    ended.into_iter().map(|(_, figures)| figures).collect()
}
