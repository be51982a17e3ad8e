//! Before a call is read: who calls, and is there room.
//!
//! Promises that nothing of a request is read for a caller who is not known or while there is no
//! place, so that a refusal is quick and costs no memory; and that a request takes a place among
//! the calls in hand when it is whole.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::arrivals::{Arrival, Arrivals};
use super::platform_replies::{NO_PLATFORM, count_other};
use super::request::WholeBody;
use super::status;
use crate::clients::{Busy, Client, Clients, Excess, Peer, Place};
use crate::clock::{self, Stopwatch};
use crate::domain::LookupError;
use crate::metrics::{Metrics, RefusalLabels};
use crate::resolver::Trigger;

/// Reflection streams of all connections together. It is for people who explore; one such stream
/// takes 30 KiB.
pub const REFLECTIONS: usize = 16;

/// Largest `FindContact` request: a credential of 8 KiB, ids and formats at their limits, and
/// settings, with room.
const FIND_BYTES: usize = 64 << 10;

/// Largest request of the other methods: 10,000 numbers, with room.
const LIST_BYTES: usize = 1 << 20;

const FIND: &str = "/contactd.v1.ContactService/FindContact";
const PREFETCH: &str = "/contactd.v1.ContactService/PrefetchContacts";

/// What all calls pass.
#[derive(Clone)]
pub(crate) struct CallGate(Arc<Shared>);

struct Shared {
    callers: Clients,
    arrivals: Arrivals,
    in_flight: Arc<Semaphore>,
    jobs: Arc<Semaphore>,
    reflections: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for CallGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hall")
            .field("callers", &self.0.callers)
            .finish_non_exhaustive()
    }
}

/// A place for a prefetch job, which outlives the call that starts it.
#[derive(Debug, Clone)]
pub(super) struct JobPlace(
    #[expect(dead_code, reason = "held, and given back when dropped")] Arc<Places>,
);

type Places = (OwnedSemaphorePermit, Option<Place>, Option<Busy>);

/// How long a request that was sent away waits for its answer at least, and at most twice as long,
/// so that not all are given at once. A client with nothing but half requests spends its own
/// streams on that, and not the daemon's time.
const SENT_AWAY: Duration = Duration::from_secs(1);

/// Calls in hand for each that one user may have wait for a CRM. The resolver lets no connector
/// fill all of them, so that what is stored is served whichever CRM hangs.
const FOR_ALL: usize = 2;

impl CallGate {
    /// Room for calls and `max_jobs` prefetch jobs of these callers: `max_in_flight` that are not
    /// whole yet, and twice as many that are.
    #[must_use]
    pub(crate) fn new(
        callers: Clients,
        max_in_flight: usize,
        max_jobs: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        let places = |most: usize| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        let (in_flight, jobs) = (
            places(max_in_flight.saturating_mul(FOR_ALL)),
            places(max_jobs),
        );
        let (arrivals, reflections) = (Arrivals::new(max_in_flight), places(REFLECTIONS));
        Self(Arc::new(Shared {
            callers,
            arrivals,
            in_flight,
            jobs,
            reflections,
            metrics,
        }))
    }

    /// The service behind the whole check.
    pub(crate) fn before_calls<S>(&self, inner: S) -> AdmitCalls<S> {
        AdmitCalls {
            inner,
            hall: self.clone(),
        }
    }

    /// Places for reflection, of all connections together.
    pub(super) fn reflections(&self) -> &Arc<Semaphore> {
        &self.0.reflections
    }

    /// Who calls; `None` where nobody is listed. A token decides where there is one, else the
    /// certificate.
    pub(super) fn caller<B>(&self, request: &Request<B>) -> Result<Option<Arc<Client>>, Refusal> {
        let peer = || request.extensions().get::<Peer>();
        if self.0.callers.need_certificates() && !peer().is_some_and(Peer::is_verified) {
            return Err(Refusal::Unknown);
        }
        if self.0.callers.is_empty() {
            return Ok(None);
        }
        let certificate = || peer()?.certificate.clone();
        let found = request.headers().get(header::AUTHORIZATION).map_or_else(
            || self.0.callers.by_certificate(&certificate()?),
            |value| self.0.callers.by_token(bearer(value.as_bytes())?),
        );
        found.map(Some).ok_or(Refusal::Unknown)
    }

    /// Lets the head of a request in: its caller is known, and there is a place now.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Option<Place>, Refusal> {
        let caller = self.caller(request)?;
        let place = enter(caller.as_deref())?;
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let (room, refusal) = self.room(request);
        if room.available_permits() == 0 {
            Err(refusal)
        } else {
            Ok(place)
        }
    }

    /// A place for a request that is whole. A job takes its own with it.
    fn seat<B>(
        &self,
        request: &mut Request<B>,
        place: Option<Place>,
    ) -> Result<Option<Places>, Refusal> {
        let (room, refusal) = self.room(request);
        let room = Arc::clone(room).try_acquire_owned().map_err(|_| refusal)?;
        let peer = request
            .extensions()
            .get::<Peer>()
            .filter(|peer| place.is_some() || peer.is_verified());
        let places = (room, place, peer.map(Peer::busy));
        if is_job(request) {
            request.extensions_mut().insert(JobPlace(Arc::new(places)));
            return Ok(None);
        }
        Ok(Some(places))
    }

    fn room<B>(&self, request: &Request<B>) -> (&Arc<Semaphore>, Refusal) {
        if is_job(request) {
            (&self.0.jobs, Refusal::Jobs)
        } else {
            (&self.0.in_flight, Refusal::Full)
        }
    }

    pub(super) fn refuse<B>(&self, request: &Request<B>, refusal: Refusal) -> Response<Body> {
        let (status, reason) = refusal.status();
        self.0
            .metrics
            .calls_refused
            .get_or_create(&RefusalLabels { reason })
            .inc();
        if request.uri().path() == FIND {
            // The trigger and the platform are not known: the request was not read.
            count_other(
                &self.0.metrics,
                NO_PLATFORM,
                Trigger::IncomingCall,
                reason,
                Stopwatch::start(),
            );
        }
        status.into_http()
    }
}

fn is_job<B>(request: &Request<B>) -> bool {
    request.uri().path() == PREFETCH
}

/// A place under the caller's own limits, if it has any.
pub(super) fn enter(caller: Option<&Client>) -> Result<Option<Place>, Refusal> {
    let Some(caller) = caller else {
        return Ok(None);
    };
    let place = caller.enter().inspect_err(|excess| {
        tracing::debug!(
            caller = caller.name(),
            ?excess,
            "a call is refused: its caller is at its limits"
        );
    });
    place.map(Some).map_err(Refusal::Excess)
}

/// Why a call is not let in.
#[derive(Clone, Copy)]
pub(super) enum Refusal {
    Unknown,
    Excess(Excess),
    Full,
    Jobs,
}

impl Refusal {
    fn status(self) -> (Status, &'static str) {
        match self {
            Self::Unknown => (status::caller_unauthenticated(), "caller_unauthenticated"),
            Self::Excess(Excess::InFlight) => (
                status::overloaded("this caller has as many calls in flight as it may", None),
                "overloaded",
            ),
            Self::Excess(Excess::Rate { wait }) => (
                status::overloaded("this caller calls more often than it may", Some(wait)),
                "overloaded",
            ),
            Self::Full => (
                status::overloaded("too many requests in flight", None),
                "overloaded",
            ),
            Self::Jobs => (
                status::overloaded("too many prefetch jobs at once", None),
                "overloaded",
            ),
        }
    }
}

/// The token in `Bearer …` (RFC 6750; the scheme's name in any case).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then_some(token.trim_ascii())
}

/// See [`CallGate::before_calls`].
#[derive(Debug, Clone)]
pub(crate) struct AdmitCalls<S> {
    inner: S,
    hall: CallGate,
}

impl<S: NamedService> NamedService for AdmitCalls<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for AdmitCalls<S>
where
    S: Service<Request<WholeBody>, Response = Response<Body>, Error = Infallible, Future: Unpin>
        + Clone
        + Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Visit<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Visit<S> {
        let place = match self.hall.admit(&mut request) {
            Ok(place) => place,
            Err(refusal) => {
                return Visit::Inside(Call::Refused(Some(self.hall.refuse(&request, refusal))));
            }
        };
        let most = if request.uri().path() == FIND {
            FIND_BYTES
        } else {
            LIST_BYTES
        };
        let request = Some(request.map(|body| WholeBody::new(body, most)));
        let (inner, hall) = (self.inner.clone(), self.hall.clone());
        Visit::Before(Box::new(Arriving {
            request,
            inner,
            hall,
            place,
            arrival: None,
            away: None,
        }))
    }
}

/// A call from its first bytes on.
#[derive(Debug)]
pub(crate) enum Visit<S: Service<Request<WholeBody>>> {
    /// The request is not whole yet, or nobody has looked.
    Before(Box<Arriving<S>>),
    /// It has its places, or was refused.
    Inside(Call<S::Future>),
}

type Alarm = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A request that arrives.
pub(crate) struct Arriving<S> {
    /// Taken when it is whole.
    request: Option<Request<WholeBody>>,
    inner: S,
    hall: CallGate,
    place: Option<Place>,
    /// Set if it does not come in one piece.
    arrival: Option<Arrival>,
    /// The answer to one that was sent away, and when it is given.
    away: Option<(Response<Body>, Alarm)>,
}

impl<S> fmt::Debug for Arriving<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arriving")
            .field("hall", &self.hall)
            .finish_non_exhaustive()
    }
}

impl<S> Arriving<S>
where
    S: Service<Request<WholeBody>, Response = Response<Body>, Error = Infallible>,
{
    fn poll_inside(&mut self, cx: &mut Context<'_>) -> Poll<Call<S::Future>> {
        if let Some((answer, until)) = &mut self.away {
            std::task::ready!(until.as_mut().poll(cx));
            return Poll::Ready(Call::Refused(Some(std::mem::take(answer))));
        }
        let Some(mut request) = self.request.take() else {
            return Poll::Pending;
        };
        match request.body_mut().poll_arrived(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(status)) => {
                return Poll::Ready(Call::Refused(Some(status.into_http())));
            }
            Poll::Pending => {
                let arrival = self
                    .arrival
                    .get_or_insert_with(|| self.hall.0.arrivals.enter());
                if arrival.poll_sent_away(cx).is_ready() {
                    // What came of it goes now; the stream stays its client's for a while.
                    let answer = self.hall.refuse(&request, Refusal::Full);
                    (self.arrival, self.place) = (None, None);
                    self.away = Some((
                        answer,
                        Box::pin(clock::sleep(SENT_AWAY.mul_f64(1.0 + fastrand::f64()))),
                    ));
                    return self.poll_inside(cx);
                }
                self.request = Some(request);
                return Poll::Pending;
            }
        }
        self.arrival = None;
        Poll::Ready(match self.hall.seat(&mut request, self.place.take()) {
            Ok(places) => Call::Under {
                call: self.inner.call(request),
                _places: places,
            },
            Err(refusal) => Call::Refused(Some(self.hall.refuse(&request, refusal))),
        })
    }
}

impl<S> Future for Visit<S>
where
    S: Service<Request<WholeBody>, Response = Response<Body>, Error = Infallible, Future: Unpin>
        + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Self::Before(arriving) = this {
            *this = Self::Inside(std::task::ready!(arriving.poll_inside(cx)));
        }
        match this {
            Self::Inside(call) => Pin::new(call).poll(cx),
            Self::Before(_) => Poll::Pending,
        }
    }
}

/// A call that was let in, with its places, or the answer to one that was not.
pub(crate) enum Call<F> {
    /// Let in.
    Under {
        /// What answers it.
        call: F,
        /// Given back with the answer.
        _places: Option<Places>,
    },
    /// Refused; taken when it is polled.
    Refused(Option<Response<Body>>),
}

impl<F> fmt::Debug for Call<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call(…)")
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>> + Unpin> Future for Call<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.get_mut() {
            // Its connection carries others' calls as well. Nothing of the call is looked at again.
            Self::Under { call, .. } => catch_unwind(AssertUnwindSafe(|| Pin::new(call).poll(cx)))
                .unwrap_or_else(|_| {
                    Poll::Ready(Ok(
                        status::failed(&LookupError::Internal, NO_PLATFORM).into_http()
                    ))
                }),
            Self::Refused(answer) => Poll::Ready(Ok(answer.take().unwrap_or_default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tonic::codegen::BoxFuture;

    use super::*;

    #[tokio::test]
    async fn a_call_that_panics_is_answered_and_takes_nobody_along() {
        let panics = Box::pin(poll_fn(|_| -> Poll<Result<Response<Body>, Infallible>> {
            panic!("as the test says")
        }));
        let call: Call<BoxFuture<Response<Body>, Infallible>> = Call::Under {
            call: panics,
            _places: None,
        };
        let answer = call.await.unwrap();
        assert_eq!(
            answer.headers()["grpc-status"],
            (tonic::Code::Internal as i32).to_string()
        );
    }

    #[test]
    fn a_token_stands_behind_the_word_bearer() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc ", Some("abc")),
            ("BEARER  a b", Some("a b")),
            ("Bearer ", Some("")),
            ("Bearer", None),
            ("Basic abc", None),
            ("", None),
        ] {
            assert_eq!(
                bearer(value.as_bytes()),
                token.map(str::as_bytes),
                "{value}"
            );
        }
    }
}
