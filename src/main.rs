//! `contactd`: parse the arguments, run, map to an exit code.

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    contactd::cli::run(contactd::cli::Args::parse())
}
