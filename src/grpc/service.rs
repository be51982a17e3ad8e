//! The service: each method passes its message to [`ContactApi`] and encodes the result.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::HeaderMap;
use tonic::{Extensions, Request, Response, Status};

use super::admit::JobPlaces;
use super::find::FindFirst;
use super::gate::CallGate;
use crate::api::{ContactApi, FindReply, RequestContext};
use crate::clients::Client;
use crate::grpc::server::ContactService;
use crate::pb::v1 as pb;
use crate::trace::Span;

/// Answers `contactd.v1.ContactService`.
#[derive(Debug)]
pub(crate) struct ContactRpc {
    api: Arc<ContactApi>,
}

impl ContactRpc {
    /// The methods of `api`. [`super::CallGate`] decides who may call them and how often.
    #[must_use]
    pub(crate) fn new(api: Arc<ContactApi>) -> Self {
        Self { api }
    }

    /// `FindContact` alone, to be served before the router.
    pub(crate) fn find_first(&self, gate: &CallGate) -> FindFirst {
        FindFirst::new(gate, Arc::clone(&self.api))
    }

    fn context<T>(&self, method: &'static str, request: &Request<T>) -> RequestContext {
        let (headers, extensions) = (request.metadata().as_ref(), request.extensions());
        context(&self.api, method, headers, extensions)
    }
}

#[tonic::async_trait]
impl ContactService for ContactRpc {
    type PrefetchContactsStream = BoxStream<'static, Result<pb::PrefetchContactsResponse, Status>>;

    async fn find_contact(
        &self,
        request: Request<pb::FindContactRequest>,
    ) -> Result<Response<FindReply>, Status> {
        let context = self.context("FindContact", &request);
        let reply = self.api.find(context, request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn prefetch_contacts(
        &self,
        request: Request<pb::PrefetchContactsRequest>,
    ) -> Result<Response<Self::PrefetchContactsStream>, Status> {
        let context = self.context("PrefetchContacts", &request);
        let places = request.extensions().get::<JobPlaces>().cloned();
        let events = self
            .api
            .prefetch(context, request.into_inner(), places.map(|places| places.0))
            .await?;
        Ok(Response::new(
            events.map(|event| event.map_err(Status::from)).boxed(),
        ))
    }

    async fn invalidate_contacts(
        &self,
        request: Request<pb::InvalidateContactsRequest>,
    ) -> Result<Response<pb::InvalidateContactsResponse>, Status> {
        let context = RequestContext::new(
            request.extensions().get().cloned(),
            timeout(request.metadata().as_ref()),
            Span::default(),
        );
        let done = self.api.invalidate(context, request.into_inner()).await?;
        Ok(Response::new(done))
    }
}

/// What is known of a request besides its message.
pub(super) fn context(
    api: &ContactApi,
    method: &'static str,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> RequestContext {
    let client = extensions.get::<Arc<Client>>().cloned();
    let span = api.span(method, |name| headers.get(name)?.to_str().ok());
    RequestContext::new(client, timeout(headers), span)
}

/// How long the client waits (`grpc-timeout`). tonic would then end the call as CANCELLED.
/// [`RequestContext`] answers just before, so that the client gets the contract's
/// DEADLINE_EXCEEDED.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (amount, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u32 = amount.parse().ok()?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    Some(unit * amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_of_a_call_is_read_in_all_its_units() {
        let read = |text: &'static str| {
            let mut metadata = HeaderMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(read("50m"), Some(Duration::from_millis(50)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("1000000u"), Some(Duration::from_secs(1)));
        assert_eq!(read("30n"), Some(Duration::from_nanos(30)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for text in ["", "S", "5", "5x", "-1S", "1.5S"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
