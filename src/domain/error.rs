//! Why a look-up has no answer. Waiters share the value. It never contains a number, a name, a
//! header or a CRM's text.

use std::sync::Arc;
use std::time::Duration;

/// Why a look-up has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// The CRM answered 401.
    #[error("the CRM does not accept the credential")]
    CrmUnauthenticated,
    /// The CRM answered 403, but not because of its limit.
    #[error("the CRM does not allow the user to do this")]
    CrmForbidden,
    /// The CRM refused the call because of its limit: with 429, or in its own way.
    #[error("the CRM's rate limit is reached")]
    CrmRateLimited {
        /// When the CRM asks to be called again, if it says.
        retry_after: Option<Duration>,
    },
    /// The quota has no call left before the caller's deadline; the CRM was not asked.
    #[error("the CRM's quota has no call left before the deadline")]
    BudgetExhausted {
        /// The time after which the next call is free.
        retry_after: Duration,
    },
    /// The CRM could not be reached, failed, or took too long.
    #[error("the CRM is not available: {0}")]
    CrmUnavailable(Unavailable),
    /// The CRM's reply cannot be used.
    #[error("the CRM's reply cannot be used: {0}")]
    CrmBadReply(BadReply),
    /// The caller's deadline passed. The load may continue for others and for the cache
    /// (`flight.rs`).
    #[error("the deadline passed before the CRM answered")]
    DeadlineExceeded,
    /// Only a stored answer was wanted, and there is none.
    #[error("no stored answer")]
    NotCached,
    /// The limit of running look-ups is reached. The CRM was not asked.
    #[error("too many look-ups are running")]
    Overloaded,
    /// An internal fault.
    #[error("internal error")]
    Internal,
}

/// Why a CRM was not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    /// The host refused the connection: nothing listens there.
    #[error("the connection was refused")]
    Refused,
    /// The host name does not resolve to an address, or not now.
    #[error("the host name does not resolve to an address")]
    NoAddress,
    /// The TLS handshake failed, for example because of the certificate.
    #[error("the TLS handshake failed")]
    Tls,
    /// No connection for another reason, for example because the host did not answer in time.
    #[error("no connection")]
    Connect,
    /// The user's host resolves to no address of the public internet.
    #[error("the user's host resolves to no public address")]
    NotPublic,
    /// No complete reply in time.
    #[error("timed out")]
    Timeout,
    /// The connection broke before a reply began.
    #[error("the connection broke before a reply")]
    NoReply,
    /// The connection broke before the reply was complete.
    #[error("the connection broke")]
    Broken,
    /// A status of temporary trouble: 5xx, 408, 423 or 425.
    #[error("HTTP status {code}")]
    Status {
        /// The status.
        code: u16,
        /// When the CRM asks to be called again, if it says.
        retry_after: Option<Duration>,
    },
}

/// What is wrong with a CRM's reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadReply {
    /// Not JSON.
    #[error("not JSON")]
    NotJson,
    /// JSON of another shape than in the CRM's documentation.
    #[error("unexpected JSON")]
    Shape,
    /// JSON without a list at the path where the connector expects it. The path is the connector's.
    #[error("unexpected JSON: no list at {0}")]
    NoList(Arc<str>),
    /// A full page of records, none of which has the number: the CRM did not apply the filter.
    #[error("everybody was listed: the CRM did not apply the filter")]
    Filter,
    /// More bytes than the limit.
    #[error("too large")]
    TooLarge,
    /// Nested too deeply, or too many values.
    #[error("too complex")]
    TooComplex,
    /// The body does not match its `Content-Encoding`.
    #[error("wrongly compressed")]
    Encoding,
    /// A redirect that leads to another host, or too many of them.
    #[error("a redirect that is not followed")]
    Redirect,
    /// A next page that cannot be read: its link leads to another host or is too long, or the CRM
    /// refuses it.
    #[error("a next page that cannot be read")]
    NextLink,
    /// An id that cannot be a path segment: empty, `.` or `..`.
    #[error("an id that cannot be a path segment")]
    Segment,
    /// A status that this request should not get.
    #[error("HTTP status {0}")]
    Status(u16),
}

impl LookupError {
    /// Returns whether every other number of the same user would fail in the same way now.
    #[must_use]
    pub(crate) fn is_fatal_for_batch(&self) -> bool {
        matches!(self, Self::CrmUnauthenticated | Self::CrmForbidden)
    }

    /// Returns whether the failure is independent of question and credential: the same question may
    /// be answered in a moment.
    #[must_use]
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::CrmRateLimited { .. }
                | Self::BudgetExhausted { .. }
                | Self::CrmUnavailable(_)
                | Self::Overloaded
        )
    }

    /// When to try again, if that is known.
    #[must_use]
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CrmRateLimited { retry_after }
            | Self::CrmUnavailable(Unavailable::Status { retry_after, .. }) => *retry_after,
            Self::BudgetExhausted { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// The reason in the public contract (`ErrorInfo.reason`). In lower case it is the metrics'
    /// `outcome`.
    #[must_use]
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::CrmUnauthenticated => "CRM_UNAUTHENTICATED",
            Self::CrmForbidden => "CRM_FORBIDDEN",
            Self::CrmRateLimited { .. } => "CRM_RATE_LIMITED",
            Self::BudgetExhausted { .. } => "BUDGET_EXHAUSTED",
            Self::CrmUnavailable(_) => "CRM_UNAVAILABLE",
            Self::CrmBadReply(_) => "CRM_BAD_REPLY",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotCached => "NOT_CACHED",
            Self::Overloaded => "OVERLOADED",
            Self::Internal => "INTERNAL",
        }
    }
}
