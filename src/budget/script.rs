//! What the request script takes and returns.
//!
//! Defines the order of its arguments and of the fields of its reply, as the script documents them.

use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value};

use super::forecast::{Forecast, LOOK_AGAIN, NextCalls, Reserved, RoomForecast};
use super::held::{Held, TotalsHeld};
use super::limits::WindowLimits;
use super::queue::CredentialProof;
use super::quota::{DAY, Quota, TokenBucket};
use super::request::{RequestAim, SCOPE_KNOWN, SharedTerms, SlotRequest};
use super::totals::{self, PART_OF_DAY};
use super::window::{FORESEEN, FreeTimes, micros};
use crate::redis_link::{DataToken, NotedPoll};

/// How much later than its turn a call pop may come back and still find the background lanes
/// stopped. If it never comes back, they have waited this long for nothing.
const LATENESS: Duration = Duration::from_millis(100);

/// What the request script returns, in its order. Times are in microseconds.
#[derive(Debug)]
pub(super) struct ScriptReply {
    pub(super) is_granted: bool,
    /// How long the next call waits for the pace of all lanes, and for that of the background
    /// lanes.
    next: [i64; 2],
    /// How long from now all lanes are paused, and the background lanes. Negative if the script has
    /// not read it.
    pub(super) pauses: [i64; 2],
    /// The calls that the window of all lanes holds, and when they become free.
    all: (u32, Vec<i64>),
    /// The same for the background lanes' share.
    share: (u32, Vec<i64>),
    /// Whether one call of each window is reserved for verified credentials.
    is_reserved: bool,
    /// The most calls of a window: of all lanes, and of the background lanes.
    limits: [u32; 2],
    /// What all replicas hold in the totals.
    in_totals: Vec<i64>,
}

impl FromRedisValue for ScriptReply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (
            is_granted,
            next,
            share_next,
            pause_of_all,
            pause_of_background,
            held,
            free_times,
            share_held,
            share_free_times,
            is_reserved,
            limits,
            in_totals,
        ) = FromRedisValue::from_redis_value(value)?;
        Ok(Self {
            is_granted,
            next: [next, share_next],
            pauses: [pause_of_all, pause_of_background],
            all: (held, free_times),
            share: (share_held, share_free_times),
            is_reserved,
            limits,
            in_totals,
        })
    }
}

/// A pace as the request script takes it, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gcra {
    interval: i64,
    tolerance: i64,
}

impl Gcra {
    /// The paces for a request: that of all lanes, that of the background lanes' share, and the
    /// common pace of all lanes that the background lanes must keep as well. A request without a
    /// pace may run ahead by a whole window, and does not use up the pace.
    pub(super) fn for_request(quota: &Quota, request: &SlotRequest) -> [Self; 3] {
        let paces = [
            quota.bucket(),
            quota.background_bucket(),
            quota.even_bucket(),
        ];
        if request.is_paced {
            paces.map(Self::of)
        } else {
            [Self::unpaced(quota.per()); 3]
        }
    }

    fn of(pace: TokenBucket) -> Self {
        Self {
            interval: micros(pace.interval),
            tolerance: micros(pace.tolerance()),
        }
    }

    fn unpaced(per: Duration) -> Self {
        Self {
            interval: 0,
            tolerance: micros(per),
        }
    }
}

/// Arguments 1 to 36 of the request script, in its order: numbers, the names of two calls, and
/// numbers.
pub(super) fn arguments(
    terms: &SharedTerms,
    request: &SlotRequest,
    paces: [Gcra; 3],
    name: &str,
) -> Vec<String> {
    let expected = terms.expected.call.as_ref();
    let names = [name, expected.map_or("", |call| &call.name)];
    let window = window_arguments(terms, request, paces);
    let rules = rule_arguments(terms, request, paces);
    let numbers = window.iter().map(i64::to_string);
    numbers
        .chain(names.map(str::to_owned))
        .chain(rules.iter().map(i64::to_string))
        .chain(total_arguments(terms).iter().map(i64::to_string))
        .chain([i64::from(request.aim == RequestAim::Look).to_string()])
        .collect()
}

/// Arguments 1 to 11: the pace and the windows.
fn window_arguments(
    terms: &SharedTerms,
    request: &SlotRequest,
    [all, share, _]: [Gcra; 3],
) -> [i64; 11] {
    [
        i64::from(request.lane.is_background()),
        all.interval,
        all.tolerance,
        share.interval,
        share.tolerance,
        request.patience.map_or(-1, micros),
        micros(LATENESS),
        i64::from(request.limits.all),
        i64::from(request.limits.background),
        micros(terms.quota.per()),
        micros(terms.hold),
    ]
}

/// Arguments 14 to 24: the kind of the request, and what Redis must know of past calls and absent
/// replicas.
fn rule_arguments(terms: &SharedTerms, request: &SlotRequest, [.., even]: [Gcra; 3]) -> [i64; 11] {
    let expected = terms.expected.call.as_ref();
    let unknown_for = if request.is_paced {
        terms.unknown_for
    } else {
        // An unpaced call has already passed its owner's scope. If Redis lost both counts, the call
        // has waited there.
        Duration::ZERO
    };
    [
        micros(terms.reserve_for),
        i64::from(request.proof == CredentialProof::Verified),
        i64::from(request.is_probe),
        i64::from(request.aim == RequestAim::Count),
        i64::try_from(FORESEEN).unwrap_or(1),
        even.tolerance,
        micros(unknown_for),
        expected.map_or(0, |call| micros(call.held_for)),
        match (terms.expected.is_scope_known, terms.expected.is_loss_over) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 0,
        },
        micros(SCOPE_KNOWN),
        i64::from(terms.left_to_absent),
    ]
}

/// Arguments 25 to 35: the totals.
fn total_arguments(terms: &SharedTerms) -> [i64; 11] {
    let limits = |limits: Option<WindowLimits>| {
        limits.map_or([0; 2], |limits| {
            [false, true].map(|is_background| i64::from(limits.of(is_background)))
        })
    };
    let [places, share_places] = limits(terms.totals.at_once);
    let [day, share_day] = limits(terms.totals.per_day);
    let [own_day, own_share_day] = terms.own.day.map(|held| i64::from(held.calls));
    [
        places,
        share_places,
        day,
        share_day,
        micros(terms.call_timeout),
        micros(LOOK_AGAIN),
        micros(totals::LATENESS),
        micros(PART_OF_DAY),
        micros(DAY),
        own_day,
        own_share_day,
    ]
}

/// Arguments 37 to 39: what this replica has seen in the data.
pub(super) fn seen_arguments(seen: Option<(DataToken, NotedPoll)>) -> [Vec<u8>; 3] {
    let Some((loss, poll)) = seen else {
        return Default::default();
    };
    [
        loss.as_bytes().to_vec(),
        poll.replica.to_vec(),
        poll.at.0.to_string().into_bytes(),
    ]
}

/// What the script says that all replicas hold in the totals.
fn held_in_totals(own: &TotalsHeld, numbers: &[i64]) -> TotalsHeld {
    let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
    let calls = |at| u32::try_from(number(at)).unwrap_or(u32::MAX);
    let day = |at| Held {
        calls: calls(at),
        free_in: number(at + 1),
    };
    TotalsHeld {
        wire: [calls(0), calls(1)],
        day: [day(2), day(4)],
        stopped: number(6),
        mean: own.mean,
    }
}

impl Gcra {
    /// When the next calls are due at this pace.
    fn next_calls(self, next: i64) -> NextCalls {
        NextCalls {
            next,
            interval: self.interval,
        }
    }
}

pub(super) fn forecast(
    terms: &SharedTerms,
    [all, share, _]: [Gcra; 3],
    reply: ScriptReply,
) -> Forecast {
    let quota = &terms.quota;
    let [all_totals, share_totals] =
        held_in_totals(&terms.own, &reply.in_totals).rooms(&terms.totals);
    let per = micros(quota.per());
    let room = |limit, (held, times), next_calls, totals| RoomForecast {
        limit,
        free_times: FreeTimes { held, per, times },
        next_calls,
        reserved: Reserved::one_if(reply.is_reserved, limit, quota.burst().get()),
        totals,
    };
    let [next, share_next] = reply.next;
    let [limit, share_limit] = reply.limits;
    Forecast::now(
        room(limit, reply.all, all.next_calls(next), all_totals),
        room(
            share_limit,
            reply.share,
            share.next_calls(share_next),
            share_totals,
        ),
    )
}
