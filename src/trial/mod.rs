//! Tries a connector: look-ups of one connector without daemon, cache and Redis.
//!
//! The connector, the search, the judging of records and the loading of details are those of the
//! daemon, over real HTTP. Each look-up begins with an empty memory: nothing that an earlier one
//! learned changes its calls. A recorder keeps what happened.
//!
//! The other end is the CRM, or recordings of it (`replay`), or nobody (a dry run). `cases`
//! compares look-ups with what is expected; `record` writes recordings without personal data.

mod caller;
mod cases;
mod compare;
mod expect;
mod expected;
mod leaks;
mod nearest;
mod phones;
mod prune;
mod record;
mod recorder;
mod recording;
mod replay;
mod run;
mod scrub;
mod subject;

pub(crate) use caller::Caller;
pub(crate) use cases::{CaseReport, Outcome, case_directories, run_case};
pub(crate) use phones::PhonesSeen;
pub(crate) use record::record;
pub(crate) use recorder::{CallEnding, Seen, SeenCall, SeenRecord};
pub(crate) use recording::read_recordings;
pub(crate) use replay::Replay;
pub(crate) use run::{LookUp, OtherEnd, Trial, TrialError};
pub(crate) use subject::{FaultText, Subject, SubjectError, unread};

pub(crate) use crate::connector::{CallCount, RequestSheet, Sheet, schema};
pub(crate) use crate::domain::{Contact, LookupError, NumberFormat, Region, WhoAmI};
