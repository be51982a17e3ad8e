//! The progress of a batch on standard error: a bar on a terminal, a line every second elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::{BatchTally, is_problem};
use crate::cli::client::with_options;
use crate::cli::{numbers, printable, say};
use crate::clock::Stopwatch;
use crate::pb::v1 as pb;

/// How often a line is printed if there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Redraws the bar, so that the time advances while the batch waits for the CRM.
const TICK: Duration = Duration::from_millis(200);

const TEMPLATE: &str = "{bar:30.green} {pos}/{len} in {elapsed}{wide_msg}";

/// Shows a batch. The bar disappears on drop.
#[derive(Debug)]
pub(super) struct ProgressView {
    /// `None` if standard error is not a terminal.
    bar: Option<ProgressBar>,
    since_start: Stopwatch,
    since_line: Stopwatch,
}

impl ProgressView {
    /// Starts with a batch of this many numbers.
    pub(super) fn start(total: u32) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total.into()), ProgressDrawTarget::stderr());
        let bar = (!bar.is_hidden()).then_some(bar);
        if let Some(bar) = &bar {
            bar.set_style(
                ProgressStyle::with_template(TEMPLATE)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.enable_steady_tick(TICK);
        }
        Self {
            bar,
            since_start: Stopwatch::start(),
            since_line: Stopwatch::start(),
        }
    }

    /// Shows the progress.
    pub(super) fn show(&mut self, tally: &BatchTally) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(self.words(tally));
                bar.set_position(tally.done().into());
            }
            None if tally.left() == 0 || self.since_line.elapsed() >= LINE_EVERY => {
                self.since_line = Stopwatch::start();
                let words = self.words(tally);
                say(format_args!(
                    "{} of {}{words}",
                    tally.done(),
                    numbers(tally.started.distinct)
                ));
            }
            None => {}
        }
    }

    /// Reports a number without an answer, in a line of its own.
    pub(super) fn show_result(&self, result: &pb::PrefetchResult) {
        if !is_problem(result) {
            return;
        }
        let line = problem(result);
        match &self.bar {
            Some(bar) => bar.println(line),
            None => say(line),
        }
    }

    /// The speed, the remaining time, and the results. The last may be cut off on a narrow
    /// terminal.
    fn words(&self, tally: &BatchTally) -> String {
        let mut words = String::new();
        let rate =
            f64::from(tally.looked_up()) / self.since_start.elapsed().as_secs_f64().max(0.001);
        if rate > 0.0 {
            words += &format!(", {rate:.0}/s");
        }
        if rate > 0.0 && tally.left() > 0 {
            // At least one was done and at most 10,000 are left, so the duration cannot overflow.
            let left = Duration::from_secs_f64((f64::from(tally.left()) / rate).ceil());
            words += &format!(", {} left", humantime::format_duration(left));
        }
        words + ": " + &tally.outcomes()
    }
}

/// A number without an answer, and why.
pub(super) fn problem(result: &pb::PrefetchResult) -> String {
    let what = if result.outcome() == pb::PrefetchOutcome::InvalidNumber {
        "is invalid"
    } else {
        "failed"
    };
    let reason = with_options(&result.reason);
    format!("{} {what}: {reason}", printable(&result.phone_number))
}

impl Drop for ProgressView {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_from_a_file_cannot_command_the_terminal() {
        let result = pb::PrefetchResult {
            phone_number: "+1\u{1b}]0;owned\u{7}\u{9b}2J\r\n555".to_owned(),
            outcome: pb::PrefetchOutcome::InvalidNumber.into(),
            reason: "is not a telephone number".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            problem(&result),
            "+1 ]0;owned  2J  555 is invalid: is not a telephone number"
        );
    }
}
