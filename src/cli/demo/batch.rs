//! The second part of the demo: a call log is prefetched behind a rate limit while phones ring.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::Channel;

use super::{AUTH_HEADER, find, ms, user};
use crate::cli::client::explain;
use crate::cli::prefetch::{self, BatchTally};
use crate::cli::{Failure, show};
use crate::clock::{self, Stopwatch};
use crate::example_crm::{ExampleCrm, RateLimit};
use crate::grpc::client::ContactServiceClient;
use crate::pb::v1 as pb;

/// How long the call log is.
const NUMBERS: usize = 250;

/// How often a phone rings meanwhile.
const RING_EVERY: Duration = Duration::from_millis(150);

/// The seeds of the call log, and of the strangers who call.
const SEEDS: [u64; 2] = [7, 8];

/// One phone that rang.
#[derive(Debug)]
struct CallPop {
    /// `None` if the look-up failed.
    source: Option<pb::Source>,
    latency: Duration,
}

/// Prefetches the call log of the Example CRM and shows the latency of calls meanwhile.
pub(super) async fn run(
    client: ContactServiceClient<Channel>,
    crm: &ExampleCrm,
    limit: RateLimit,
) -> Result<(), Failure> {
    show(format_args!(
        "A call log of {NUMBERS} is prefetched while a phone rings every {}\n  The CRM takes {} requests in {}, and \
         refuses more with 429.\n",
        humantime::format_duration(RING_EVERY),
        limit.requests,
        humantime::format_duration(limit.per),
    ))?;
    let (requests, refused, stopwatch) = (crm.requests(), crm.refused(), Stopwatch::start());
    let calls = crm.data().recent_calls(NUMBERS, SEEDS[0]);
    let ringing = callers(crm, &calls);
    let (mut tally, ended) = (BatchTally::default(), CancellationToken::new());
    let batch = async {
        let followed = prefetch::follow(client.clone(), request(calls), &mut tally).await;
        ended.cancel();
        (followed, stopwatch.elapsed())
    };
    let ((followed, elapsed), pops) = tokio::join!(batch, ring(client.clone(), &ringing, &ended));
    followed.map_err(|status| explain(&status))?;

    show(tally.table())?;
    let (requests, refused) = (crm.requests() - requests, crm.refused() - refused);
    show(format_args!(
        "\nThe CRM got {requests} requests, including those for ringing phones: {:.1} a second of the \
         {:.1} allowed; {refused} refused.\n",
        a_second(requests, elapsed),
        a_second(limit.requests.get().into(), limit.per),
    ))?;
    report(pops)
}

fn request(numbers: Vec<String>) -> Request<pb::PrefetchContactsRequest> {
    Request::new(pb::PrefetchContactsRequest {
        user: Some(user()),
        auth_header: AUTH_HEADER.to_owned(),
        phone_numbers: numbers,
        overriding_formats: Vec::new(),
    })
}

/// How long the callers waited meanwhile.
fn report(pops: Vec<CallPop>) -> Result<(), Failure> {
    let (answered, failed): (Vec<_>, Vec<_>) =
        pops.into_iter().partition(|pop| pop.source.is_some());
    let (uncached, cached): (Vec<_>, Vec<_>) = answered
        .into_iter()
        .partition(|pop| pop.source == Some(pb::Source::Crm));
    show(format_args!(
        "\n{:<28}{:>6}{:>14}{:>14}\n",
        "Phones that rang meanwhile", "", "median", "worst"
    ))?;
    for (label, pops) in [
        ("answer stored", &cached),
        ("CRM asked", &uncached),
        ("not answered", &failed),
    ] {
        if !pops.is_empty() {
            show(format_args!("  {label:<26}{}\n", Latencies::of(pops)))?;
        }
    }
    Ok(())
}

fn a_second(count: u64, span: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / span.as_secs_f64()
}

/// The callers, in turn: one whose answer is stored, and one whose number was never looked up and
/// is not in the call log.
fn callers(crm: &ExampleCrm, calls: &[String]) -> Vec<String> {
    let known = crm.data().samples().one;
    let mut seen: HashSet<&String> = calls.iter().collect();
    let strangers = crm.data().recent_calls(NUMBERS, SEEDS[1]);
    let strangers = strangers.iter().filter(|number| seen.insert(number));
    strangers
        .flat_map(|stranger| [known.clone(), stranger.clone()])
        .collect()
}

/// Rings until the batch has ended, and waits for the answers.
async fn ring(
    client: ContactServiceClient<Channel>,
    numbers: &[String],
    batch_ended: &CancellationToken,
) -> Vec<CallPop> {
    let mut calls = JoinSet::new();
    for number in numbers {
        if clock::timeout(RING_EVERY, batch_ended.cancelled())
            .await
            .is_some()
        {
            break;
        }
        calls.spawn(call(
            client.clone(),
            find(number, pb::Trigger::IncomingCall),
        ));
    }
    let mut pops = Vec::with_capacity(calls.len());
    while let Some(pop) = calls.join_next().await {
        pops.extend(pop.ok());
    }
    pops
}

async fn call(
    mut client: ContactServiceClient<Channel>,
    request: pb::FindContactRequest,
) -> CallPop {
    let stopwatch = Stopwatch::start();
    let answer = client.find_contact(request).await;
    let latency = stopwatch.elapsed();
    let source = answer.ok().map(|reply| {
        reply
            .get_ref()
            .lookup
            .as_ref()
            .map(pb::Lookup::source)
            .unwrap_or_default()
    });
    CallPop { source, latency }
}

/// How many, the one in the middle, the worst.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn of(pops: &[CallPop]) -> Self {
        let mut latencies: Vec<Duration> = pops.iter().map(|pop| pop.latency).collect();
        latencies.sort_unstable();
        Self(latencies)
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let middle = self.0.get(count / 2).copied().unwrap_or_default();
        let worst = self.0.last().copied().unwrap_or_default();
        write!(f, "{count:>6}{:>14}{:>14}", ms(middle), ms(worst))
    }
}
