//! The peer of a connection, and what is verified about it.

use std::sync::Arc;

use super::origin::{Busy, Origin};

/// The peer of a connection, as far as the connection itself identifies it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The name in its verified certificate.
    pub(crate) certificate: Option<Arc<str>>,
    /// Whether it sent a certificate, with a name or without.
    is_verified: bool,
    origin: Arc<Origin>,
}

impl Peer {
    /// A peer without a certificate.
    #[must_use]
    pub(crate) fn new(origin: Arc<Origin>) -> Self {
        Self {
            certificate: None,
            is_verified: false,
            origin,
        }
    }

    /// The peer with or without a certificate, and the name in it.
    #[must_use]
    pub(crate) fn showing(self, is_verified: bool, name: Option<String>) -> Self {
        Self {
            certificate: name.map(Into::into),
            is_verified,
            ..self
        }
    }

    /// Returns whether it sent a certificate.
    #[must_use]
    pub(crate) fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// Counts one more running call.
    #[must_use]
    pub(crate) fn busy(&self) -> Busy {
        Busy::begin(&self.origin)
    }

    /// The connection.
    #[must_use]
    pub(crate) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }
}
