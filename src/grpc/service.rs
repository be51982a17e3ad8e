//! The service: each method passes its message to [`ContactApi`] and encodes the result.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::admit::JobPlaces;
use super::context::{context, timeout};
use super::find::FindFirst;
use super::gate::CallGate;
use crate::api::{ContactApi, FindReply, RequestContext};
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
