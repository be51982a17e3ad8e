//! Replays a call log through the policy of a daemon, in virtual time: what a log would cost.
//!
//! What is decided is decided by the daemon's own rules: the key is the parsed number, `judge` and
//! `AgePolicy` give the age, `decide` the decision, `Credential::judge` the trust, the budget's own
//! count, pace and queue the turns of calls. Missing is what a log cannot tell: failures of the CRM
//! and of Redis, pauses after refusals, invalidations, prefetch, and changes of a contact.
//!
//! Events come in the order of their time, and nothing sleeps. Memory holds the log (16 bytes for
//! each call, 4 for each question), and for each replica and Redis about 120 bytes for each answer
//! that they hold.

mod crm;
mod figures;
mod fleet;
mod generate;
mod loads;
mod log;
mod replay;
mod stored;
mod terms;
mod tier;
mod variants;

pub(crate) use figures::{BUCKET, Bucket, ConnectorFigures, Figures, QuotaUse, Waits, share};
pub(crate) use generate::{CallGenerator, GeneratedCall, Profile};
pub(crate) use log::{CallLog, LogBuilder};
pub(crate) use stored::usual_answer_bytes;
pub(crate) use terms::{PlannedConnector, Terms};
pub(crate) use tier::TierPeak;
pub(crate) use variants::{Variant, run_all, variants};

#[cfg(test)]
mod tests;
