//! Reads the body of a reply, up to a limit. A body that does not arrive whole is a failed look-up.

use super::http_client::{HttpResponse, TransportError};
use crate::domain::LookupError;
use crate::domain::error::{BadReply, Unavailable};

/// The most memory reserved for a reply before it arrives, whatever length it announces.
const FIRST_ROOM: usize = 64 * 1024;

/// Reads a body up to the limit. Sizes are after decompression, so that a small compressed body
/// cannot expand without a limit.
pub(super) async fn read(mut response: HttpResponse, limit: usize) -> Result<Vec<u8>, LookupError> {
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(LookupError::CrmBadReply(BadReply::TooLarge));
    }
    let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).min(FIRST_ROOM));
    while let Some(chunk) = response.chunk().await.map_err(failure_of)? {
        if body.len() + chunk.len() > limit {
            return Err(LookupError::CrmBadReply(BadReply::TooLarge));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

pub(super) fn failure_of(error: TransportError) -> LookupError {
    LookupError::CrmUnavailable(match error {
        TransportError::Encoding => return LookupError::CrmBadReply(BadReply::Encoding),
        TransportError::NotPublic => Unavailable::NotPublic,
        TransportError::Refused => Unavailable::Refused,
        TransportError::NoAddress => Unavailable::NoAddress,
        TransportError::Tls => Unavailable::Tls,
        TransportError::Connect => Unavailable::Connect,
        TransportError::Broken | TransportError::TooMuch => Unavailable::Broken,
    })
}
