//! `contactd settings`: every setting with its default and its meaning.

use std::process::ExitCode;

use super::{Failure, show};
use crate::config::reference;

/// Prints the reference as Markdown.
pub(super) fn run() -> Result<ExitCode, Failure> {
    show(reference::page())?;
    Ok(ExitCode::SUCCESS)
}
