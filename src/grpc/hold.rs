//! What a health or reflection answer holds until it ends.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::gate::{CallGate, origin};
use super::health::{GAVE_WAY, NO_PLACE};
use crate::api::{ApiError, Overload, enter};
use crate::clients::{CallPlace, FairPlace, FairPlaces};

/// How long a reflection stream may take.
const REFLECTION: Duration = Duration::from_secs(60);

/// How long an answer to a health check may take.
const CHECK: Duration = Duration::from_secs(10);

/// The places of an answer, given back when it ends, and how long it may take.
#[derive(Debug)]
pub(super) struct Hold {
    gate: CallGate,
    health: Option<FairPlace>,
    _reflection: Option<(OwnedSemaphorePermit, Option<CallPlace>)>,
    pub(super) longest: Duration,
}

impl Hold {
    /// The place of a health check.
    pub(super) fn check<B>(gate: &CallGate, request: &Request<B>) -> Result<Self, ApiError> {
        Self::health(gate, &gate.health().checks, request, CHECK)
    }

    /// The place of a health watch.
    pub(super) fn watch<B>(
        gate: &CallGate,
        request: &Request<B>,
        longest: Duration,
    ) -> Result<Self, ApiError> {
        Self::health(gate, &gate.health().watches, request, longest)
    }

    fn health<B>(
        gate: &CallGate,
        places: &FairPlaces,
        request: &Request<B>,
        longest: Duration,
    ) -> Result<Self, ApiError> {
        let place = places.try_enter(&origin(request)).ok_or(NO_PLACE)?;
        Ok(Self {
            gate: gate.clone(),
            health: Some(place),
            _reflection: None,
            longest,
        })
    }

    /// The places of a reflection stream of a known client.
    pub(super) fn reflection<B>(gate: &CallGate, request: &Request<B>) -> Result<Self, ApiError> {
        let client = gate.identify(request)?;
        let places = Arc::clone(gate.reflections());
        let reflection = places.try_acquire_owned().map_err(|_| Overload::Calls)?;
        let client = enter(client.as_deref())?;
        Ok(Self {
            gate: gate.clone(),
            health: None,
            _reflection: Some((reflection, client)),
            longest: REFLECTION,
        })
    }

    /// Ready once the place was taken back.
    pub(super) fn poll_taken_back(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(health) = &mut self.health else {
            return Poll::Pending;
        };
        ready!(health.poll_taken_back(cx));
        let error = ApiError::from(GAVE_WAY);
        self.gate.count_refused(&error);
        Poll::Ready(error.into())
    }
}
