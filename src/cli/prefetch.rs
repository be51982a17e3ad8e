//! `contactd prefetch`: warms the cache with many numbers before their calls come.

use std::error::Error as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::client::ClientArgs;
use super::{Failure, say, show};
use crate::clock::{self, Stopwatch};
use crate::grpc::client::ContactServiceClient;
use crate::lifecycle;
use crate::pb::v1 as pb;
use pb::prefetch_contacts_response::Event;

mod numbers;
mod progress;
mod tally;

use numbers::Numbers;
pub(super) use numbers::{NUMBER_HEADERS, WORKBOOK, decoded, plain, spreadsheet_number};
use progress::ProgressView;
pub(super) use tally::BatchTally;

/// Part of the batch has no answer.
const PARTLY: u8 = 4;

#[derive(Debug, clap::Args)]
pub(super) struct PrefetchArgs {
    /// A file with the numbers, most recent calls first: one per line, or a table as spreadsheets
    /// export it (CSV with commas, semicolons or tabs) with a column phone_number, Phone, Telefon
    /// or the like. If it is - or missing, standard input is read. At most 10,000 numbers.
    file: Option<PathBuf>,
    /// The column of the table that has the numbers.
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
    /// How to print the summary.
    #[arg(long, value_enum, default_value = "human")]
    output: PrefetchOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PrefetchOutput {
    /// A table.
    Human,
    /// One JSON object, with the numbers that have no answer, and why.
    Json,
}

pub(super) async fn run(args: PrefetchArgs) -> Result<ExitCode, Failure> {
    let Numbers { numbers, lost } = numbers::read(args.file.as_deref(), args.column.as_deref())?;
    let request = pb::PrefetchContactsRequest {
        user: Some(args.client.user()),
        auth_header: args.client.auth_header()?,
        phone_numbers: numbers,
        overriding_formats: args.client.formats(),
    };
    let client = args.client.connect().await?;
    for result in &lost {
        say(progress::problem(result));
    }
    let (mut tally, stopwatch) = (BatchTally::beside(lost), Stopwatch::start());
    let request = args.client.batch_request(request)?;
    let ended = until_the_end(&args.client, client, request, &mut tally).await;
    if !tally.finished {
        tally.counts.elapsed = prost_types::Duration::try_from(stopwatch.elapsed()).ok();
    }
    summarize(args.output, &tally, ended.as_ref().err())?;
    ended.map_err(|failure| failure.with_note(&tally.so_far()))?;
    Ok(ExitCode::from(if tally.is_complete() { 0 } else { PARTLY }))
}

fn summarize(
    output: PrefetchOutput,
    tally: &BatchTally,
    failure: Option<&Failure>,
) -> Result<(), Failure> {
    match (output, failure) {
        (PrefetchOutput::Json, failure) => {
            let failure = failure.map(Failure::words);
            show(format_args!("{:#}\n", tally.json(failure.as_deref())?))
        }
        (PrefetchOutput::Human, None) => show(tally.table()),
        // The failure's message reports the progress.
        (PrefetchOutput::Human, Some(_)) => Ok(()),
    }
}

/// Follows the batch until it ends, the time limit passes or somebody stops it.
async fn until_the_end(
    args: &ClientArgs,
    client: ContactServiceClient<Channel>,
    request: Request<pb::PrefetchContactsRequest>,
    tally: &mut BatchTally,
) -> Result<(), Failure> {
    let stop = lifecycle::asked_to_stop().context("signals cannot be watched")?;
    let followed = clock::timeout(
        args.limit().unwrap_or(Duration::MAX),
        follow(client, request, tally),
    );
    let ended = tokio::select! {
        followed = followed => followed.ok_or_else(|| anyhow!("the time limit passed"))?,
        // Returning drops the call, which makes the daemon end the batch.
        () = stop => return Err(anyhow!("stopped").into()),
    };
    match ended {
        // The connection to the daemon worked.
        Err(status) if tally.has_begun() && status.source().is_some() => {
            Err(anyhow!("the connection to the daemon broke during the batch").into())
        }
        Err(status) => Err(args.explain(&status)),
        Ok(()) if tally.finished => Ok(()),
        Ok(()) => Err(anyhow!("the daemon ended the batch early").into()),
    }
}

/// Runs a batch, counting and showing its events. It may have ended early: see
/// [`BatchTally::finished`].
pub(super) async fn follow(
    mut client: ContactServiceClient<Channel>,
    request: Request<pb::PrefetchContactsRequest>,
    tally: &mut BatchTally,
) -> Result<(), Status> {
    let mut events = client.prefetch_contacts(request).await?.into_inner();
    let mut progress: Option<ProgressView> = None;
    while let Some(response) = events.message().await? {
        let Some(event) = response.event else {
            continue;
        };
        match &event {
            Event::Started(started) => {
                progress = Some(ProgressView::start(started.distinct + tally.done()));
            }
            Event::Result(result) => progress
                .iter()
                .for_each(|progress| progress.show_result(result)),
            // The caller prints the summary.
            Event::Finished(_) => progress = None,
        }
        tally.take(event);
        if let Some(progress) = &mut progress {
            progress.show(tally);
        }
    }
    Ok(())
}
