//! `WatchContact`: one look-up, with its answers as they become better.
//!
//! The look-up is the one of `FindContact`. The stream also has what is known before the look-up
//! answers, and what `FindContact` leaves to the background. It counts as one look-up, by its first
//! answer.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt as _};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::counts::LookupTally;
use super::error::ApiError;
use super::platforms::ServedPlatform;
use super::replies::ReplyForm;
use super::reply::WatchReply;
use super::{Asked, ContactApi, RequestContext, RequestPlaces, fields};
use crate::clock;
use crate::domain::Entry;
use crate::pb::v1 as pb;
use crate::resolver::{Answer, LookupProgress, Source, Watcher};

/// More events than a look-up has: "asking" or what is stored, the same once more, names, all
/// details, a failure. None of them waits for a slow client.
const MOST: usize = 8;

type WatchItem = Result<WatchReply, ApiError>;

impl ContactApi {
    /// `WatchContact`. Keeps `places` until the look-up ends, or the client leaves.
    ///
    /// # Errors
    /// If the request is refused, or the look-up fails before its first event. Later failures are
    /// the last event of the stream.
    pub(crate) async fn watch(
        self: &Arc<Self>,
        context: RequestContext,
        request: pb::FindContactRequest,
        places: Option<Arc<RequestPlaces>>,
    ) -> Result<impl Stream<Item = WatchItem> + Send + use<>, ApiError> {
        self.calls.watch.inc();
        let (events, mut happening) = mpsc::channel(MOST);
        let (end, ended) = oneshot::channel();
        let api = Arc::clone(self);
        self.tasks.spawn(async move {
            let _places = places;
            tokio::select! {
                biased;
                () = events.closed() => {}
                () = api.follow(context, request, &events) => {}
            }
            let _ = end.send(());
        });
        let first = happening.recv().await.transpose()?;
        // Only a panic ends the task without this.
        let broken = stream::once(ended)
            .filter_map(|ended| ready(ended.is_err().then(|| Err(ApiError::internal()))));
        let events = stream::iter(first.map(Ok)).chain(ReceiverStream::new(happening));
        Ok(events.chain(broken))
    }

    async fn follow(
        &self,
        context: RequestContext,
        request: pb::FindContactRequest,
        events: &mpsc::Sender<WatchItem>,
    ) {
        let trigger = fields::trigger(request.trigger());
        let mut tally = context.tally(&self.metrics, trigger);
        let ended = self.look_up_watched(context, request, &mut tally, events);
        if let Err(error) = ended.await {
            if !tally.is_counted() {
                tally.failed(&error);
            }
            let _ = events.try_send(Err(error));
        }
    }

    async fn look_up_watched<'a>(
        &'a self,
        context: RequestContext,
        request: pb::FindContactRequest,
        tally: &mut LookupTally<'a>,
        events: &mpsc::Sender<WatchItem>,
    ) -> Result<(), ApiError> {
        let (served, asked) = self.ask(context, request, tally)?;
        let (mut question, timeout, form) = match asked {
            Asked::Question(question, timeout, form) => (question, timeout, form),
            Asked::Nobody(reply) => {
                let _ = events.try_send(Ok(WatchReply::Answer(reply)));
                return Ok(());
            }
        };
        let (watcher, seen) = Watcher::new();
        question.watcher = Some(watcher);
        let until = timeout.and_then(clock::after);
        let mut screen = Screen {
            served,
            form,
            seen,
            shown: None,
            is_crms: false,
            events,
            tally,
        };
        let answer = screen.during(self.answer(&question, timeout)).await;
        screen.show(&answer.map_err(|error| served.failed(error))?);
        let behind = screen.during(self.resolver.behind(&question));
        let better = match until {
            Some(until) => clock::timeout_at(until, behind).await.flatten(),
            None => behind.await,
        };
        if let Some(better) = better {
            screen.show(&better);
        }
        Ok(())
    }
}

/// What a client has been shown so far.
struct Screen<'s, 'a> {
    served: &'a ServedPlatform,
    form: ReplyForm,
    seen: mpsc::UnboundedReceiver<LookupProgress>,
    /// The last answer.
    shown: Option<Entry>,
    /// Whether the CRM has answered. After that, older answers are not shown.
    is_crms: bool,
    events: &'s mpsc::Sender<WatchItem>,
    tally: &'s mut LookupTally<'a>,
}

impl Screen<'_, '_> {
    /// Shows what is seen during a step.
    async fn during<T>(&mut self, step: impl Future<Output = T>) -> T {
        let mut step = pin!(step);
        let result = loop {
            tokio::select! {
                biased;
                Some(watched) = self.seen.recv() => self.see(watched),
                result = &mut step => break result,
            }
        };
        while let Ok(watched) = self.seen.try_recv() {
            self.see(watched);
        }
        result
    }

    fn see(&mut self, watched: LookupProgress) {
        match watched {
            LookupProgress::Asking => self.send(WatchReply::Asking),
            LookupProgress::Stored(answer) => self.show(&answer),
            LookupProgress::Names(answer) => self.show_names(&answer),
        }
    }

    /// Shows an answer, unless it is shown already or is older than the one that is shown.
    fn show(&mut self, answer: &Answer) {
        let stored = answer.entry.asked_for(self.form.extension);
        let is_crms = answer.source == Source::Crm;
        let shown = self.shown.as_ref().map(Entry::encoded);
        if shown == Some(stored.encoded()) || (self.is_crms && !is_crms) {
            return;
        }
        if !self.tally.is_counted() {
            self.tally.answered(answer);
        }
        (self.shown, self.is_crms) = (Some(stored), is_crms);
        let reply = self.served.replies.found(answer, self.form);
        self.send(WatchReply::Answer(reply));
    }

    /// Shows contacts without their details, unless the same contacts are shown already, with or
    /// without details.
    fn show_names(&mut self, answer: &Answer) {
        let names = names_of(&answer.entry.asked_for(self.form.extension));
        let shown = self.shown.as_ref().and_then(names_of);
        if shown.is_none() || names != shown {
            self.show(answer);
        }
    }

    /// There is always room, unless the client has left.
    fn send(&self, reply: WatchReply) {
        let _ = self.events.try_send(Ok(reply));
    }
}

/// Ids and names of stored contacts.
fn names_of(stored: &Entry) -> Option<Vec<(String, String)>> {
    let response = pb::FindContactResponse::decode(stored.encoded()).ok()?;
    let contacts = response.matched_contact_info.into_iter();
    Some(contacts.map(|contact| (contact.id, contact.name)).collect())
}
