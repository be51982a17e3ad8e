//! The counts of a batch: from its events while it runs, and from the daemon's summary at the end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::numbers;
use crate::pb::v1 as pb;
use crate::proto_json;
use pb::PrefetchOutcome as Outcome;
use pb::prefetch_contacts_response::Event;

/// A batch so far.
#[derive(Debug, Default)]
pub(in crate::cli) struct BatchTally {
    pub(in crate::cli) started: pb::PrefetchStarted,
    /// Counted here, until the daemon sends its summary.
    pub(in crate::cli) counts: pb::PrefetchFinished,
    /// Whether the daemon has sent its summary.
    pub(in crate::cli) finished: bool,
    /// Results of numbers that are invalid or failed.
    problems: Vec<pb::PrefetchResult>,
    /// How many of them were never sent to the daemon.
    unsent: u32,
}

impl BatchTally {
    /// A batch, together with the results of numbers that were not sent to the daemon.
    pub(super) fn beside(unsent: Vec<pb::PrefetchResult>) -> Self {
        let mut tally = Self::default();
        for result in unsent {
            tally.unsent += 1;
            tally.take_result(result);
        }
        tally
    }

    /// Returns whether any event has arrived.
    pub(super) fn has_begun(&self) -> bool {
        let has_result = self.done() > self.unsent;
        self.started != pb::PrefetchStarted::default() || has_result || self.finished
    }

    /// Counts an event.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Started(started) => {
                self.started = started;
                self.started.requested += self.unsent;
                self.started.distinct += self.unsent;
            }
            Event::Result(result) => self.take_result(result),
            Event::Finished(counts) => {
                (self.counts, self.finished) = (counts, true);
                self.counts.invalid += self.unsent;
            }
        }
    }

    fn take_result(&mut self, result: pb::PrefetchResult) {
        let counts = &mut self.counts;
        match result.outcome() {
            Outcome::Found => counts.found += 1,
            Outcome::NotFound => counts.not_found += 1,
            Outcome::AlreadyCached => counts.already_cached += 1,
            Outcome::InvalidNumber => counts.invalid += 1,
            // An outcome of a later version is at least not known to be a success.
            Outcome::Failed | Outcome::Unspecified => counts.failed += 1,
        }
        if is_problem(&result) {
            self.problems.push(result);
        }
    }

    /// Numbers with a result.
    pub(super) fn done(&self) -> u32 {
        let counts = &self.counts;
        self.looked_up() + counts.already_cached + counts.invalid
    }

    /// Numbers for which the CRM was asked.
    pub(super) fn looked_up(&self) -> u32 {
        self.counts.found + self.counts.not_found + self.counts.failed
    }

    /// Numbers without a result.
    pub(super) fn left(&self) -> u32 {
        self.started.distinct.saturating_sub(self.done())
    }

    /// Whether each number has its answer.
    pub(super) fn is_complete(&self) -> bool {
        self.finished && self.counts.failed == 0 && self.counts.invalid == 0 && self.left() == 0
    }

    /// The results of the numbers, in words.
    pub(super) fn outcomes(&self) -> String {
        let counts = &self.counts;
        let mut parts = vec![format!(
            "{} found, {} not found",
            counts.found, counts.not_found
        )];
        for (count, what) in [
            (counts.already_cached, "already cached"),
            (counts.invalid, "invalid"),
            (counts.failed, "failed"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        parts.join(", ")
    }

    /// The progress of a batch that did not finish.
    pub(super) fn so_far(&self) -> String {
        match self.done() - self.unsent {
            0 => "No number was looked up.".to_owned(),
            _ => format!(
                "Done before that: {} of {} ({}). Those answers stay cached. Run the same command again \
                 to look up the rest.",
                self.done(),
                numbers(self.started.distinct),
                self.outcomes()
            ),
        }
    }

    /// The summary for a person.
    pub(in crate::cli) fn table(&self) -> String {
        let (started, counts) = (&self.started, &self.counts);
        let mut text = format!(
            "{}, {} different\n",
            numbers(started.requested),
            started.distinct
        );
        let mut row =
            |label: &str, value: String| text.push_str(&format!("  {label:<15} {value:>6}\n"));
        row("found", counts.found.to_string());
        row("not found", counts.not_found.to_string());
        row("already cached", counts.already_cached.to_string());
        row("invalid", counts.invalid.to_string());
        row("failed", counts.failed.to_string());
        if self.left() > 0 {
            row("not reached", self.left().to_string());
        }
        row("CRM calls", counts.crm_requests.to_string());
        row("time", format!("{:.1} s", self.elapsed().as_secs_f64()));
        text
    }

    /// How long the batch took.
    pub(in crate::cli) fn elapsed(&self) -> Duration {
        self.counts
            .elapsed
            .and_then(|elapsed| Duration::try_from(elapsed).ok())
            .unwrap_or_default()
    }

    /// The summary for a script: proto3 JSON of `PrefetchFinished`, the counts of the start, and
    /// what went wrong.
    pub(super) fn json(&self, error: Option<&str>) -> anyhow::Result<Value> {
        let mut summary = proto_json::to_json(&self.counts)?;
        let problem = |result: &pb::PrefetchResult| {
            json!({
                "phoneNumber": result.phone_number,
                "outcome": result.outcome().as_str_name(),
                "reason": result.reason,
            })
        };
        summary["requested"] = self.started.requested.into();
        summary["distinct"] = self.started.distinct.into();
        summary["complete"] = self.is_complete().into();
        summary["problems"] = self.problems.iter().map(problem).collect();
        summary["error"] = error.into();
        Ok(summary)
    }
}

/// Returns whether the number has no answer.
pub(super) fn is_problem(result: &pb::PrefetchResult) -> bool {
    matches!(
        result.outcome(),
        Outcome::InvalidNumber | Outcome::Failed | Outcome::Unspecified
    )
}
