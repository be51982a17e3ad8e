//! The connection in use, and what is known of it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::connect::RedisConnection;
use super::doubt::Doubt;

/// Whether calls can be made now.
#[derive(Clone)]
pub(super) enum ConnectionStatus {
    /// A first attempt is running: worth waiting for.
    Connecting,
    /// There is a connection that works, as far as known.
    Up(Arc<LiveConnection>),
    /// The last attempt failed.
    Down,
}

impl ConnectionStatus {
    /// Returns whether callers use this connection.
    pub(super) fn is_up_on(&self, live: &Arc<LiveConnection>) -> bool {
        matches!(self, Self::Up(current) if Arc::ptr_eq(current, live))
    }
}

/// A connection, and what is known of it.
pub(super) struct LiveConnection {
    pub(super) connection: RedisConnection,
    /// Which connection of this process it is, counted from 1.
    pub(super) number: u64,
    pub(super) doubt: Doubt,
    /// The code of a refusal that affects more than one key.
    refusing: Mutex<Option<&'static str>>,
    /// Wakes the keeper when a doubt or a refusal begins.
    pub(super) changed: Notify,
}

impl LiveConnection {
    pub(super) fn new(connection: RedisConnection, number: u64) -> Self {
        Self {
            connection,
            number,
            doubt: Doubt::default(),
            refusing: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// The code of its refusal, if that affects more than one key.
    pub(super) fn refusing(&self) -> Option<&'static str> {
        *self.refusing.lock()
    }

    /// It refused something when it was made: the keeper already knows.
    pub(super) fn refused_at_connect(&self) {
        *self.refusing.lock() = Some("at connect");
    }

    /// Records a refusal, and wakes the keeper for the first one.
    pub(super) fn refuses(&self, code: &'static str) {
        if self.refusing.lock().replace(code).is_none() {
            self.changed.notify_one();
        }
    }

    /// Records a call without an answer, and wakes the keeper.
    pub(super) fn leaves_unanswered(&self) {
        self.doubt.unanswered();
        self.changed.notify_one();
    }
}

/// Gives this connection up, unless it was already replaced.
pub(super) fn give_up(
    status: &watch::Sender<ConnectionStatus>,
    live: &Arc<LiveConnection>,
    next: ConnectionStatus,
) {
    status.send_if_modified(|status| {
        let current = status.is_up_on(live);
        if current {
            *status = next;
        }
        current
    });
}
