//! What every front needs and no front owns.
//!
//! A front hands over a message of `contactd.v1` and who sends it. From there on everything is the
//! same on all wires: the request is parsed, the client may ask this or not, the resolver answers
//! within the deadline, the look-up is counted, and a failure has its reason, its details and words
//! for a person. Promises that a look-up is counted exactly once, also if its client cancels it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::clients::Client;
use crate::clock;
use crate::connector::Platform;
use crate::domain::LookupError;
use crate::domain::phone::HouseWords;
use crate::metrics::Metrics;
use crate::pb::v1 as pb;
use crate::resolver::{Answer, Question, Resolver};
use crate::trace::{Span, Tracer};

mod counts;
mod details;
mod error;
mod fields;
mod limits;
mod parse;
mod platforms;
mod prefetch;
mod progress;
mod replies;
mod reply;
mod words;

use counts::{LookupTally, count_refusal};
pub(crate) use error::{ApiError, ErrorCode, Overload, Violation};
pub(crate) use limits::{ClientLimits, RequestKind, RequestPlaces, enter};
use parse::ParsedLookup;
use platforms::{Platforms, ServedPlatform};
pub use reply::FindReply;

/// Numbers of one request that are read without leaving the thread: a millisecond.
const READ_AT_ONCE: usize = 100;

/// What an answer needs for its way back, at most.
const WAY_BACK: Duration = Duration::from_millis(20);

/// Answers the methods of `contactd.v1.ContactService`.
pub(crate) struct ContactApi {
    resolver: Resolver,
    platforms: Platforms,
    words: Arc<HouseWords>,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
    tracer: Tracer,
}

/// What a front knows of a request beside its message.
#[derive(Debug)]
pub(crate) struct RequestContext {
    client: Option<Arc<Client>>,
    timeout: Option<Duration>,
    span: Span,
}

impl RequestContext {
    /// A request of this client, if clients are listed, that is given up after `timeout`. The answer
    /// leaves a little earlier, so that it arrives.
    #[must_use]
    pub(crate) fn new(client: Option<Arc<Client>>, timeout: Option<Duration>, span: Span) -> Self {
        Self {
            client,
            timeout: timeout.map(|timeout| timeout.saturating_sub((timeout / 10).min(WAY_BACK))),
            span,
        }
    }

    /// Whether the lists of the client, if it has any, name what it asks for.
    fn may_ask(&self, user: &pb::User) -> Result<(), ApiError> {
        let Some(client) = &self.client else {
            return Ok(());
        };
        client
            .may_ask(&user.platform, &user.account_id)
            .map_err(|what| {
                tracing::debug!(
                    client = client.name(),
                    ?what,
                    "a call is refused: its client may not ask this"
                );
                what.into()
            })
    }
}

impl fmt::Debug for ContactApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContactApi")
            .field("platforms", &self.platforms)
            .finish_non_exhaustive()
    }
}

impl ContactApi {
    /// The methods over `resolver`. Jobs belong to `tasks`; `words` are the house's own ones for
    /// withheld numbers.
    #[must_use]
    pub(crate) fn new(
        resolver: Resolver,
        platforms: Vec<Platform>,
        words: HouseWords,
        tasks: TaskTracker,
        metrics: Arc<Metrics>,
        tracer: Tracer,
    ) -> Self {
        Self {
            resolver,
            platforms: Platforms::new(platforms, &metrics),
            words: Arc::new(words),
            tasks,
            metrics,
            tracer,
        }
    }

    /// The span of a request, below the client's if its headers name one.
    pub(crate) fn span<'a>(
        &self,
        method: &'static str,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Span {
        self.tracer.request(method, header)
    }

    /// `FindContact`. Counted when it ends, or when it is dropped before.
    ///
    /// # Errors
    /// If the request is refused, or the look-up fails.
    pub(crate) async fn find(
        &self,
        context: RequestContext,
        request: pb::FindContactRequest,
    ) -> Result<FindReply, ApiError> {
        let trigger = fields::trigger(request.trigger());
        let mut tally = LookupTally::start(&self.metrics, trigger, context.span.clone());
        let reply = self.look_up(context, request, &mut tally).await;
        reply.inspect_err(|error| tally.failed(error))
    }

    async fn look_up<'a>(
        &'a self,
        context: RequestContext,
        request: pb::FindContactRequest,
        tally: &mut LookupTally<'a>,
    ) -> Result<FindReply, ApiError> {
        let (served, user) = self.platforms.named(request.user.as_ref())?;
        tally.set_platform(&served.counters);
        context.may_ask(user)?;
        let mut question = match parse::question(request, &served.platform, &self.words)? {
            ParsedLookup::Question(question) => question,
            ParsedLookup::NoLookup(nobody) => {
                tally.nobody();
                return Ok(served.replies.nobody(&nobody));
            }
        };
        question.deadline = context.timeout.and_then(clock::after);
        question.span = context.span;
        let answer = self.answer(&question, context.timeout).await;
        let answer = answer.map_err(|error| served.failed(error))?;
        tally.answered(&answer);
        Ok(served.replies.found(&answer, question.extension))
    }

    async fn answer(
        &self,
        question: &Question,
        timeout: Option<Duration>,
    ) -> Result<Answer, LookupError> {
        if let Some(answer) = self.resolver.stored(question) {
            return Ok(answer);
        }
        let found = self.resolver.find(question);
        match timeout {
            Some(timeout) => clock::timeout(timeout, found)
                .await
                .unwrap_or(Err(LookupError::DeadlineExceeded)),
            None => found.await,
        }
    }

    /// `InvalidateContacts`.
    ///
    /// # Errors
    /// If the request is refused, or it is not certain that all replicas forget.
    pub(crate) async fn invalidate(
        &self,
        context: RequestContext,
        request: pb::InvalidateContactsRequest,
    ) -> Result<pb::InvalidateContactsResponse, ApiError> {
        let result = self.forget(context, request).await;
        result.inspect_err(|error| count_refusal(&self.metrics, error))
    }

    async fn forget(
        &self,
        context: RequestContext,
        request: pb::InvalidateContactsRequest,
    ) -> Result<pb::InvalidateContactsResponse, ApiError> {
        let (served, user) = self.platforms.named(request.user.as_ref())?;
        context.may_ask(user)?;
        let (words, user, scope) = (Arc::clone(&self.words), user.clone(), request.scope);
        let (id, account) = (user.id.clone(), user.account_id.clone());
        let what = served
            .read(parse::entries(scope.as_ref()), move || {
                parse::forgotten(&user, scope.as_ref(), &words)
            })
            .await?;
        let forgotten = self
            .resolver
            .forget(&served.platform, &account, &id, &what)
            .await;
        forgotten.map_err(|_| ApiError::NotForgottenEverywhere)?;
        Ok(pb::InvalidateContactsResponse {})
    }
}

impl ServedPlatform {
    fn failed(&self, error: LookupError) -> ApiError {
        ApiError::LookupFailed {
            error,
            platform: self.platform.name().to_owned(),
        }
    }

    /// Reads a request with so many entries; one with many on a thread that may be kept busy.
    async fn read<T: Send + 'static>(
        &self,
        entries: usize,
        read: impl FnOnce() -> Result<T, Violation> + Send + 'static,
    ) -> Result<T, ApiError> {
        if entries <= READ_AT_ONCE {
            return Ok(read()?);
        }
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => Ok(read?),
            Err(_) => Err(self.failed(LookupError::Internal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_deadline_leaves_before_it() {
        for (timeout, left) in [(50, 45), (2000, 1980), (0, 0)] {
            let timeout = Duration::from_millis(timeout);
            let context = RequestContext::new(None, Some(timeout), Span::default());
            assert_eq!(context.timeout, Some(Duration::from_millis(left)));
        }
    }
}
