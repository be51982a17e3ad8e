//! The service: each method passes its message to [`ContactApi`] and encodes the result.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::admit::StreamPlaces;
use super::context::{context, span};
use super::find::FindFirst;
use super::gate::CallGate;
use crate::api::{ContactApi, FindReply, RequestContext, RequestPlaces, WatchReply};
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
        let headers = request.metadata().as_ref();
        let span = span(&self.api, method, headers);
        context(headers, request.extensions(), span)
    }
}

#[tonic::async_trait]
impl ContactService for ContactRpc {
    type WatchContactStream = BoxStream<'static, Result<WatchReply, Status>>;
    type PrefetchContactsStream = BoxStream<'static, Result<pb::PrefetchContactsResponse, Status>>;

    async fn find_contact(
        &self,
        request: Request<pb::FindContactRequest>,
    ) -> Result<Response<FindReply>, Status> {
        let context = self.context("FindContact", &request);
        let reply = self.api.find(context, request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn watch_contact(
        &self,
        request: Request<pb::FindContactRequest>,
    ) -> Result<Response<Self::WatchContactStream>, Status> {
        let context = self.context("WatchContact", &request);
        let places = places(&request);
        let events = self.api.watch(context, request.into_inner(), places);
        let events = events.await?.map(|event| event.map_err(Status::from));
        Ok(Response::new(events.boxed()))
    }

    async fn prefetch_contacts(
        &self,
        request: Request<pb::PrefetchContactsRequest>,
    ) -> Result<Response<Self::PrefetchContactsStream>, Status> {
        let context = self.context("PrefetchContacts", &request);
        let places = places(&request);
        let events = self.api.prefetch(context, request.into_inner(), places);
        let events = events.await?;
        Ok(Response::new(
            events.map(|event| event.map_err(Status::from)).boxed(),
        ))
    }

    async fn invalidate_contacts(
        &self,
        request: Request<pb::InvalidateContactsRequest>,
    ) -> Result<Response<pb::InvalidateContactsResponse>, Status> {
        let context = context(
            request.metadata().as_ref(),
            request.extensions(),
            Span::default(),
        );
        let done = self.api.invalidate(context, request.into_inner()).await?;
        Ok(Response::new(done))
    }

    async fn explain_contact(
        &self,
        request: Request<pb::ExplainContactRequest>,
    ) -> Result<Response<pb::ExplainContactResponse>, Status> {
        let context = self.context("ExplainContact", &request);
        let explained = self.api.explain(context, request.into_inner()).await?;
        Ok(Response::new(explained))
    }
}

/// The places of a stream, which it keeps until it ends.
fn places<T>(request: &Request<T>) -> Option<Arc<RequestPlaces>> {
    let places = request.extensions().get::<StreamPlaces>();
    places.map(|places| Arc::clone(&places.0))
}
