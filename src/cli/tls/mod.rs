//! `contactd tls`: certificates and a token to try encrypted connections with.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Failure, show};

mod files;
mod init;
mod issue;

#[derive(Debug, clap::Args)]
pub(super) struct TlsArgs {
    #[command(subcommand)]
    command: TlsCommand,
}

#[derive(Debug, Subcommand)]
enum TlsCommand {
    /// Make an authority, a certificate for the daemon and a client token, and print the settings.
    ///
    /// The output is TOML for the daemon's settings; its comments show what a client needs. Files
    /// that are there already are not replaced. Keys and the token can be read by their owner only:
    /// the daemon has to run as that user. Do not keep ca-key.pem on a server: whoever has it can
    /// make certificates that your clients trust.
    Init(init::InitArgs),
}

pub(super) fn run(args: TlsArgs) -> Result<ExitCode, Failure> {
    match args.command {
        TlsCommand::Init(args) => show(init::run(&args)?)?,
    }
    Ok(ExitCode::SUCCESS)
}
