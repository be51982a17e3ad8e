//! A call that was admitted, or the answer to one that was refused.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use tonic::Status;
use tonic::body::Body;

use crate::api::{ApiError, RequestPlaces};

/// A call with a decision about its admission.
pub(crate) struct AdmittedCall<F>(AdmitDecision<F>);

enum AdmitDecision<F> {
    /// Admitted. The places are given back with the answer.
    Admitted {
        call: F,
        _places: Option<RequestPlaces>,
    },
    /// Refused. The answer is taken when it is polled.
    Refused(Option<Response<Body>>),
}

impl<F> AdmittedCall<F> {
    /// A call that keeps its places until it is answered.
    pub(super) fn new(call: F, places: Option<RequestPlaces>) -> Self {
        Self(AdmitDecision::Admitted {
            call,
            _places: places,
        })
    }

    /// A call that was refused.
    pub(super) fn refused(answer: Response<Body>) -> Self {
        Self(AdmitDecision::Refused(Some(answer)))
    }
}

impl<F> fmt::Debug for AdmittedCall<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdmittedCall(…)")
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>> + Unpin> Future for AdmittedCall<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match &mut self.get_mut().0 {
            // A panic ends this call alone: the connection also carries other calls. Nothing of
            // this call is used again.
            AdmitDecision::Admitted { call, .. } => {
                catch_unwind(AssertUnwindSafe(|| Pin::new(call).poll(cx)))
                    .unwrap_or_else(|_| Poll::Ready(Ok(broke_off())))
            }
            AdmitDecision::Refused(answer) => Poll::Ready(Ok(answer.take().unwrap_or_default())),
        }
    }
}

fn broke_off() -> Response<Body> {
    Status::from(ApiError::internal()).into_http()
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
        let call: AdmittedCall<BoxFuture<Response<Body>, Infallible>> =
            AdmittedCall::new(panics, None);
        let answer = call.await.unwrap();
        assert_eq!(
            answer.headers()["grpc-status"],
            (tonic::Code::Internal as i32).to_string()
        );
    }
}
