//! `contactd check-config`: every fault at once, or the effective settings.

use std::path::Path;
use std::process::ExitCode;

use super::{Failure, say, serve, show};

pub(super) fn run(path: &Path) -> Result<ExitCode, Failure> {
    let effective = serve::read(path).map_err(|failure| match failure {
        // A file that is not there is a wrong use of this command.
        Failure::Failed(error) => Failure::Misused(format!("{error:#}")),
        misused @ Failure::Misused(_) => misused,
    })?;
    let warnings = effective
        .warnings
        .iter()
        .map(ToString::to_string)
        .chain(effective.config.grpc.warnings());
    for warning in warnings {
        say(format_args!("contactd: warning: {warning}"));
    }
    show(effective.toml)?;
    Ok(ExitCode::SUCCESS)
}
