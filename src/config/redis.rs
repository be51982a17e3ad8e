//! Section `redis`.

use std::num::NonZeroU32;

use super::files::{ca_file, key_file, named_file, secret_file, secrets};
use super::longer_than_zero;
use super::section::Section;
use crate::cache;
use crate::redis_link::{self, RedisUrl};

/// The content of the section.
pub(super) struct RedisSettings {
    pub(super) link: Option<redis_link::LinkConfig>,
    pub(super) keys: Option<cache::KeyRing>,
    pub(super) replicas: NonZeroU32,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            link: None,
            keys: None,
            replicas: NonZeroU32::MIN,
        }
    }
}

pub(super) fn redis(section: &mut Section<'_>) -> RedisSettings {
    let mut url_hash = None;
    let url = section.required("url", "such as \"redis://127.0.0.1:6379\"", |text| {
        url_hash = Some(blake3::hash(text.as_bytes()));
        text.parse::<RedisUrl>().map_err(|error| error.to_string())
    });
    if let Some(hash) = url_hash {
        section.record_content("url", hash);
    }
    let key_prefix = section.parsed("key_prefix", "contactd");
    let timeout = section.duration("timeout", "50ms");
    longer_than_zero(section, "timeout", timeout);
    let secret = secrets(section, "key_secret_file", secret_file);
    let keys = secrets(section, "encryption_key_file", key_file);
    let ca = named_file(section, "ca_file", ca_file);
    let link = url.map(|url| redis_link::LinkConfig {
        url,
        key_prefix,
        timeout,
        secret: secret.map(|file| file.content),
        ca: ca.map(|file| file.content),
    });
    RedisSettings {
        link,
        keys: keys.map(|file| file.content),
        replicas: replicas(section),
    }
}

/// The least number of replicas that share a quota. It determines each replica's share while Redis
/// cannot be reached.
fn replicas(section: &mut Section<'_>) -> NonZeroU32 {
    if !section.is_given("replicas") {
        section.warn(
            "replicas",
            "is not set: replicas that start while Redis is down each spend the whole quota; set how many you run",
        );
    }
    let replicas = section.count("replicas", 1, 1..=1000);
    u32::try_from(replicas)
        .ok()
        .and_then(NonZeroU32::new)
        .unwrap_or(NonZeroU32::MIN)
}
