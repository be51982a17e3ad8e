//! `contactd connector`: what a connector file costs, asks and keeps, without a daemon.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::{Failure, say, show};
use crate::trial::schema;

mod attempt;
mod check;
mod list;
mod page;
mod sheet;
mod story;
mod test;

#[cfg(any(test, fuzzing))]
pub(crate) use page::page as connector_page;

#[derive(Debug, clap::Args)]
pub(super) struct ConnectorArgs {
    #[command(subcommand)]
    command: ConnectorCommand,
}

#[derive(Debug, Subcommand)]
enum ConnectorCommand {
    /// List the built-in connectors: what they search, what they cost, and to whom stored answers
    /// belong.
    List(list::ListArgs),
    /// Check connector files: print every fault with its place, or what a look-up costs.
    ///
    /// Exit codes: 0 all are valid, 2 one has faults or cannot be read.
    Check(check::CheckArgs),
    /// Print the documentation page of a CRM, in Markdown.
    Page(page::PageArgs),
    /// Look up numbers with a connector, and show each request and what became of each record.
    ///
    /// Without --send and --replies nothing is sent: the output shows the requests that would be
    /// sent if the CRM found nobody. The CRM's credential comes from the variable
    /// CONTACTD_AUTH_HEADER only; it is never printed and never recorded. With --send, `whoami` is
    /// called too. The output says whether the CRM names a user and an account, and shows no id.
    ///
    /// Exit codes: 0 every number was answered ("nobody" is an answer), 1 a look-up or `whoami`
    /// failed, 2 wrong arguments or a faulty file.
    #[command(after_help = TRY_EXAMPLES)]
    Try(Box<attempt::TryArgs>),
    /// Print the JSON schema of connector files, for editors.
    ///
    /// `#:schema ./connector.schema.json` in the first line of a file names it.
    Schema,
    /// Compare look-ups with recordings of a CRM and with what is expected of them.
    ///
    /// A case is a directory with recordings (*.http) and expect.toml. Without --connector, the
    /// case's parent directory names the connector. If it is called NAME, NAME.toml or NAME.json
    /// next to it is used, or else the built-in connector NAME.
    ///
    /// Exit codes: 0 every case passed, 1 some failed, 2 a file cannot be read or is faulty.
    Test(test::TestArgs),
}

const TRY_EXAMPLES: &str = "\
Examples:
  contactd connector try ./my-crm.toml +16505550101 --hostname acme.my-crm.com
  CONTACTD_AUTH_HEADER=\"Bearer …\" contactd connector try clio +16505550101 --hostname app.clio.com --send";

/// How to print a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Human,
    /// JSON, for scripts.
    Json,
}

/// A warning of a path in `phones` at which no record of these replies has a value.
fn silent_path(connector: &str, replies: &str, path: &str) -> String {
    format!(
        "warning: {connector}: phones: no record of {replies} has a value at {path}: \
         is the path misspelt?"
    )
}

/// Each line behind a margin.
fn indented(text: &str, margin: &str) -> String {
    let mut indented = String::new();
    for line in text.lines() {
        indented += &format!("{margin}{line}\n");
    }
    indented
}

pub(super) async fn run(args: ConnectorArgs) -> Result<ExitCode, Failure> {
    match args.command {
        ConnectorCommand::List(args) => list::run(&args),
        ConnectorCommand::Check(args) => check::run(&args),
        ConnectorCommand::Page(args) => page::run(&args),
        ConnectorCommand::Try(args) => Box::pin(attempt::run(*args)).await,
        ConnectorCommand::Schema => {
            show(format_args!("{:#}\n", schema()))?;
            Ok(ExitCode::SUCCESS)
        }
        ConnectorCommand::Test(args) => test::run(args).await,
    }
}
