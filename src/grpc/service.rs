//! The service: deadline, parse, find, reply, count.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::admit::JobPlace;
use super::batch::{self, Events};
use super::codec::Reply;
use super::convert::{self, Ask};
use super::platform_replies::{NO_PLATFORM, PlatformReplies, count_other, count_refused};
use super::status;
use crate::clients::Client;
use crate::clock::{self, Stopwatch};
use crate::connector::Platform;
use crate::domain::LookupError;
use crate::domain::phone::HouseWords;
use crate::grpc::server::ContactService;
use crate::metrics::{Metrics, RefusalLabels};
use crate::pb::v1 as pb;
use crate::pb::v1::invalidate_contacts_request::Scope;
use crate::resolver::{Answer, Question, Resolver, Trigger};
use crate::trace::{Span, Tracer};

/// Numbers of one request that are read without leaving the thread: a millisecond.
const READ_AT_ONCE: usize = 100;

/// Answers `contactd.v1.ContactService`.
#[derive(Clone)]
pub(crate) struct ContactRpc {
    shared: Arc<Shared>,
}

struct Shared {
    resolver: Resolver,
    platforms: HashMap<String, Arc<Platform>>,
    desks: HashMap<String, PlatformReplies>,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    words: HouseWords,
}

impl fmt::Debug for ContactRpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContactRpc")
            .field("platforms", &self.shared.platforms.keys())
            .finish_non_exhaustive()
    }
}

impl ContactRpc {
    /// The service over `resolver`. Who may call it and how much is for [`super::CallGate`]. Streams
    /// belong to `tasks`; `words` are the house's own ones for withheld numbers.
    #[must_use]
    pub(crate) fn new(
        resolver: Resolver,
        platforms: Vec<Platform>,
        tasks: TaskTracker,
        metrics: Arc<Metrics>,
        tracer: Tracer,
        words: HouseWords,
    ) -> Self {
        let desks = platforms
            .iter()
            .map(|p| (p.name().to_owned(), PlatformReplies::new(p, &metrics)))
            .collect();
        let platforms = platforms
            .into_iter()
            .map(|p| (p.name().to_owned(), Arc::new(p)))
            .collect();
        Self {
            shared: Arc::new(Shared {
                resolver,
                platforms,
                desks,
                tasks,
                metrics,
                tracer,
                words,
            }),
        }
    }
}

#[tonic::async_trait]
impl ContactService for ContactRpc {
    type PrefetchContactsStream = Events;

    async fn find_contact(
        &self,
        request: Request<pb::FindContactRequest>,
    ) -> Result<Response<Reply>, Status> {
        let shared = &self.shared;
        let stopwatch = Stopwatch::start();
        let limit = deadline(request.metadata());
        let span = request_span(&shared.tracer, "FindContact", request.metadata());
        let caller = caller(&request);
        let request = request.into_inner();
        let trigger = label_of(request.trigger());
        let other = |platform: &str, outcome: &str| {
            describe(&span, platform, trigger, "none", outcome);
            count_other(&shared.metrics, platform, trigger, outcome, stopwatch);
        };
        let platform = convert::platform(&shared.platforms, request.user.as_ref());
        let platform = platform.inspect_err(|_| other(NO_PLATFORM, "invalid_request"))?;
        let name = platform.name();
        shared
            .may_ask(caller.as_deref(), request.user.as_ref())
            .inspect_err(|_| other(name, "caller_forbidden"))?;
        let ask = convert::question(
            request,
            platform,
            &shared.words,
            limit.and_then(clock::after),
        );
        let ask = ask.inspect_err(|_| other(name, "invalid_request"))?;
        let Some(desk) = shared.desks.get(name) else {
            return Err(status::failed(&LookupError::Internal, name));
        };
        let question = match ask {
            Ask::Find(question) => Question {
                span: span.clone(),
                ..question
            },
            nobody => {
                other(name, "not_found");
                return Ok(Response::new(desk.nobody(&nobody)));
            }
        };
        match shared.find(&question, limit).await {
            Ok(answer) => {
                let outcome = if answer.entry.count() > 0 {
                    "found"
                } else {
                    "not_found"
                };
                describe(&span, name, trigger, answer.source.label(), outcome);
                span.end();
                desk.count(&shared.metrics, trigger, &answer, stopwatch);
                Ok(Response::new(desk.reply(&answer, question.extension)))
            }
            Err(error) => {
                count_refused(&shared.metrics, &error);
                other(name, &error.reason().to_ascii_lowercase());
                span.end();
                Err(status::failed(&error, name))
            }
        }
    }

    async fn prefetch_contacts(
        &self,
        request: Request<pb::PrefetchContactsRequest>,
    ) -> Result<Response<Events>, Status> {
        let shared = &self.shared;
        let span = request_span(&shared.tracer, "PrefetchContacts", request.metadata());
        let (caller, place) = (
            caller(&request),
            request.extensions().get::<JobPlace>().cloned(),
        );
        let request = request.into_inner();
        let platform = convert::platform(&shared.platforms, request.user.as_ref())?;
        shared.may_ask(caller.as_deref(), request.user.as_ref())?;
        span.set("platform", platform.name().to_owned());
        let requested = request.phone_numbers.len();
        let (name, platform) = (platform.name().to_owned(), Arc::clone(platform));
        let words = Arc::clone(shared);
        let mut log = read(requested, &name, move || {
            convert::batch(request, &platform, &words.words)
        })
        .await?;
        if let Some(batch) = &mut log.batch {
            // Ends with the job, which holds the last clone of it.
            batch.question.span = span;
        }
        let metrics = Arc::clone(&shared.metrics);
        let teller = batch::teller(&shared.resolver, log, requested, name, metrics).await?;
        Ok(Response::new(batch::told_by(teller, place, &shared.tasks)))
    }

    async fn invalidate_contacts(
        &self,
        request: Request<pb::InvalidateContactsRequest>,
    ) -> Result<Response<pb::InvalidateContactsResponse>, Status> {
        let (caller, shared) = (caller(&request), Arc::clone(&self.shared));
        let request = request.into_inner();
        let platform = convert::platform(&self.shared.platforms, request.user.as_ref())?;
        self.shared
            .may_ask(caller.as_deref(), request.user.as_ref())?;
        let user = request.user.clone().unwrap_or_default();
        let entries = match &request.scope {
            Some(Scope::Numbers(numbers)) => numbers.phone_numbers.len(),
            _ => 0,
        };
        let what = read(entries, platform.name(), move || {
            convert::forgotten(&request, &shared.words)
        })
        .await?;
        let forgotten = self
            .shared
            .resolver
            .forget(platform, &user.account_id, &user.id, &what)
            .await;
        forgotten.map_err(|_| status::not_forgotten_everywhere())?;
        Ok(Response::new(pb::InvalidateContactsResponse {}))
    }
}

/// Reads a request with so many entries; one with many on a thread that may be kept busy.
async fn read<T: Send + 'static>(
    entries: usize,
    platform: &str,
    read: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    if entries <= READ_AT_ONCE {
        return read();
    }
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|_| Err(status::failed(&LookupError::Internal, platform)))
}

impl Shared {
    /// Whether the caller's lists, if it has any, name what it asks for.
    fn may_ask(&self, caller: Option<&Client>, user: Option<&pb::User>) -> Result<(), Status> {
        let (Some(caller), Some(user)) = (caller, user) else {
            return Ok(());
        };
        caller
            .may_ask(&user.platform, &user.account_id)
            .map_err(|what| {
                tracing::debug!(
                    caller = caller.name(),
                    ?what,
                    "a call is refused: its caller may not ask this"
                );
                self.metrics
                    .calls_refused
                    .get_or_create(&RefusalLabels {
                        reason: "caller_forbidden",
                    })
                    .inc();
                status::caller_forbidden(what)
            })
    }

    async fn find(
        &self,
        question: &Question,
        limit: Option<Duration>,
    ) -> Result<Answer, LookupError> {
        let found = self.resolver.find(question);
        match limit {
            Some(limit) => clock::timeout(limit, found)
                .await
                .unwrap_or(Err(LookupError::DeadlineExceeded)),
            None => found.await,
        }
    }
}

/// The span of a request, below the caller's where it names one.
fn request_span(tracer: &Tracer, name: &'static str, metadata: &MetadataMap) -> Span {
    tracer.request(name, |key| metadata.get(key)?.to_str().ok())
}

/// Says on a span what the metrics count.
fn describe(span: &Span, platform: &str, trigger: Trigger, source: &'static str, outcome: &str) {
    if span.is_traced() {
        span.set("platform", platform.to_owned());
        span.set("trigger", trigger.label());
        span.set("source", source);
        span.set("outcome", outcome.to_owned());
    }
}

/// Who calls, where callers are listed.
fn caller<T>(request: &Request<T>) -> Option<Arc<Client>> {
    request.extensions().get::<Arc<Client>>().cloned()
}

fn label_of(trigger: pb::Trigger) -> Trigger {
    match trigger {
        pb::Trigger::Unspecified | pb::Trigger::IncomingCall => Trigger::IncomingCall,
        pb::Trigger::ManualRefresh => Trigger::ManualRefresh,
        pb::Trigger::InitialMatch => Trigger::InitialMatch,
    }
}

/// How long the caller waits (`grpc-timeout`), less what the answer needs for its way back. tonic
/// would end the call as CANCELLED; answering just before that lets the contract's
/// DEADLINE_EXCEEDED arrive.
fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (amount, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u32 = amount.parse().ok()?;
    let limit = match unit {
        "H" => Duration::from_secs(3600) * amount,
        "M" => Duration::from_secs(60) * amount,
        "S" => Duration::from_secs(1) * amount,
        "m" => Duration::from_millis(1) * amount,
        "u" => Duration::from_micros(1) * amount,
        "n" => Duration::from_nanos(1) * amount,
        _ => return None,
    };
    Some(limit.saturating_sub((limit / 10).min(Duration::from_millis(20))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_deadline_leaves_before_it() {
        let limit = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            deadline(&metadata)
        };
        assert_eq!(limit("50m"), Some(Duration::from_millis(45)));
        assert_eq!(limit("2S"), Some(Duration::from_millis(1980)));
        assert_eq!(limit("1000000u"), Some(Duration::from_millis(980)));
        assert_eq!(
            limit("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600) - Duration::from_millis(20))
        );
        for text in ["", "S", "5", "5x", "-1S", "1.5S"] {
            assert_eq!(limit(text), None, "{text}");
        }
        assert_eq!(deadline(&MetadataMap::new()), None);
    }
}
