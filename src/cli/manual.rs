//! `contactd completions` and `contactd man`: made from the definitions of the commands.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

use super::{Failure, show};

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The directory for the pages, such as /usr/local/share/man/man1. It is created if it is not
    /// there; older pages are replaced.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Prints a script that completes the commands and options of `program`.
pub(super) fn completions(
    args: &CompletionsArgs,
    mut program: Command,
) -> Result<ExitCode, Failure> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, name, &mut script);
    show(String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for `program` and for each of its commands.
pub(super) fn man(args: &ManArgs, program: Command) -> Result<ExitCode, Failure> {
    let directory = &args.directory;
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(program, directory))
        .with_context(|| format!("cannot write man pages to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
