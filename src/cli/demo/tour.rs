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
struct TourStep<'a> {
    title: &'static str,
    number: &'a str,
    trigger: pb::Trigger,
    /// Calls in a row; more than one shows the latency of the fastest tier.
    calls: u32,
}

impl<'a> TourStep<'a> {
    fn new(title: &'static str, number: &'a str) -> Self {
        Self {
            title,
            number,
            trigger: pb::Trigger::IncomingCall,
            calls: 1,
        }
    }

    fn repeated(self) -> Self {
        Self { calls: 200, ..self }
    }

    fn refreshed(self) -> Self {
        let trigger = pb::Trigger::ManualRefresh;
        Self { trigger, ..self }
    }
}

/// One look-up after the other, each with its latency.
pub(super) async fn run(
    mut client: ContactServiceClient<Channel>,
    samples: &Samples,
) -> Result<(), Failure> {
    for step in steps(samples) {
        take(&mut client, &step).await?;
    }
    Ok(())
}

fn steps(samples: &Samples) -> [TourStep<'_>; 6] {
    let step = TourStep::new;
    let Samples {
        one, many, absent, ..
    } = samples;
    [
        step(
            "The phone rings: nothing is stored yet, so contactd asks the CRM",
            one,
        ),
        step("It rings again: the answer is in memory", one).repeated(),
        step("A main number that several people share", many),
        step("A number that nobody has", absent),
        step("... which is remembered as well", absent).repeated(),
        step("The agent presses \"refresh contact\"", one).refreshed(),
    ]
}

async fn take(
    client: &mut ContactServiceClient<Channel>,
    step: &TourStep<'_>,
) -> Result<(), Failure> {
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
    step: &TourStep<'_>,
) -> Result<(pb::FindContactResponse, Duration), Failure> {
    let mut latencies = Vec::with_capacity(step.calls as usize);
    let mut last = pb::FindContactResponse::default();
    for _ in 0..step.calls {
        let stopwatch = Stopwatch::start();
        let response = client
            .find_contact(super::find(step.number, step.trigger))
            .await;
        last = response.map_err(|status| explain(&status))?.into_inner();
        latencies.push(stopwatch.elapsed());
    }
    latencies.sort_unstable();
    let middle = latencies.get(latencies.len() / 2).copied();
    Ok((last, middle.unwrap_or_default()))
}
