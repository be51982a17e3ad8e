//! `contactd plan`: what a call log would cost.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use super::{Failure, say, serve, show, words};
use crate::clock::Stopwatch;
use crate::config::Config;
use crate::domain::Region;
use crate::plan::{PlannedConnector, Terms, run_all, usual_answer_bytes, variants};
use columns::NamedColumns;
use read::{LogTerms, ReadLog};
use report::Report;

mod columns;
mod generate;
mod json;
mod limited;
mod moment;
mod plot;
mod read;
mod report;
mod table;

/// The most replicas of a plan.
const MOST_REPLICAS: u32 = 1000;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct PlanArgs {
    #[command(subcommand)]
    command: Option<PlanCommand>,
    #[command(flatten)]
    replay: ReplayArgs,
}

#[derive(Debug, Subcommand)]
enum PlanCommand {
    /// Make up a call log with the habits of real ones, as CSV on standard output.
    ///
    /// Accounts have 1 to 200 users (log-normal, median 12). The number of calls of a user is
    /// log-normal: the busiest tenth of the users makes a third of all calls. 60 % of the calls are
    /// with one of a user's 20 to 5,000 contacts (median 150), the n-th of them with a frequency of
    /// 1/n (Zipf); 10 % repeat a call within ten minutes; 10 % ring a colleague too; 20 % are
    /// with a number that occurs once. 5 % withhold their number. The CRM knows 85 % of the
    /// contacts, and 15 % of the numbers that occur once. Weekdays peak from 10:00 to 11:00 and
    /// from 14:00 to 16:00; Saturdays have 20 % of a weekday's calls, Sundays 8 %. All users are in
    /// one time zone. The same seed gives the same log.
    Generate(generate::GenerateArgs),
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// The call log: CSV with a header, as telephone systems and spreadsheets write it. Columns:
    /// time (or date and time), user, number; if present also account, connector, and known (yes or
    /// no). A time without a zone is in UTC. If CALLS.csv is -, standard input is read.
    #[arg(required = true, value_name = "CALLS.csv")]
    file: Option<PathBuf>,
    /// The settings to plan for [default: those of `contactd serve` without settings].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    columns: NamedColumns,
    /// Dates with slashes have the day first: 9/3/2026 is in March.
    #[arg(long)]
    day_first: bool,
    /// The country of numbers without a calling code, such as US.
    #[arg(long)]
    region: Option<Region>,
    /// The connector of calls that name none [default: the first of the settings].
    #[arg(long, value_name = "NAME")]
    connector: Option<String>,
    /// The share of the numbers that the CRM knows, if the log has no column for that.
    #[arg(long, default_value_t = 0.6, value_parser = share, value_name = "SHARE")]
    known: f64,
    /// How many replicas to plan for, such as 1,10,100. Each call goes to a random replica.
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = replicas)]
    replicas: Vec<NonZeroU32>,
    /// How long a call to the CRM takes. It must not be longer than lookup.call_timeout.
    #[arg(long, default_value = "250ms", value_parser = humantime::parse_duration, value_name = "TIME")]
    crm_latency: Duration,
    /// Calls to the CRM for a look-up that finds somebody [default: what the connector needs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    calls_found: Option<u32>,
    /// Calls to the CRM for a look-up that finds nobody [default: what the connector needs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    calls_nobody: Option<u32>,
    /// Encoded size in bytes of a stored answer with a contact, without the bookkeeping of the
    /// cache [default: one contact with two deals].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    answer_bytes: Option<u32>,
    /// Replay the settings as they are, without trying other ages, quotas and memory.
    #[arg(long)]
    no_what_if: bool,
    /// The seed of all that is random: which replica gets a call, by how much an age is shortened
    /// (up to a tenth), and which numbers are known.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "human")]
    output: PlanOutput,
    /// The file for a plot of the mean day, as SVG. It shows the first four values of --replicas.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlanOutput {
    /// Tables.
    Human,
    /// One JSON object.
    Json,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

fn replicas(text: &str) -> Result<NonZeroU32, String> {
    let count = text
        .trim()
        .parse()
        .ok()
        .filter(|count: &NonZeroU32| count.get() <= MOST_REPLICAS);
    count.ok_or_else(|| format!("expected numbers from 1 to {MOST_REPLICAS}, such as 1,10"))
}

pub(super) fn run(args: PlanArgs) -> Result<ExitCode, Failure> {
    match args.command {
        Some(PlanCommand::Generate(args)) => generate::run(&args),
        None => plan(&args.replay),
    }
}

fn plan(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let effective = match &args.config {
        Some(path) => serve::read(path)?,
        None => serve::on_defaults(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?,
    };
    let config = effective.config;
    let terms = terms(args, &config);
    in_time(terms.latency, terms.call_timeout)?;
    let stopwatch = Stopwatch::start();
    let read = read_log(args, &config, &terms)?;
    let calls = read.log.len();
    say(format_args!(
        "read {calls} calls in {:.1?}",
        stopwatch.elapsed()
    ));
    let variants = variants(&terms, &args.replicas, !args.no_what_if);
    let figures = run_all(&read.log, &variants, |variant| {
        let (what, value) = (variant.what, variant.value);
        say(format_args!(
            "replayed with {what} {value} after {:.1?}",
            stopwatch.elapsed()
        ));
    });
    let report = Report {
        read: &read,
        terms: &terms,
        known: args.known,
        variants: &variants,
        figures: &figures,
    };
    // Before the plot, which may fail.
    match args.output {
        PlanOutput::Human => show(table::human(&report))?,
        PlanOutput::Json => show(format_args!("{:#}\n", json::report(&report)))?,
    }
    if let Some(path) = &args.plot {
        write_plot(path, &plot::day(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a call to a CRM ends before the daemon gives it up.
fn in_time(latency: Duration, call_timeout: Duration) -> Result<(), Failure> {
    if latency <= call_timeout {
        return Ok(());
    }
    let [latency, most] = [latency, call_timeout].map(humantime::format_duration);
    Err(Failure::Misused(format!(
        "--crm-latency: {latency} is longer than lookup.call_timeout, which is {most}"
    )))
}

fn read_log(args: &ReplayArgs, config: &Config, terms: &Terms) -> Result<ReadLog, Failure> {
    let connectors: Vec<String> = terms.connectors.iter().map(|of| of.name.clone()).collect();
    let place = match &args.connector {
        None => Some(0),
        Some(name) => connectors.iter().position(|known| known == name),
    };
    let connector = place.and_then(|place| u16::try_from(place).ok());
    let connector = connector.ok_or_else(|| {
        let (name, known) = (
            args.connector.as_deref().unwrap_or_default(),
            connectors.join(", "),
        );
        Failure::Misused(format!(
            "--connector: the settings have no {name:?}; they have {known}"
        ))
    })?;
    let log_terms = LogTerms {
        columns: &args.columns,
        day_first: args.day_first,
        region: args.region,
        words: &config.withheld,
        connectors: &connectors,
        connector,
        known: args.known,
        seed: args.seed,
    };
    read::read(args.file.as_deref().unwrap_or(Path::new("-")), &log_terms)
}

/// What the daemon would do with these settings.
fn terms(args: &ReplayArgs, config: &Config) -> Terms {
    let connector = |config| {
        let mut connector = PlannedConnector::of(config);
        let calls = &mut connector.calls;
        if let Some(found) = args.calls_found {
            calls.found = calls.found.min(found);
            calls.details = found - calls.found;
        }
        calls.nobody = args.calls_nobody.unwrap_or(calls.nobody);
        connector
    };
    Terms {
        ages: config.ages,
        admitted: config.admitted,
        memory: config.memory.bytes,
        connectors: config.connectors.iter().map(connector).collect(),
        timeout: config.resolver.timeout,
        soft_deadline: config.resolver.soft_deadline,
        call_timeout: config.limits.call_timeout,
        has_redis: config.redis.is_some(),
        replicas: NonZeroU32::MIN,
        latency: args.crm_latency,
        answer_bytes: args
            .answer_bytes
            .map_or_else(usual_answer_bytes, |bytes| bytes as usize),
        seed: args.seed,
    }
}

fn write_plot(path: &Path, svg: &str) -> Result<(), Failure> {
    std::fs::write(path, svg).map_err(|error| {
        let words = words(error);
        Failure::Misused(format!(
            "--plot: {} cannot be written: {words}",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_takes_longer_than_the_daemon_waits_is_refused() {
        let second = Duration::from_secs(1);
        assert!(in_time(second, second).is_ok());
        let Err(Failure::Misused(words)) = in_time(Duration::MAX, 5 * second) else {
            panic!("it is misused");
        };
        assert!(
            words.contains("lookup.call_timeout, which is 5s"),
            "{words}"
        );
    }
}
