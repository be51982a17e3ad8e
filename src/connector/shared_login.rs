//! The shared login: one credential for a CRM that questions without their own use.
//!
//! It is sent only to hosts that the settings name. If `allowed_hosts` has a wildcard, a caller
//! could name a host that belongs to a stranger.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::domain::AuthHeader;

/// The login of one connector, which may change at run time. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct SharedLogin(Arc<RwLock<Option<Arc<AuthHeader>>>>);

impl fmt::Debug for SharedLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedLogin([REDACTED])")
    }
}

impl SharedLogin {
    pub(super) fn new(login: Option<Arc<AuthHeader>>) -> Self {
        Self(Arc::new(RwLock::new(login)))
    }

    /// Uses another login from the next question on, or none.
    pub(crate) fn set(&self, login: Option<Arc<AuthHeader>>) {
        *self.0.write() = login;
    }

    /// A copy for one question.
    pub(super) fn copied(&self) -> Option<AuthHeader> {
        self.0.read().as_deref().map(AuthHeader::copied)
    }
}
