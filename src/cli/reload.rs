//! SIGHUP: reads the settings file again, and applies what can change at run time.

use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::app::Reload;
use crate::config::{self, Effective, Fault, Grpc};
use crate::lifecycle::Hangups;
use crate::telemetry::Volume;
use crate::tls::Tls;

/// The settings of a running daemon, and the modules that apply new ones.
pub(super) struct Again {
    path: PathBuf,
    /// The settings at start.
    started: Effective,
    /// The last settings without a fault.
    latest: Effective,
    /// The current settings of `[grpc]`.
    grpc: Grpc,
    reload: Reload,
    volume: Volume,
}

/// Reads the settings at each SIGHUP, and never returns. Without a settings file a SIGHUP changes
/// nothing.
///
/// # Errors
/// If reading them panicked.
pub(super) async fn reload_on(
    hangups: &mut Hangups,
    mut again: Option<Again>,
) -> anyhow::Result<Infallible> {
    loop {
        hangups.next().await;
        let Some(mut settings) = again.take() else {
            tracing::info!(
                "SIGHUP: the daemon was started without --config: there is nothing to read again"
            );
            continue;
        };
        // On a thread that may block: the file may be a pipe, or on a disk that does not respond.
        // Meanwhile the daemon serves, and can be stopped.
        let read = tokio::task::spawn_blocking(move || {
            settings.read();
            settings
        });
        again = Some(read.await.context("the settings were not read again")?);
    }
}

impl Again {
    /// For a daemon that was started with the settings in `path`.
    pub(super) fn new(path: PathBuf, started: Effective, reload: Reload, volume: Volume) -> Self {
        Self {
            path,
            latest: started.clone(),
            grpc: started.config.grpc.clone(),
            started,
            reload,
            volume,
        }
    }

    fn read(&mut self) {
        let read = fs::read_to_string(&self.path)
            .map_err(|error| {
                vec![Fault {
                    path: String::new(),
                    message: format!("the file cannot be read: {error}"),
                }]
            })
            .and_then(|text| config::read_beside(self.reload.tls(), &text, config::environment()));
        let applied = read.and_then(|new| {
            let unusable = |error: crate::tls::Error| {
                vec![Fault {
                    path: format!("grpc.tls.{}", error.setting),
                    message: error.message,
                }]
            };
            let grpc = self
                .grpc
                .reloaded(&new.config.grpc)
                .map_err(|fault| vec![fault])?;
            let changes = self.started.changes(&new);
            self.reload
                .apply(&new.config, &grpc, &changes)
                .map_err(unusable)
                .map(|replaced| (new, grpc, replaced))
        });
        match applied {
            Ok((new, grpc, replaced)) => self.take_up(new, grpc, replaced),
            Err(faults) => {
                for fault in faults {
                    tracing::error!(setting = fault.path, "SIGHUP: {}", fault.message);
                }
                tracing::error!(file = %self.path.display(), "SIGHUP: the settings have faults; nothing was changed");
            }
        }
    }

    /// Applies the settings of the log; the other settings are applied already. Logs what has
    /// changed and what needs a restart.
    fn take_up(&mut self, new: Effective, grpc: Grpc, replaced: bool) {
        self.warn(&new, &grpc);
        let mut changed = self.started.applied(&self.latest, &new);
        if replaced
            && !changed
                .iter()
                .any(|setting| setting.starts_with("grpc.tls"))
        {
            changed.push("grpc.tls".to_owned());
        }
        let log = &new.config.log;
        self.volume.set(&log.level, log.lookups);
        if self.volume.is_fixed() && changed.iter().any(|setting| setting == "log.level") {
            tracing::warn!(
                setting = "log.level",
                "SIGHUP: log.level has no effect: --log-level or CONTACTD_LOG decides what is logged"
            );
        }
        report(&changed);
        (self.latest, self.grpc) = (new, grpc);
    }

    /// Warns of what works and should be known, and of what waits for a restart.
    fn warn(&self, new: &Effective, grpc: &Grpc) {
        for warning in &new.warnings {
            tracing::warn!(setting = warning.path, "{}", warning.message);
        }
        for warning in grpc.warnings() {
            tracing::warn!("{warning}");
        }
        for expired in self.reload.tls().map(Tls::expired).unwrap_or_default() {
            tracing::error!(
                setting = format!("grpc.tls.{}", expired.setting),
                "SIGHUP: {}",
                expired.message
            );
        }
        for setting in self.started.changes(new).waiting {
            tracing::warn!(
                setting,
                "SIGHUP: this setting cannot change at run time; it waits for a restart"
            );
        }
    }
}

fn report(changed: &[String]) {
    if changed.is_empty() {
        tracing::info!("SIGHUP: the settings were read again; nothing changed");
    } else {
        let changed = changed.join(", ");
        tracing::info!(changed, "SIGHUP: the settings were read again");
    }
}
