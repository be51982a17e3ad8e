//! The output of commands: results on standard output, messages for a person on standard error. If
//! a reader stops early (`| head`), that is not a failure.

use std::fmt::Display;
use std::io::{self, Write as _};

use super::Failure;

/// Writes a command's result, or a part of it.
pub(super) fn show(result: impl Display) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match write!(output, "{result}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("standard output cannot be written: {error}").into())
        }
        _ => Ok(()),
    }
}

/// Writes a line besides the result. Nobody needs to read it.
pub(super) fn say(words: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{words}");
}
