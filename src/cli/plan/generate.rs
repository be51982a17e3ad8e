//! `contactd plan generate`: a made-up call log.

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use clap::value_parser;

use super::moment;
use crate::cli::Failure;
use crate::plan::{CallGenerator, GeneratedCall, Profile};

const DAY: u64 = 86_400;

#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    /// How many calls.
    #[arg(long, default_value_t = 100_000, value_parser = value_parser!(u64).range(1..=10_000_000))]
    calls: u64,
    /// How many users make the calls.
    #[arg(long, default_value_t = 500, value_parser = value_parser!(u32).range(1..=50_000))]
    users: u32,
    /// On how many days.
    #[arg(long, default_value_t = 30, value_parser = value_parser!(u32).range(1..=366))]
    days: u32,
    /// The first day.
    #[arg(long, default_value = "2026-01-05", value_parser = day, value_name = "DATE")]
    start: u64,
    /// The same seed gives the same log.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Days since the Unix epoch.
fn day(text: &str) -> Result<u64, String> {
    let moment = moment::parse(text, false).map_err(|_| "expected a date such as 2026-01-05")?;
    Ok(moment / 1000 / DAY)
}

pub(super) fn run(args: &GenerateArgs) -> Result<ExitCode, Failure> {
    let mut calls = CallGenerator::new(Profile {
        calls: args.calls,
        users: args.users,
        days: args.days,
        first_day: args.start,
        seed: args.seed,
    });
    let mut output = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let written = writeln!(output, "time,account,user,phone_number,known")
        .and_then(|()| calls.try_for_each(|call| write(&mut output, &call)))
        .and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("standard output cannot be written: {error}").into())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn write(output: &mut impl io::Write, call: &GeneratedCall) -> io::Result<()> {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(call.at));
    write!(
        output,
        "{time},account-{},user-{},",
        call.account, call.user
    )?;
    match call.number {
        Some(number) => {
            let known = if call.is_known { "yes" } else { "no" };
            writeln!(output, "+{number},{known}")
        }
        None => writeln!(output, "anonymous,"),
    }
}
