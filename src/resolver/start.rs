//! The only way to start a load.

use std::sync::Arc;

use super::Resolver;
use super::load_request::{LoadRequest, Reuse};
use super::load_task::{Load, LoadKey, Loaded};
use super::question::Question;
use crate::clock::{self, Instant};
use crate::domain::{Identity, Lane};
use crate::flight::{NewLoad, Seat};
use crate::urgency::Demand;

impl Resolver {
    /// A load for a waiting caller, which gets an error early if the quota has no room in time.
    pub(super) fn request(&self, question: &Question, identity: Option<Identity>) -> LoadRequest {
        LoadRequest {
            asker: Arc::clone(question.asker()),
            key: *question.key(),
            identity,
            trigger: question.trigger,
            lane: question.trigger.lane(),
            deadline: self.deadline(question),
            reuse: Reuse::Fresh,
            spent: Arc::default(),
            span: question.span.clone(),
        }
    }

    /// Returns when a CRM call for the question would be too late: at the caller's deadline, or
    /// after `lookup.timeout` if there is none. For a call pop it is the earlier of the two,
    /// because its load may not take longer.
    pub(super) fn deadline(&self, question: &Question) -> Option<Instant> {
        let (end, deadline) = (clock::after(self.config.timeout), question.deadline);
        match question.trigger.lane() {
            Lane::CallPop => [end, deadline].into_iter().flatten().min(),
            _ => deadline.or(end),
        }
    }

    fn load_key(&self, request: &LoadRequest) -> LoadKey {
        LoadKey {
            question: request.key,
            auth: request.asker.auth_tag(),
            reuse: request.reuse,
            since: self.deps.cache.invalidated_at(&request.key),
        }
    }

    /// A seat on the requested load if it runs already.
    pub(super) fn running(&self, request: &LoadRequest) -> Option<Seat<Loaded>> {
        self.loads.running(&self.load_key(request))
    }

    /// A seat on the requested load: on a running one if it may be shared, or else on a new one.
    pub(super) fn start(&self, request: LoadRequest) -> Seat<Loaded> {
        let key = self.load_key(&request);
        let demand = Demand {
            lane: request.lane,
            deadline: request.deadline,
            limit: Some(self.config.timeout),
            verified: self.has_been_verified(&request.asker),
        };
        let (join, caller) = (request.join(), request.span.clone());
        let begin = |urgency, early| {
            let identity = request.identity.as_ref();
            let place = self.load_place(&request.asker, identity, request.lane)?;
            let span = request.span.step("load");
            let load = Load {
                resolver: self.clone(),
                request,
                urgency,
                early,
                span: span.clone(),
            };
            let load = load.run();
            Some(NewLoad { place, span, load })
        };
        let seat = self.loads.join_or_lead(key, join, demand, begin);
        if seat.joined() {
            caller.link(seat.span());
        }
        seat
    }
}
