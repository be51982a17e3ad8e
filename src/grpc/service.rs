//! The service: each method passes its message to [`ContactApi`] and encodes the result.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::admit::JobPlaces;
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

    fn span(&self, method: &'static str, metadata: &MetadataMap) -> Span {
        self.api
            .span(method, |name| metadata.get(name)?.to_str().ok())
    }
}

#[tonic::async_trait]
impl ContactService for ContactRpc {
    type PrefetchContactsStream = BoxStream<'static, Result<pb::PrefetchContactsResponse, Status>>;

    async fn find_contact(
        &self,
        request: Request<pb::FindContactRequest>,
    ) -> Result<Response<FindReply>, Status> {
        let context = context(&request, self.span("FindContact", request.metadata()));
        let reply = self.api.find(context, request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn prefetch_contacts(
        &self,
        request: Request<pb::PrefetchContactsRequest>,
    ) -> Result<Response<Self::PrefetchContactsStream>, Status> {
        let context = context(&request, self.span("PrefetchContacts", request.metadata()));
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
        let context = context(&request, Span::default());
        let done = self.api.invalidate(context, request.into_inner()).await?;
        Ok(Response::new(done))
    }

    async fn explain_contact(
        &self,
        request: Request<pb::ExplainContactRequest>,
    ) -> Result<Response<pb::ExplainContactResponse>, Status> {
        let context = context(&request, self.span("ExplainContact", request.metadata()));
        let explained = self.api.explain(context, request.into_inner()).await?;
        Ok(Response::new(explained))
    }
}

fn context<T>(request: &Request<T>, span: Span) -> RequestContext {
    let client = request.extensions().get::<Arc<Client>>().cloned();
    RequestContext::new(client, timeout(request.metadata()), span)
}

/// How long the client waits (`grpc-timeout`). tonic would then end the call as CANCELLED.
/// [`RequestContext`] answers just before, so that the client gets the contract's
/// DEADLINE_EXCEEDED.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
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
            let mut metadata = MetadataMap::new();
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
        assert_eq!(timeout(&MetadataMap::new()), None);
    }
}
