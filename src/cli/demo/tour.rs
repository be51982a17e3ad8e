//! The first part of the demo: where answers come from, one look-up at a time.

use tonic::transport::Channel;

use super::ms;
use crate::cli::client::explain;
use crate::cli::find;
use crate::cli::{Failure, show};
use crate::clock::Stopwatch;
use crate::example_crm::Samples;
use crate::grpc::client::ContactServiceClient;
use crate::pb::v1 as pb;

/// One look-up of the tour.
struct Step {
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
    let step = |title, number: &str, trigger, calls| Step {
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

async fn take(client: &mut ContactServiceClient<Channel>, step: &Step) -> Result<(), Failure> {
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
    let names: Vec<&str> = last
        .matched_contact_info
        .iter()
        .filter(|c| !c.is_new_contact)
        .map(|c| c.name.as_str())
        .collect();
    let middle = latencies
        .get(latencies.len() / 2)
        .copied()
        .unwrap_or_default();
    let time = match step.calls {
        1 => ms(middle),
        calls => format!("{} (median of {calls})", ms(middle)),
    };
    let provenance = last
        .lookup
        .as_ref()
        .map(find::provenance)
        .unwrap_or_default();
    let message = last
        .return_message
        .as_ref()
        .map_or("", |message| &message.message);
    show(format_args!(
        "{}\n  {time:<24} {provenance}\n  {:<24} {message}\n",
        step.title, ""
    ))?;
    if !names.is_empty() {
        show(format_args!("  {:<24} {}\n", "", names.join(", ")))?;
    }
    Ok(())
}
