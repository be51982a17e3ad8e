//! `PrefetchContacts`: a job, and its progress as a stream of events.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;

use super::counts::count_refusal;
use super::error::ApiError;
use super::parse;
use super::progress::ProgressStream;
use super::{ContactApi, RequestContext, RequestPlaces};
use crate::clock;
use crate::pb::v1 as pb;

/// Events that wait for a slow client. With more, the job itself waits. It ends if the client reads
/// nothing for [`PATIENCE`].
const BACKLOG: usize = 16;

/// How long the next event waits for the client before the batch is given up. Without a limit, a
/// client that stops reading would keep its place for ever.
const PATIENCE: Duration = Duration::from_secs(60);

type ProgressEvent = Result<pb::PrefetchContactsResponse, ApiError>;

impl ContactApi {
    /// `PrefetchContacts`. The job keeps `places` until it ends.
    ///
    /// # Errors
    /// If the request is refused. Failures of the job are the last event of the stream.
    pub(crate) async fn prefetch(
        &self,
        context: RequestContext,
        request: pb::PrefetchContactsRequest,
        places: Option<Arc<RequestPlaces>>,
    ) -> Result<impl Stream<Item = ProgressEvent> + Send + use<>, ApiError> {
        self.calls.prefetch.inc();
        let progress = self.start_job(context, request).await;
        let progress = progress.inspect_err(|error| count_refusal(&self.metrics, error))?;
        Ok(publish(progress, places, &self.tasks))
    }

    async fn start_job(
        &self,
        context: RequestContext,
        request: pb::PrefetchContactsRequest,
    ) -> Result<ProgressStream, ApiError> {
        let (served, user) = self.platforms.named(request.user.as_ref())?;
        context.may_ask(user)?;
        let lent = context.lent(&served.platform, &request.auth_header)?;
        let name = served.platform.name();
        context.span.set("platform", name.to_owned());
        let (platform, words) = (Arc::clone(&served.platform), Arc::clone(&self.words));
        let mut parsed = served
            .read(request.phone_numbers.len(), move || {
                parse::batch(request, lent, &platform, &words)
            })
            .await?;
        let mut job = None;
        if let Some(mut batch) = parsed.batch.take() {
            // The span ends with the job, which holds its last clone.
            batch.span = context.span;
            let started = self.resolver.prefetch(batch);
            job = Some(started.map_err(|error| served.failed(error))?);
        }
        let metrics = Arc::clone(&self.metrics);
        Ok(ProgressStream::new(name.to_owned(), metrics, parsed, job))
    }
}

/// Publishes the progress of a job, one event at a time. A client that reads slowly slows the job
/// down. A client that leaves or stops reading ends it, and the places are given back.
fn publish(
    progress: ProgressStream,
    places: Option<Arc<RequestPlaces>>,
    tasks: &TaskTracker,
) -> impl Stream<Item = ProgressEvent> + Send + use<> {
    let (events, published) = mpsc::channel(BACKLOG);
    let (give_up, given_up) = oneshot::channel();
    tasks.spawn(async move {
        let _places = places;
        if let Err(error) = publish_all(progress, &events).await {
            // Delivered when the client reads on. The rest of the batch is gone by then.
            let _ = give_up.send(error);
        }
    });
    let end =
        stream::once(given_up).filter_map(|given_up| std::future::ready(given_up.ok().map(Err)));
    ReceiverStream::new(published).chain(end)
}

/// Returns when the job ends or the client leaves.
async fn publish_all(
    mut progress: ProgressStream,
    events: &mpsc::Sender<ProgressEvent>,
) -> Result<(), ApiError> {
    loop {
        let event = tokio::select! {
            biased;
            () = events.closed() => return Ok(()),
            event = progress.next() => event,
        };
        let Some(event) = event else { return Ok(()) };
        let event = event.map(|event| pb::PrefetchContactsResponse { event: Some(event) });
        match clock::timeout(PATIENCE, events.send(event)).await {
            Some(Ok(())) => {}
            Some(Err(_)) => return Ok(()),
            None => return Err(ApiError::ReadTooSlowly),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::ParsedBatch;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_gives_its_place_back_and_gets_the_reason_when_it_reads_on()
    {
        let parsed = ParsedBatch {
            requested: 100,
            distinct: 100,
            batch: None,
            invalid: (0..100).map(|n| (n.to_string(), String::new())).collect(),
        };
        let progress = ProgressStream::new("example".to_owned(), Arc::default(), parsed, None);
        let tasks = TaskTracker::new();
        let events = publish(progress, None, &tasks);
        tasks.close();
        clock::sleep(PATIENCE / 2).await;
        assert_eq!(tasks.len(), 1, "a slow client is waited for");
        clock::timeout(PATIENCE, tasks.wait())
            .await
            .expect("the task ends, and with it the place");
        let events: Vec<_> = events.collect().await;
        assert_eq!(events.len(), BACKLOG + 1);
        assert_eq!(
            events.last().unwrap().as_ref().unwrap_err(),
            &ApiError::ReadTooSlowly
        );
    }
}
