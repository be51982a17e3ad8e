//! Look-ups that repeat one that was answered a moment ago. They should be hits.
//!
//! The share of hits among all look-ups depends on how many of them the machine carries, and on how
//! many calls the CRM has recently allowed. The share among repeats does not.

use std::collections::HashMap;
use std::time::Duration;

use contactd::clock::{self, Instant};
use parking_lot::Mutex;

use super::check::Asked;

/// For how long the answer must still be fresh when its look-up is repeated: the daemon may be slow
/// to read the request.
const LEFT_FRESH: Duration = Duration::from_millis(500);

/// What is stored about a number for a user.
#[derive(Debug, Default)]
struct Stored {
    /// When the latest invalidation began or ended.
    invalidated: Option<Instant>,
    /// By token: when the latest answer was loaded, and until when it is fresh. While the CRM does
    /// not say whose a token is, its answers are its own.
    answers: HashMap<String, (Instant, Instant)>,
}

/// The answers that replicas gave, by the claimed user and the number.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    stored: Mutex<HashMap<(usize, usize), Stored>>,
}

impl Repeats {
    /// An answer that was loaded at `loaded` and is fresh for `fresh`.
    pub(crate) fn answered(&self, asked: &Asked, loaded: Instant, fresh: Duration) {
        let mut stored = self.stored.lock();
        let stored = stored.entry((asked.user, asked.number)).or_default();
        let times = (loaded, loaded + fresh);
        stored.answers.insert(asked.token.clone(), times);
    }

    /// An invalidation begins or ends now.
    pub(crate) fn invalidates(&self, user: usize, numbers: &[usize]) {
        let mut stored = self.stored.lock();
        for number in numbers {
            stored.entry((user, *number)).or_default().invalidated = Some(clock::now());
        }
    }

    /// Whether a look-up repeats one whose answer is fresh and was not invalidated.
    pub(crate) fn repeats(&self, asked: &Asked) -> bool {
        let stored = self.stored.lock();
        let stored = stored.get(&(asked.user, asked.number));
        stored.is_some_and(|stored| stored.is_fresh(&asked.token, asked.began))
    }
}

impl Stored {
    fn is_fresh(&self, token: &str, now: Instant) -> bool {
        self.answers.get(token).is_some_and(|(loaded, until)| {
            let is_valid = self.invalidated.is_none_or(|at| at < *loaded);
            is_valid && now + LEFT_FRESH < *until
        })
    }
}
