//! Watches the certificates in use: new files are taken into use, and a coming expiry is logged.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;

use super::validity::Expiry;
use super::{Error, Tls};
use crate::clock::{self, Clock, Stopwatch};

/// How often the files are checked. They are small, and nobody notices this delay for a new
/// certificate.
const LOOK: Duration = Duration::from_secs(2);

/// A certificate that expires within this time is logged.
const SOON_SECONDS: i64 = 30 * 24 * 3600;

/// How often that is logged.
const REPORT: Duration = Duration::from_secs(24 * 3600);

/// Checks the files and replaces the certificates in use.
pub(crate) struct Watch {
    tls: Tls,
    clock: Arc<dyn Clock>,
    /// `contactd_tls_certificate_expires_seconds`
    expires: Gauge,
    /// The fault of the last check, and how many checks in a row have had it.
    doubt: Option<(Error, u32)>,
    /// By the setting that names the file.
    reminders: BTreeMap<&'static str, Reminder>,
}

/// When to log the expiry: when it is near, when it is past, and every day after that.
#[derive(Debug, Default)]
struct Reminder(Option<(End, Stopwatch)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Soon,
    Past,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// A watch over the certificates in use. `expires` shows their remaining seconds.
    #[must_use]
    pub(crate) fn new(tls: Tls, clock: Arc<dyn Clock>, expires: Gauge) -> Self {
        Self {
            tls,
            clock,
            expires,
            doubt: None,
            reminders: BTreeMap::new(),
        }
    }

    /// Checks the files periodically, until the runtime ends.
    pub(crate) async fn run(mut self) {
        loop {
            self.report_ends();
            clock::sleep(LOOK).await;
            let tls = self.tls.clone();
            // On another thread, because the files may be on a disk that does not respond.
            match tokio::task::spawn_blocking(move || tls.look_again()).await {
                Ok(looked) => self.report(looked),
                Err(broken) if broken.is_panic() => resume_unwind(broken.into_panic()),
                // The runtime ends.
                Err(_) => return,
            }
        }
    }

    fn report(&mut self, looked: Result<bool, Error>) {
        match looked {
            Ok(changed) => {
                self.doubt = None;
                if changed {
                    tracing::info!(
                        "grpc.tls: the certificates were replaced; new connections use the new ones"
                    );
                }
            }
            Err(error) => {
                let times = self
                    .doubt
                    .take()
                    .filter(|(before, _)| *before == error)
                    .map_or(1, |(_, times)| times + 1);
                // Files that are being replaced do not match for a moment, so the second check
                // decides, and logs once.
                if times == 2 {
                    tracing::warn!(%error, "new certificates cannot be used; the previous ones stay in use");
                }
                self.doubt = Some((error, times));
            }
        }
    }

    /// The metric shows the earliest expiry. Each file is logged separately.
    fn report_ends(&mut self) {
        let (endings, wall) = (self.tls.endings(), self.clock.wall());
        let left = |ending: &Expiry| ending.validity.seconds_left(wall);
        if let Some(earliest) = endings.iter().map(left).min() {
            self.expires.set(earliest);
        }
        for ending in &endings {
            let reminder = self.reminders.entry(ending.setting).or_default();
            if let Some(end) = reminder.due(left(ending)) {
                tell(*ending, end, left(ending));
            }
        }
    }
}

fn tell(ending: Expiry, end: End, left: i64) {
    let (setting, date) = (
        format!("grpc.tls.{}", ending.setting),
        ending.validity.end(),
    );
    match end {
        End::Past => tracing::error!(
            setting,
            expired = date,
            "a certificate in this file has expired, and stays in use: replace the file; \
             contactd reads it again by itself"
        ),
        End::Soon => tracing::warn!(
            setting,
            expires = date,
            days_left = left / (24 * 3600),
            "a certificate in this file expires soon: replace the file; contactd reads it again by itself"
        ),
    }
}

impl Reminder {
    /// What to log now about a certificate with this many seconds left.
    fn due(&mut self, left: i64) -> Option<End> {
        if left > SOON_SECONDS {
            self.0 = None;
            return None;
        }
        let end = if left < 0 { End::Past } else { End::Soon };
        if self.was_told(end) {
            return None;
        }
        self.0 = Some((end, Stopwatch::start()));
        Some(end)
    }

    /// Whether this was reported a short time ago.
    fn was_told(&self, end: End) -> bool {
        self.0
            .is_some_and(|(told, when)| told == end && when.elapsed() < REPORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_is_told_from_thirty_days_before_once_a_day_and_when_it_comes() {
        let (mut reminder, hour) = (Reminder::default(), Duration::from_secs(3600));
        assert_eq!(reminder.due(SOON_SECONDS + 1), None);
        assert_eq!(reminder.due(SOON_SECONDS), Some(End::Soon));
        assert_eq!(reminder.due(SOON_SECONDS - 2), None);
        clock::sleep(23 * hour).await;
        assert_eq!(reminder.due(1000), None);
        clock::sleep(hour).await;
        assert_eq!(reminder.due(1000), Some(End::Soon));
        assert_eq!(reminder.due(-1), Some(End::Past));
        assert_eq!(reminder.due(-3), None);
        assert_eq!(reminder.due(SOON_SECONDS * 2), None, "it was renewed");
        assert_eq!(reminder.due(5), Some(End::Soon));
    }
}
