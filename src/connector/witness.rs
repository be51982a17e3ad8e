//! What happens during one find, for people who try a connector or ask why an answer is as it is.
//!
//! A session may have a [`Witness`]. It sees every call, every request that was not made because a
//! slot is empty, and the verdict of every record. It sees no header of the credential. A find
//! without a witness pays for none of this.

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;
use url::Url;

use super::judge::RecordVerdict;
use super::record::Record;
use crate::budget::CallKind;
use crate::domain::LookupError;

/// Sees what happens during one find.
pub(crate) trait Witness: Send + Sync {
    /// Whether requests are shown instead of sent. Then every list is empty.
    fn is_dry(&self) -> bool {
        false
    }

    /// Something happened. Must not block.
    fn see(&self, event: Event<'_>);
}

/// What a witness sees.
pub(crate) enum Event<'a> {
    /// A call ended, or would be made.
    Call(Box<CallSeen<'a>>),
    /// A request was not made: these slots of it are empty.
    NotAsked {
        /// Method and path, with slots as the file has them.
        request: String,
        empty: Vec<String>,
    },
    /// A record was judged.
    Judged {
        record: &'a Record,
        verdict: RecordVerdict,
    },
}

/// One call to the CRM.
pub(crate) struct CallSeen<'a> {
    pub(crate) kind: CallKind,
    pub(crate) method: &'static str,
    /// The path after the base address, without values.
    pub(crate) path: &'a str,
    /// From sending it to the end of its reply.
    pub(crate) took: Duration,
    pub(crate) url: &'a Url,
    /// The request's headers, without those of the credential.
    pub(crate) headers: HeaderMap,
    /// The names of the credential's headers.
    pub(crate) credential: Vec<&'a str>,
    pub(crate) body: &'a [u8],
    pub(crate) ending: Ending<'a>,
}

/// How a call ended.
pub(crate) enum Ending<'a> {
    /// It would be sent.
    Dry,
    /// No reply came.
    Failed(&'a LookupError),
    Reply(ReplySeen<'a>),
}

/// A reply to a call.
pub(crate) struct ReplySeen<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    /// `None` if it was not read, or is not JSON.
    pub(crate) body: Option<&'a Value>,
    /// Bytes of the body that were read, decompressed.
    pub(crate) bytes: usize,
    /// Why the reply is a failure; `None` if it is an answer.
    pub(crate) failure: Option<LookupError>,
}
