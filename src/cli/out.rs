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

/// An error of the system in words, without the number that Rust adds to them.
pub(super) fn words(error: impl Display) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next();
    words.unwrap_or_default().to_owned()
}

/// A text from elsewhere as one line that cannot command the terminal.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A count of numbers.
pub(super) fn numbers(count: u32) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} number{s}")
}

/// Writes a line besides the result. Nobody needs to read it.
pub(super) fn say(words: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{words}");
}
