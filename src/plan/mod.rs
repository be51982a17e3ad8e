//! Replays a call log through the policy of a daemon, in virtual time: what a log would cost.
//!
//! The daemon's own rules decide: the key is the parsed number, `judge` and `AgePolicy` decide
//! about ages, `decide` about what a look-up does, and `Credential::judge` about trust. The
//! budget's own count, pace and queue decide when a call has its turn. A replay lacks what a log
//! does not show: failures of the CRM and of Redis, pauses after refusals, invalidations, prefetch,
//! and changes of a contact.
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
