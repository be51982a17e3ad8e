//! Why a request has no answer, in terms that every front can put on its wire.

use std::fmt;
use std::time::Duration;

use crate::clients::{Excess, Forbidden};
use crate::domain::LookupError;

/// When to try again if the CRM's limit is reached and the CRM does not say when it ends.
const AFTER_A_LIMIT: Duration = Duration::from_secs(60);

/// When to try again if the daemon is full: its queue is short.
const AFTER_OVERLOAD: Duration = Duration::from_millis(250);

/// Why a request has no answer. The `Display` text is for the client's programmers and contains no
/// value of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// A field of the request cannot be used.
    #[error(transparent)]
    InvalidRequest(#[from] Violation),
    /// The client sent no listed credential.
    #[error(
        "the client is not known: send `authorization: Bearer TOKEN` with a token of grpc.tokens, or use a certificate \
         that is listed there"
    )]
    ClientUnauthenticated,
    /// The client is known, but not allowed to do this.
    #[error(transparent)]
    ClientForbidden(#[from] Forbidden),
    /// The daemon, or the client's share of it, is full.
    #[error(transparent)]
    Overloaded(#[from] Overload),
    /// The look-up, or the batch, failed.
    #[error("{error}")]
    LookupFailed {
        error: LookupError,
        /// The CRM's name as people know it.
        platform: String,
    },
    /// The request did not arrive in time.
    #[error("the request did not arrive within 10 seconds of its headers")]
    RequestTooSlow,
    /// The client did not read the batch's progress.
    #[error("the batch was ended because its progress was not read for a minute")]
    ReadTooSlowly,
    /// A batch ends because the daemon stops.
    #[error("the daemon is stopping; run the batch again for the rest")]
    Stopping,
    /// Other replicas may still serve what this one has invalidated.
    #[error("invalidated by this replica, but Redis could not be reached; try again")]
    NotInvalidatedEverywhere,
}

/// A field of a request that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {description}")]
pub(crate) struct Violation {
    /// Its path in the request.
    pub(crate) field: String,
    /// What is wrong with it, without its value.
    pub(crate) description: String,
}

impl Violation {
    /// `description` continues a sentence that begins with `field`.
    pub(crate) fn new(field: impl Into<String>, description: impl fmt::Display) -> Self {
        Self {
            field: field.into(),
            description: description.to_string(),
        }
    }
}

/// What is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Overload {
    /// The client is at its own limits.
    #[error(transparent)]
    Client(Excess),
    /// As many calls as are allowed are in progress already.
    #[error("too many requests in flight")]
    Calls,
    /// As many batches as are allowed are running already.
    #[error("too many batches at once")]
    Jobs,
    /// Something that only one front offers is full.
    #[error("{message}")]
    Front {
        /// The error message.
        message: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
}

/// The kind of a failure, with the values of `google.rpc.Code`, which gRPC and the Connect protocol
/// share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    /// The request is wrong.
    InvalidArgument,
    /// There was no time left.
    DeadlineExceeded,
    /// Only a stored answer was wanted, and there is none.
    NotFound,
    /// The client, or the CRM's user, lacks the permission.
    PermissionDenied,
    /// A limit is reached.
    ResourceExhausted,
    /// The daemon ended it early.
    Aborted,
    /// A fault of the CRM or the daemon.
    Internal,
    /// It may succeed in a moment.
    Unavailable,
    /// The client, or the CRM's user, is not known.
    Unauthenticated,
}

impl ApiError {
    /// An internal fault before the platform is known.
    pub(crate) fn internal() -> Self {
        Self::LookupFailed {
            error: LookupError::Internal,
            platform: "unknown".to_owned(),
        }
    }

    #[must_use]
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidRequest(_) => ErrorCode::InvalidArgument,
            Self::ClientUnauthenticated => ErrorCode::Unauthenticated,
            Self::ClientForbidden(_) => ErrorCode::PermissionDenied,
            Self::Overloaded(_) => ErrorCode::ResourceExhausted,
            Self::LookupFailed { error, .. } => lookup_code(error),
            Self::RequestTooSlow => ErrorCode::DeadlineExceeded,
            Self::ReadTooSlowly => ErrorCode::Aborted,
            Self::Stopping | Self::NotInvalidatedEverywhere => ErrorCode::Unavailable,
        }
    }

    /// The reason in the public contract (`ErrorInfo.reason`). In lower case it is the metrics'
    /// `outcome`.
    #[must_use]
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "INVALID_REQUEST",
            Self::ClientUnauthenticated => "CALLER_UNAUTHENTICATED",
            Self::ClientForbidden(_) => "CALLER_FORBIDDEN",
            Self::Overloaded(_) => "OVERLOADED",
            Self::LookupFailed { error, .. } => error.reason(),
            Self::RequestTooSlow => "REQUEST_TOO_SLOW",
            Self::ReadTooSlowly => "READ_TOO_SLOWLY",
            Self::Stopping => "STOPPING",
            Self::NotInvalidatedEverywhere => "REDIS_UNAVAILABLE",
        }
    }

    /// When to try again, if that is known.
    #[must_use]
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded(
                Overload::Client(Excess::Rate { wait: after })
                | Overload::Front {
                    retry_after: after, ..
                },
            ) => Some(*after),
            Self::Overloaded(_) | Self::NotInvalidatedEverywhere => Some(AFTER_OVERLOAD),
            Self::LookupFailed { error, .. } => match error {
                LookupError::CrmRateLimited { retry_after } => {
                    Some(retry_after.unwrap_or(AFTER_A_LIMIT))
                }
                LookupError::Overloaded => Some(AFTER_OVERLOAD),
                error => error.retry_after(),
            },
            _ => None,
        }
    }

    /// The `reason` of `contactd_calls_refused_total` if the request was refused without a look-up.
    #[must_use]
    pub(super) fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::ClientUnauthenticated => Some("caller_unauthenticated"),
            Self::ClientForbidden(_) => Some("caller_forbidden"),
            Self::Overloaded(_)
            | Self::LookupFailed {
                error: LookupError::Overloaded,
                ..
            } => Some("overloaded"),
            _ => None,
        }
    }
}

fn lookup_code(error: &LookupError) -> ErrorCode {
    match error {
        LookupError::CrmUnauthenticated => ErrorCode::Unauthenticated,
        LookupError::CrmForbidden => ErrorCode::PermissionDenied,
        LookupError::CrmRateLimited { .. }
        | LookupError::BudgetExhausted { .. }
        | LookupError::Overloaded => ErrorCode::ResourceExhausted,
        LookupError::CrmUnavailable(_) => ErrorCode::Unavailable,
        LookupError::CrmBadReply(_) | LookupError::Internal => ErrorCode::Internal,
        LookupError::DeadlineExceeded => ErrorCode::DeadlineExceeded,
        LookupError::NotCached => ErrorCode::NotFound,
    }
}
