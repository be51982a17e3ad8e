//! What happens during one look-up that somebody watches: the calls to the CRM, and the verdict of
//! each record.
//!
//! Keeps no header, no parameter, no body, and nothing of a record but its id.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::connector::{Ending, Event, Witness};

/// The most calls that are kept, and the most records. Further ones are counted.
const MOST: usize = 200;

/// One call to the CRM.
#[derive(Debug, Clone)]
pub(crate) struct ObservedCall {
    pub(crate) method: &'static str,
    /// The path after the base address, without values.
    pub(crate) path: String,
    /// `None` if no reply came.
    pub(crate) status: Option<u16>,
    pub(crate) took: Duration,
    /// Bytes of the reply's body that were read.
    pub(crate) bytes: usize,
}

/// One record that a search returned, and what became of it.
#[derive(Clone)]
pub(crate) struct ObservedRecord {
    pub(crate) id: String,
    /// In the words of the public contract.
    pub(crate) verdict: &'static str,
    /// A sentence without a value of the record.
    pub(crate) because: String,
}

/// The calls and records so far, in their order.
#[derive(Clone, Default)]
pub(crate) struct Observations {
    pub(crate) calls: Vec<ObservedCall>,
    pub(crate) records: Vec<ObservedRecord>,
    /// Further ones that are only counted.
    pub(crate) calls_left_out: u32,
    pub(crate) records_left_out: u32,
}

/// Watches one look-up. Clones watch the same one.
#[derive(Clone, Default)]
pub(crate) struct Observer(Arc<Mutex<Observations>>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer(…)")
    }
}

impl Observer {
    /// Everything so far. Calls that are still running are not included.
    #[must_use]
    pub(crate) fn so_far(&self) -> Observations {
        self.0.lock().clone()
    }

    pub(super) fn witness(&self) -> Arc<dyn Witness> {
        Arc::new(self.clone())
    }
}

impl Witness for Observer {
    fn see(&self, event: Event<'_>) {
        let mut seen = self.0.lock();
        match event {
            Event::Call(_) if seen.calls.len() >= MOST => seen.calls_left_out += 1,
            Event::Call(call) => {
                let (status, bytes) = match &call.ending {
                    Ending::Reply(reply) => (Some(reply.status), reply.bytes),
                    Ending::Dry | Ending::Failed(_) => (None, 0),
                };
                seen.calls.push(ObservedCall {
                    method: call.method,
                    path: call.path.to_owned(),
                    status,
                    took: call.took,
                    bytes,
                });
            }
            Event::Judged { .. } if seen.records.len() >= MOST => seen.records_left_out += 1,
            Event::Judged { record, verdict } => seen.records.push(ObservedRecord {
                id: record.contact.id.clone(),
                verdict: verdict.label(),
                because: verdict.to_string(),
            }),
            Event::NotAsked { .. } => {}
        }
    }
}
