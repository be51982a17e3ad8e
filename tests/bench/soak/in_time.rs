//! Judges whether a replica answered in time, and whether a failed call is a refusal of the daemon.

use std::error::Error as _;
use std::time::Duration;

use contactd::clock::{self, Instant};
use tonic::Status;

use super::Soak;
use super::verdicts::Wrong;

/// How much later than its deadline an answer may come, in addition to the delays of the machine.
const MARGIN: Duration = Duration::from_millis(250);
/// A failure that no replica has said.
pub(crate) const NO_REASON: &str = "no answer";
/// What the server's library says of a call that the daemon has not answered by its deadline.
pub(crate) const CUT_OFF: &str = "Cancelled";
/// A shorter deadline may be over before the daemon itself sees the call.
const SEEN_IN_TIME: Duration = Duration::from_secs(1);
/// Calls that may be cut off: the daemon's own time begins a little after the library's, and on a
/// starved machine so much later that the library's ends first.
const CUT_OFFS: usize = 5;

impl Soak {
    /// Judges whether a replica answered within a deadline.
    pub(crate) fn check_deadline(
        &self,
        replica: usize,
        began: Instant,
        received: Instant,
        deadline: Duration,
    ) {
        let late = (received - began).saturating_sub(deadline + MARGIN);
        if late.is_zero() {
            return;
        }
        let own = self.lateness.longest(began, received);
        let waited = self.replicas[replica].waited_for_processor(began);
        if self.troubles.replica_was_down(replica, began, received) {
            self.verdicts.count("late: the replica was down");
        } else if late <= 2 * own + waited {
            self.verdicts.count("late: the machine was starved");
        } else {
            let what = format!(
                "{late:?} after {deadline:?}; it waited {waited:?} for a processor, and this \
                 process was {own:?} late"
            );
            self.verdicts.wrong(Wrong::Late, Some(replica), what);
        }
    }

    /// Judges a call that was cut off at its deadline: the daemon should have refused it before.
    /// Few may be, compared with those that it refuses.
    pub(crate) fn check_cut_off(
        &self,
        replica: usize,
        began: Instant,
        received: Instant,
        deadline: Duration,
    ) {
        if deadline < SEEN_IN_TIME || self.troubles.replica_was_down(replica, began, received) {
            return;
        }
        self.verdicts.count("cut off at its deadline");
        let cut_off = self.verdicts.counted("cut off at its deadline");
        let refused = self.verdicts.counted("refused: DEADLINE_EXCEEDED");
        if cut_off > CUT_OFFS && cut_off * 10 > refused {
            let what = format!("{cut_off} calls were cut off, {refused} refused in time");
            self.verdicts.wrong(Wrong::Late, Some(replica), what);
        }
    }

    /// Counts a failed call, and judges whether the daemon has refused it. Returns the reason.
    pub(crate) fn refused(&self, replica: usize, began: Instant, status: &Status) -> String {
        use tonic_types::StatusExt as _;
        if let Some(info) = status.get_details_error_info() {
            self.verdicts.count(&format!("refused: {}", info.reason));
            return info.reason;
        }
        if status.metadata().contains_key("content-type") {
            let reason = format!("{:?}", status.code());
            self.verdicts.count(&format!("refused: {reason}"));
            return reason;
        }
        if self.troubles.replica_was_down(replica, began, clock::now()) {
            self.verdicts.count("no answer: the replica was down");
        } else if connection_was_ending(status) {
            self.verdicts.count("not sent: the connection was ending");
        } else {
            self.verdicts
                .wrong(Wrong::Unreachable, Some(replica), format!("{status:?}"));
        }
        NO_REASON.to_owned()
    }
}

/// Whether the replica had said that it ends the connection before the call was sent. HTTP/2 lets a
/// client send the call again; this one leaves that to its caller.
fn connection_was_ending(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let is_orderly = error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_go_away() && error.is_remote() && is_orderly;
        }
        cause = error.source();
    }
    false
}
