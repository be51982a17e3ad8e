//! What every front needs and no front owns.
//!
//! A front passes on a message of `contactd.v1` and who sends it. All that follows is the same on
//! every wire: the request is parsed, the client's permission is checked, the resolver answers
//! within the deadline, the look-up is counted, and a failure gets its reason, its details and
//! words for a person. Each look-up is counted exactly once, even if its client cancels it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::clients::{Client, Forbidden, LoginAccess};
use crate::clock;
use crate::connector::Platform;
use crate::domain::phone::WithheldWords;
use crate::domain::{AuthHeader, LookupError};
use crate::metrics::Metrics;
use crate::pb::v1 as pb;
use crate::resolver::{Answer, Question, Resolver, Trigger};
use crate::trace::{Span, Tracer};

mod because;
mod counts;
mod details;
mod error;
mod explain;
mod fields;
mod limits;
mod lookup_log;
pub(crate) mod message;
mod parse;
mod platforms;
mod prefetch;
mod progress;
mod replies;
mod reply;
mod watch;
mod words;

use counts::{CallCounters, LookupTally, count_refusal};
pub(crate) use error::{ApiError, ErrorCode, Overload, Violation};
#[cfg(any(test, fuzzing))]
pub(crate) use fields::formats;
pub(crate) use limits::{
    ARRIVAL, ClientLimits, RequestKind, RequestPlaces, enter, until_sent_away,
};
pub(crate) use lookup_log::NumberHasher;
use parse::ParsedLookup;
#[cfg(any(test, fuzzing))]
pub(crate) use parse::check_request;
use platforms::{Platforms, ServedPlatform};
use replies::ReplyForm;
pub(crate) use reply::Reply;
pub use reply::{FindReply, WatchReply};

/// Most numbers of one request that are parsed on the current thread: this takes a millisecond.
const READ_AT_ONCE: usize = 100;

/// The most time that an answer needs to reach the client.
const WAY_BACK: Duration = Duration::from_millis(20);

/// Answers the methods of `contactd.v1.ContactService`.
pub(crate) struct ContactApi {
    resolver: Resolver,
    platforms: Platforms,
    words: Arc<WithheldWords>,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
    calls: CallCounters,
    tracer: Tracer,
    numbers: NumberHasher,
}

/// What a front knows of a request besides its message.
#[derive(Debug)]
pub(crate) struct RequestContext {
    client: Option<Arc<Client>>,
    access: LoginAccess,
    timeout: Option<Duration>,
    span: Span,
}

impl RequestContext {
    /// A request that is given up after `timeout`, from this client if clients are listed. The
    /// answer is sent a little earlier, so that it arrives in time. It may use the daemon's own
    /// credentials as far as `access` says.
    #[must_use]
    pub(crate) fn new(
        client: Option<Arc<Client>>,
        access: LoginAccess,
        timeout: Option<Duration>,
        span: Span,
    ) -> Self {
        Self {
            client,
            access,
            timeout: timeout.map(|timeout| timeout.saturating_sub((timeout / 10).min(WAY_BACK))),
            span,
        }
    }

    /// The tally of a look-up by this request.
    fn tally<'a>(&self, metrics: &'a Metrics, trigger: Trigger) -> LookupTally<'a> {
        let mut tally = LookupTally::start(metrics, trigger, self.span.clone());
        tally.client.clone_from(&self.client);
        tally
    }

    /// Checks that the client's lists, if it has any, contain what it asks for.
    fn may_ask(&self, user: &pb::User) -> Result<(), ApiError> {
        let Some(client) = &self.client else {
            return Ok(());
        };
        client
            .may_ask(&user.platform, &user.account_id)
            .map_err(Into::into)
    }

    /// Invalidating needs no credential, so a page in a browser must not reach it.
    fn may_invalidate(&self, user: &pb::User) -> Result<(), ApiError> {
        if self.access == LoginAccess::OddName {
            return Err(Forbidden::Hostname.into());
        }
        self.may_ask(user)
    }

    /// The credential that the platform lends to a request without its own, if there is one and
    /// the client may use it.
    fn lent(&self, platform: &Platform, auth_header: &str) -> Result<Option<AuthHeader>, ApiError> {
        let is_missing = auth_header.trim().is_empty();
        let lent = is_missing.then(|| platform.lent_credential()).flatten();
        let is_login = lent.is_some() && platform.profile().reads_auth_header();
        match self.access {
            LoginAccess::Elsewhere if is_login => Err(Forbidden::SharedLogin.into()),
            LoginAccess::OddName if is_login || platform.has_own_credential() => {
                Err(Forbidden::Hostname.into())
            }
            _ => Ok(lent),
        }
    }
}

/// What a look-up request asks for.
enum Asked {
    /// A question, with the client's time limit and the form of the reply.
    Question(Question, Option<Duration>, ReplyForm),
    /// Nothing: there is nobody to look up.
    Nobody(FindReply),
}

impl fmt::Debug for ContactApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContactApi")
            .field("platforms", &self.platforms)
            .finish_non_exhaustive()
    }
}

impl ContactApi {
    /// The methods over `resolver`. Jobs run on `tasks`; `words` are the installation's own words
    /// for withheld numbers; `numbers` hashes the numbers in the log of look-ups.
    #[must_use]
    pub(crate) fn new(
        resolver: Resolver,
        platforms: Vec<Platform>,
        words: WithheldWords,
        tasks: TaskTracker,
        metrics: Arc<Metrics>,
        tracer: Tracer,
        numbers: NumberHasher,
    ) -> Self {
        Self {
            resolver,
            platforms: Platforms::new(platforms, &metrics),
            words: Arc::new(words),
            tasks,
            calls: CallCounters::new(&metrics),
            metrics,
            tracer,
            numbers,
        }
    }

    /// The span of a request. Its parent is the client's span if the headers name one.
    pub(crate) fn span<'a>(
        &self,
        method: &'static str,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Span {
        self.tracer.request(method, header)
    }

    /// `FindContact`. Counted when it ends or is dropped.
    ///
    /// # Errors
    /// If the request is refused, or the look-up fails.
    pub(crate) async fn find(
        &self,
        context: RequestContext,
        request: pb::FindContactRequest,
    ) -> Result<FindReply, ApiError> {
        self.calls.find.inc();
        let trigger = fields::trigger(request.trigger());
        let mut tally = context.tally(&self.metrics, trigger);
        let reply = self.look_up(context, request, &mut tally).await;
        reply.inspect_err(|error| tally.failed(error))
    }

    async fn look_up<'a>(
        &'a self,
        context: RequestContext,
        request: pb::FindContactRequest,
        tally: &mut LookupTally<'a>,
    ) -> Result<FindReply, ApiError> {
        let (served, asked) = self.ask(context, request, tally)?;
        let (question, timeout, form) = match asked {
            Asked::Question(question, timeout, form) => (question, timeout, form),
            Asked::Nobody(reply) => return Ok(reply),
        };
        let answer = self.answer(&question, timeout).await;
        let answer = answer.map_err(|error| served.failed(error))?;
        tally.answered(&answer);
        Ok(served.replies.found(&answer, form))
    }

    /// What a look-up request asks for, and the platform that it names.
    fn ask<'a>(
        &'a self,
        context: RequestContext,
        request: pb::FindContactRequest,
        tally: &mut LookupTally<'a>,
    ) -> Result<(&'a ServedPlatform, Asked), ApiError> {
        let (served, user) = self.platforms.named(request.user.as_ref())?;
        tally.set_platform(&served.counters);
        context.may_ask(user)?;
        let lent = context.lent(&served.platform, &request.auth_header)?;
        let create_option = request.create_option;
        let parsed = parse::question(request, lent, &served.platform, &self.words)?;
        let mut question = match parsed {
            ParsedLookup::Question(question) => question,
            ParsedLookup::NoLookup(nobody) => {
                tally.nobody();
                return Ok((served, Asked::Nobody(served.replies.nobody(&nobody))));
            }
        };
        tally.number = lookup_log::hash(&self.numbers, question.party());
        question.deadline = context.timeout.and_then(clock::after);
        question.span = context.span;
        let form = ReplyForm::of(&question, create_option);
        Ok((served, Asked::Question(question, context.timeout, form)))
    }

    async fn answer(
        &self,
        question: &Question,
        timeout: Option<Duration>,
    ) -> Result<Answer, LookupError> {
        if let Some(answer) = self.resolver.stored(question) {
            return Ok(answer);
        }
        within(timeout, self.resolver.find(question)).await
    }

    /// `InvalidateContacts`.
    ///
    /// # Errors
    /// If the request is refused, or it is not certain that all replicas have invalidated the
    /// answers.
    pub(crate) async fn invalidate(
        &self,
        context: RequestContext,
        request: pb::InvalidateContactsRequest,
    ) -> Result<pb::InvalidateContactsResponse, ApiError> {
        self.calls.invalidate.inc();
        let result = self.invalidate_for(context, request).await;
        result.inspect_err(|error| count_refusal(&self.metrics, error))
    }

    async fn invalidate_for(
        &self,
        context: RequestContext,
        request: pb::InvalidateContactsRequest,
    ) -> Result<pb::InvalidateContactsResponse, ApiError> {
        let deadline = context.timeout.and_then(clock::after);
        let (served, user) = self.platforms.named(request.user.as_ref())?;
        context.may_invalidate(user)?;
        let (words, user, asked) = (Arc::clone(&self.words), user.clone(), request.scope);
        let (id, account) = (user.id.clone(), user.account_id.clone());
        let scope = served
            .read(parse::entries(asked.as_ref()), move || {
                parse::invalidation(&user, asked.as_ref(), &words)
            })
            .await?;
        let invalidated = self
            .resolver
            .invalidate(&served.platform, &account, &id, &scope, deadline)
            .await;
        invalidated.map_err(|_| ApiError::NotInvalidatedEverywhere)?;
        Ok(pb::InvalidateContactsResponse {})
    }
}

/// The result of a look-up, or the failure of one that takes longer than its caller waits.
async fn within(
    timeout: Option<Duration>,
    found: impl Future<Output = Result<Answer, LookupError>>,
) -> Result<Answer, LookupError> {
    match timeout {
        Some(timeout) => clock::timeout(timeout, found)
            .await
            .unwrap_or(Err(LookupError::DeadlineExceeded)),
        None => found.await,
    }
}

impl ServedPlatform {
    fn failed(&self, error: LookupError) -> ApiError {
        ApiError::LookupFailed {
            error,
            platform: self.platform.name().to_owned(),
        }
    }

    /// Parses a request with this many entries. A request with many entries is parsed on a thread
    /// that may block.
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
            let context =
                RequestContext::new(None, LoginAccess::default(), Some(timeout), Span::default());
            assert_eq!(context.timeout, Some(Duration::from_millis(left)));
        }
    }
}
