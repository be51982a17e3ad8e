//! `contactd connector`: what a connector file costs, asks and keeps, without a daemon.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::{Failure, say, show};

mod test;

#[derive(Debug, clap::Args)]
pub(super) struct ConnectorArgs {
    #[command(subcommand)]
    command: ConnectorCommand,
}

#[derive(Debug, Subcommand)]
enum ConnectorCommand {
    /// Compare look-ups with recordings of a CRM and with what is expected of them.
    ///
    /// A case is a directory with recordings (*.http) and expect.toml. Without --connector, the
    /// directory above the case names the connector: a file NAME.toml or NAME.json beside it, or
    /// else the built-in one called NAME.
    ///
    /// Exit codes: 0 every case passed, 1 some failed, 2 a file cannot be read or is faulty.
    Test(test::TestArgs),
}

/// How to print a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Human,
    /// JSON, for scripts.
    Json,
}

pub(super) async fn run(args: ConnectorArgs) -> Result<ExitCode, Failure> {
    match args.command {
        ConnectorCommand::Test(args) => test::run(args).await,
    }
}
