//! `ExplainContact`: what a look-up would do now, and why. With `live` also what it does.

use std::time::Duration;

use prost::Message as _;

use super::because;
use super::counts::{LookupTally, count_refusal};
use super::error::{ApiError, Violation};
use super::lookup_log;
use super::parse::{self, NoLookup, ParsedLookup};
use super::platforms::ServedPlatform;
use super::replies::{ReplyForm, wire_freshness, wire_source};
use super::reply::{FindReply, Reply as _};
use super::words;
use super::{ContactApi, RequestContext, within};
use crate::clock;
use crate::domain::{AuthHeader, LookupError, Party};
use crate::pb::v1 as pb;
use crate::resolver::{Explanation, Observations, Observer, Question, Trigger};

/// A question to explain, and who watches its look-up if there is to be one.
struct Explained {
    parsed: ParsedLookup,
    create_option: Option<bool>,
    observer: Option<Observer>,
}

impl ContactApi {
    /// `ExplainContact`. With `live` it counts as a look-up by manual refresh.
    ///
    /// # Errors
    /// If the request is refused. A look-up that fails is a part of the explanation.
    pub(crate) async fn explain(
        &self,
        context: RequestContext,
        request: pb::ExplainContactRequest,
    ) -> Result<pb::ExplainContactResponse, ApiError> {
        self.calls.explain.inc();
        let explained = self.explain_for(context, request).await;
        explained.inspect_err(|error| count_refusal(&self.metrics, error))
    }

    async fn explain_for(
        &self,
        context: RequestContext,
        request: pb::ExplainContactRequest,
    ) -> Result<pb::ExplainContactResponse, ApiError> {
        let asked = request.question.unwrap_or_default();
        let named = self.platforms.named(asked.user.as_ref());
        let (served, user) = named.map_err(in_question)?;
        context.may_ask(user)?;
        context
            .span
            .set("platform", served.platform.name().to_owned());
        let lent = context.lent(&served.platform, &asked.auth_header)?;
        let Explained {
            parsed,
            create_option,
            observer,
        } = self.read_question(served, asked, lent, request.live)?;
        let mut tally = observer.as_ref().map(|_| self.tally(served, &context));
        let mut question = match parsed {
            ParsedLookup::Question(question) => question,
            ParsedLookup::NoLookup(why) => {
                if let Some(tally) = &mut tally {
                    tally.nobody();
                }
                return Ok(served.nothing_to_look_up(&why, request.live));
            }
        };
        question.deadline = context.timeout.and_then(clock::after);
        question.span = context.span;
        let mut response = served.explanation(Box::pin(self.resolver.explain(&question)).await);
        if let (Some(observer), Some(tally)) = (observer, &mut tally) {
            tally.number = lookup_log::hash(&self.numbers, question.party());
            let form = ReplyForm::of(&question, create_option);
            let answer = Box::pin(self.live_answer(served, question, form, tally)).await;
            response.answer = Some(answer);
            add_observations(&mut response, observer.so_far());
        }
        Ok(response)
    }

    fn read_question(
        &self,
        served: &ServedPlatform,
        asked: pb::FindContactRequest,
        lent: Option<AuthHeader>,
        live: bool,
    ) -> Result<Explained, Violation> {
        if live && asked.only_if_cached {
            let what = "contradicts live, which always asks the CRM";
            return Err(in_question(Violation::new("only_if_cached", what)));
        }
        let (observer, create_option) = (live.then(Observer::default), asked.create_option);
        let (platform, watching) = (&served.platform, observer.clone());
        let parsed = parse::observed_question(asked, lent, platform, &self.words, watching);
        Ok(Explained {
            parsed: parsed.map_err(in_question)?,
            create_option,
            observer,
        })
    }

    fn tally<'a>(
        &'a self,
        served: &'a ServedPlatform,
        context: &RequestContext,
    ) -> LookupTally<'a> {
        let mut tally = context.tally(&self.metrics, Trigger::ManualRefresh);
        tally.set_platform(&served.counters);
        tally
    }

    /// What `FindContact` would answer. If it fails: the words of the failure alone.
    async fn live_answer(
        &self,
        served: &ServedPlatform,
        mut question: Question,
        form: ReplyForm,
        tally: &mut LookupTally<'_>,
    ) -> pb::FindContactResponse {
        question.trigger = Trigger::ManualRefresh;
        let left = question
            .deadline
            .map(|deadline| deadline.saturating_duration_since(clock::now()));
        match within(left, self.resolver.ask_anew(&question)).await {
            Ok(answer) => {
                tally.answered(&answer);
                decoded(&served.replies.found(&answer, form))
            }
            Err(error) => {
                let message = words::lookup_failed(&error, served.platform.name());
                tally.failed(&served.failed(error));
                pb::FindContactResponse {
                    return_message: Some(message),
                    ..Default::default()
                }
            }
        }
    }
}

impl ServedPlatform {
    fn explanation(&self, explained: Explanation) -> pb::ExplainContactResponse {
        let credential = pb::CredentialState {
            standing: explained.standing().to_owned(),
            identity_known: explained.is_identity_known,
        };
        let stored = explained.stored.iter().map(|answer| pb::StoredAnswer {
            tier: wire_source(answer.stored.source).into(),
            match_count: answer.stored.entry.count(),
            complete: answer.stored.entry.is_complete(),
            freshness: wire_freshness(answer.stored.freshness).into(),
            age: duration(answer.stored.age),
            fresh_for: duration(answer.fresh_for),
            served_for: duration(answer.served_for),
        });
        let reading = match explained.party {
            Party::Number(_) => "number",
            Party::Extension(_) => "extension",
        };
        pb::ExplainContactResponse {
            reading: reading.to_owned(),
            phone_number: explained.party.to_string(),
            stored: stored.collect(),
            credential: Some(credential),
            quota: Some(quota(&explained)),
            decision: explained.plan.decision().to_owned(),
            because: because::of_plan(explained.plan, self.platform.name()),
            spellings: explained.spellings,
            ..Default::default()
        }
    }

    fn nothing_to_look_up(&self, why: &NoLookup, live: bool) -> pb::ExplainContactResponse {
        let reading = match why {
            NoLookup::Withheld => "withheld",
            NoLookup::ShortCode => "short_code",
            NoLookup::NoExtensions => "extension",
            NoLookup::Unusable(_) => "number",
        };
        pb::ExplainContactResponse {
            reading: reading.to_owned(),
            decision: "refuse".to_owned(),
            because: because::of_no_lookup(why, self.platform.name()),
            answer: live.then(|| decoded(&self.replies.nobody(why))),
            ..Default::default()
        }
    }
}

fn quota(explained: &Explanation) -> pb::QuotaState {
    let quota = &explained.quota;
    let [call_pops, refreshes, prefetches] = quota.waiting;
    let count = |calls: usize| u32::try_from(calls).unwrap_or(u32::MAX);
    pb::QuotaState {
        limit: quota.limit,
        per: duration(quota.per),
        used: quota.used,
        paused_for: duration(quota.paused_for),
        waiting_call_pops: count(call_pops),
        waiting_background: count(refreshes.saturating_add(prefetches)),
    }
}

fn add_observations(response: &mut pb::ExplainContactResponse, seen: Observations) {
    let exchanges = seen.calls.into_iter().map(|call| pb::CrmExchange {
        method: call.method.to_owned(),
        path: call.path,
        status: call.status.map_or(0, u32::from),
        took: duration(call.took),
        bytes: call.bytes as u64,
    });
    let records = seen.records.into_iter().map(|record| pb::RecordVerdict {
        id: record.id,
        verdict: record.verdict.to_owned(),
        because: record.because,
    });
    response.exchanges = exchanges.collect();
    response.records = records.collect();
    response.exchanges_left_out = seen.calls_left_out;
    response.records_left_out = seen.records_left_out;
}

/// The reply as a message.
fn decoded(reply: &FindReply) -> pb::FindContactResponse {
    let encoded = reply.to_bytes().ok();
    let message = encoded.and_then(|bytes| pb::FindContactResponse::decode(bytes).ok());
    message.unwrap_or_else(|| pb::FindContactResponse {
        return_message: Some(words::lookup_failed(&LookupError::Internal, "")),
        ..Default::default()
    })
}

/// The same violation of a question within a request.
fn in_question(violation: Violation) -> Violation {
    Violation {
        field: format!("question.{}", violation.field),
        ..violation
    }
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}
