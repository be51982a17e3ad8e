//! How long this process remembers what it knows of credentials.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::{Cache, CacheBuilder};
use parking_lot::RwLock;

use super::credential::AdmissionConfig;

/// Credentials remembered in each cache of this process. A made-up credential takes about 550 bytes
/// in all caches together. The least recently used one is forgotten first.
pub(super) const MOST: u64 = 100_000;

/// A cache of what is remembered.
pub(super) type Remembered<K, V> = Cache<K, V, foldhash::fast::RandomState>;

/// How long something is remembered after it was stored or used.
pub(super) struct Retention {
    config: Arc<RwLock<AdmissionConfig>>,
    since: KeptSince,
}

/// The event from which the time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeptSince {
    Stored,
    Used,
}

impl Retention {
    pub(super) fn new(config: &Arc<RwLock<AdmissionConfig>>, since: KeptSince) -> Self {
        Self {
            config: Arc::clone(config),
            since,
        }
    }

    /// A cache with this retention. The least recently used entry is forgotten first. moka's
    /// default is to refuse new entries if the others are popular.
    pub(super) fn cache<K, V>(self) -> CacheBuilder<K, V, Cache<K, V>>
    where
        K: Eq + Hash + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        Cache::builder()
            .max_capacity(MOST)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(self)
    }
}

impl<K, V> moka::Expiry<K, V> for Retention {
    fn expire_after_create(&self, _: &K, _: &V, _: std::time::Instant) -> Option<Duration> {
        Some(self.config.read().remembered)
    }

    fn expire_after_update(
        &self,
        _: &K,
        _: &V,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.config.read().remembered)
    }

    fn expire_after_read(
        &self,
        _: &K,
        _: &V,
        _: std::time::Instant,
        left: Option<Duration>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        match self.since {
            KeptSince::Stored => left,
            KeptSince::Used => Some(self.config.read().remembered),
        }
    }
}
