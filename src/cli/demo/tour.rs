//! The first part of the demo: where answers come from, one look-up at a time.

use std::time::Duration;

use tonic::transport::Channel;

use super::ms;
use crate::cli::client::explain;
use crate::cli::find::{self, found};
use crate::cli::{Failure, show};
use crate::clock::Stopwatch;
use crate::example_crm::Samples;
use crate::grpc::client::ContactServiceClient;
use crate::pb::v1 as pb;

/// One look-up of the tour.
struct TourStep {
    title: &'static str,
    number: String,
    trigger: pb::Trigger,
    /// Calls in a row; more than one shows the latency of the fastest tier.
    calls: u32,
}

/// One look-up after the other, each with its latency.
pub(super) async fn run(
    mut client: ContactServiceClient<Channel>,
    samples: &Samples,
) -> Result<(), Failure> {
    let step = |title, number: &str, trigger, calls| TourStep {
        title,
        number: number.to_owned(),
        trigger,
        calls,
    };
    let (ring, refresh) = (pb::Trigger::IncomingCall, pb::Trigger::ManualRefresh);
    for step in [
        step(
            "The phone rings: nobody asked before, so the CRM is",
            &samples.one,
            ring,
            1,
        ),
        step(
            "It rings again: the answer is in memory",
            &samples.one,
            ring,
            200,
        ),
        step(
            "A main number that several people share",
            &samples.many,
            ring,
            1,
        ),
        step("A number that nobody has", &samples.absent, ring, 1),
        step(
            "... which is remembered as well",
            &samples.absent,
            ring,
            200,
        ),
        step(
            "The agent presses \"refresh contact\"",
            &samples.one,
            refresh,
            1,
        ),
    ] {
        take(&mut client, &step).await?;
    }
    Ok(())
}

async fn take(client: &mut ContactServiceClient<Channel>, step: &TourStep) -> Result<(), Failure> {
    let (last, middle) = repeat(client, step).await?;
    let time = match step.calls {
        1 => ms(middle),
        calls => format!("{} (median of {calls})", ms(middle)),
    };
    let provenance = last.lookup.as_ref().map(find::provenance);
    let message = last.return_message.as_ref();
    show(format_args!(
        "{}\n  {time:<24} {}\n  {:<24} {}\n",
        step.title,
        provenance.unwrap_or_default(),
        "",
        message.map_or("", |message| &message.message)
    ))?;
    let names: Vec<&str> = found(&last).map(|contact| contact.name.as_str()).collect();
    if !names.is_empty() {
        show(format_args!("  {:<24} {}\n", "", names.join(", ")))?;
    }
    Ok(())
}

/// The last answer, and the median latency of all.
async fn repeat(
    client: &mut ContactServiceClient<Channel>,
    step: &TourStep,
) -> Result<(pb::FindContactResponse, Duration), Failure> {
    let mut latencies = Vec::with_capacity(step.calls as usize);
    let mut last = pb::FindContactResponse::default();
    for _ in 0..step.calls {
        let stopwatch = Stopwatch::start();
        let response = client
            .find_contact(super::find(&step.number, step.trigger))
            .await;
        last = response.map_err(|status| explain(&status))?.into_inner();
        latencies.push(stopwatch.elapsed());
    }
    latencies.sort_unstable();
    let middle = latencies.get(latencies.len() / 2).copied();
    Ok((last, middle.unwrap_or_default()))
}
