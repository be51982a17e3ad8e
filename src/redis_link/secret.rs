//! The secret that replicas share, and what is derived from it.
//!
//! Derives all keys of keyed hashes. Replicas with the same settings derive the same keys, so that
//! one finds what another stored. Knows nothing of what is hashed.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretBox};

use super::LinkConfig;

/// The root of all keyed hashes. Replicas with the same Redis share it.
///
/// If `redis.key_secret_file` is set, the secret is derived from the file. Somebody who does not
/// have the file cannot see which number or user a key in Redis belongs to. If it is not set, the
/// secret is derived from the Redis password and the key prefix: anyone who knows both can find
/// numbers by trying all of them. If there is no password either, the secret only hides numbers
/// from a casual look.
#[must_use]
pub(crate) fn derive_secret(config: &LinkConfig) -> SharedSecret {
    if let Some(secret) = &config.secret {
        return secret.clone();
    }
    let password = config
        .url
        .password
        .as_ref()
        .map_or("", |password| password.expose_secret());
    let mut hasher = blake3::Hasher::new_derive_key("contactd 2026 secret shared by replicas");
    hasher.update(&(password.len() as u64).to_be_bytes());
    hasher.update(password.as_bytes());
    hasher.update(config.key_prefix.as_str().as_bytes());
    SharedSecret::new(*hasher.finalize().as_bytes())
}

/// See [`derive_secret`].
#[derive(Clone)]
pub struct SharedSecret(Arc<SecretBox<[u8; 32]>>);

impl SharedSecret {
    /// Wraps 32 random bytes.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Arc::new(SecretBox::new(Box::new(secret))))
    }

    /// The secret of [`KeyMaker`](crate::domain::KeyMaker).
    #[must_use]
    pub(crate) fn for_keys(&self) -> [u8; 16] {
        let derived = blake3::derive_key("contactd 2026 key maker", self.0.expose_secret());
        let mut secret = [0; 16];
        secret.copy_from_slice(&derived[..16]);
        secret
    }

    /// The key of the hashes that replace numbers in the log.
    #[must_use]
    pub(crate) fn for_log(&self) -> [u8; 32] {
        blake3::derive_key("contactd 2026 numbers in the log", self.0.expose_secret())
    }

    /// The key of the hashes that replace numbers in names in Redis.
    pub(super) fn for_names(&self) -> [u8; 32] {
        blake3::derive_key("contactd 2026 names in redis", self.0.expose_secret())
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(url: &str, prefix: &str, secret: Option<[u8; 32]>) -> LinkConfig {
        LinkConfig {
            url: url.parse().unwrap(),
            key_prefix: prefix.parse().unwrap(),
            timeout: Duration::from_millis(50),
            secret: secret.map(SharedSecret::new),
            ca: None,
        }
    }

    #[test]
    fn replicas_agree_whatever_address_they_use_and_others_do_not() {
        let keys = |url, prefix, secret| derive_secret(&config(url, prefix, secret)).for_keys();
        let ours = keys("redis://:pw@a:1", "contactd", None);
        assert_eq!(ours, keys("redis+cluster://:pw@b:1,c:1", "contactd", None));
        assert_ne!(ours, keys("redis://:other@a:1", "contactd", None));
        assert_ne!(ours, keys("redis://:pw@a:1", "other", None));
        assert_ne!(ours, keys("redis://:pw@a:1", "contactd", Some([7; 32])));
        assert_eq!(
            keys("redis://a", "x", Some([7; 32])),
            keys("redis://:pw@b", "y", Some([7; 32]))
        );
    }

    #[test]
    fn no_secret_is_printed() {
        let config = config("redis://:pw@a:1", "contactd", Some([7; 32]));
        let printed = format!("{config:?} {:?}", derive_secret(&config));
        assert!(
            !printed.contains("pw") && !printed.contains("7, 7"),
            "{printed}"
        );
    }
}
