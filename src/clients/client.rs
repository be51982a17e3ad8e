//! One service that may call: what it may ask for, and its limits.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::ClientConfig;
use super::room::{Room, RoomPlace};
use crate::clock::EachPerMinute;
use governor::clock::Clock as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// One service that may call.
pub(crate) struct Client {
    config: ClientConfig,
    rate: Option<Arc<DefaultDirectRateLimiter>>,
    in_flight: Option<Room>,
    refusals: EachPerMinute<&'static str>,
}

/// A place among the running calls of a client, given back on drop.
#[derive(Debug)]
pub(crate) struct CallPlace(
    #[expect(dead_code, reason = "held, and given back when dropped")] Option<RoomPlace>,
);

/// Why a call of a known client is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    /// It already has as many running calls as are allowed.
    #[error("this client has too many calls in flight")]
    InFlight,
    /// It called too often.
    #[error("this client calls too often")]
    Rate {
        /// When it may call again.
        wait: Duration,
    },
}

/// What a client asked for without permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Forbidden {
    /// The platform is not on its list.
    #[error("this client may not use this user.platform")]
    Platform,
    /// The account is not on its list.
    #[error("this client may not use this user.account_id")]
    Account,
    /// The shared login, from another machine.
    #[error(
        "auth_header is required: without grpc.tokens, connectors.NAME.credential is for clients on the daemon's \
         machine"
    )]
    SharedLogin,
    /// The request needs a credential of the settings, or invalidates answers, but addresses the
    /// daemon by a name that is not this machine's.
    #[error(
        "the request addresses the daemon by an unknown name; without grpc.tokens, only requests to localhost, \
         127.0.0.1, [::1] or a name in grpc.hostnames may use the daemon's own credentials or invalidate answers"
    )]
    Hostname,
}

impl Forbidden {
    /// What is logged at most once a minute.
    fn kind(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Account => "account",
            Self::SharedLogin => "shared login",
            Self::Hostname => "hostname",
        }
    }
}

impl Client {
    /// The client of `config`. It continues the counts of the client with the same name in
    /// `before`, for those limits that are unchanged.
    pub(super) fn continuing(config: &ClientConfig, before: &[Arc<Self>]) -> Self {
        let before = before.iter().find(|before| before.name() == config.name);
        let same_rate = before.filter(|before| before.config.rate == config.rate);
        let same_most = before.filter(|before| before.config.max_in_flight == config.max_in_flight);
        Self {
            rate: same_rate.map_or_else(
                || config.rate.map(limiter).map(Arc::new),
                |before| before.rate.clone(),
            ),
            in_flight: same_most.map_or_else(
                || config.max_in_flight.map(Room::new),
                |before| before.in_flight.clone(),
            ),
            config: config.clone(),
            refusals: EachPerMinute::default(),
        }
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Its name in logs.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Counts a call. A refusal is logged.
    ///
    /// # Errors
    /// If the client may not make or run another call now.
    pub(crate) fn enter(&self) -> Result<CallPlace, Excess> {
        self.take_place().inspect_err(|excess| {
            let kind = match excess {
                Excess::InFlight => "in flight",
                Excess::Rate { .. } => "rate",
            };
            self.log_refusal(kind, excess);
        })
    }

    fn take_place(&self) -> Result<CallPlace, Excess> {
        let place = match &self.in_flight {
            Some(room) => Some(room.enter().ok_or(Excess::InFlight)?),
            None => None,
        };
        if let Some(rate) = &self.rate {
            rate.check().map_err(|until| Excess::Rate {
                wait: until.wait_time_from(rate.clock().now()),
            })?;
        }
        Ok(CallPlace(place))
    }

    /// Checks that the client may ask this. A refusal is logged.
    ///
    /// # Errors
    /// If a list of the client does not contain it.
    pub(crate) fn may_ask(&self, platform: &str, account: &str) -> Result<(), Forbidden> {
        self.check_lists(platform, account)
            .inspect_err(|forbidden| self.log_refusal(forbidden.kind(), forbidden))
    }

    fn check_lists(&self, platform: &str, account: &str) -> Result<(), Forbidden> {
        if !names(self.config.platforms.as_deref(), platform) {
            return Err(Forbidden::Platform);
        }
        if !names(self.config.accounts.as_deref(), account) {
            return Err(Forbidden::Account);
        }
        Ok(())
    }

    fn log_refusal(&self, kind: &'static str, reason: &dyn fmt::Display) {
        self.refusals.log(kind, |suppressed| {
            tracing::info!(
                client = self.name(),
                %reason,
                suppressed,
                "a call from a known client was refused"
            );
        });
    }
}

/// Returns whether the list contains `name`. Without a list every name is permitted.
fn names(list: Option<&[String]>, name: &str) -> bool {
    list.is_none_or(|list| list.iter().any(|listed| listed == name))
}

fn limiter(rate: NonZeroU32) -> DefaultDirectRateLimiter {
    RateLimiter::direct(Quota::per_second(rate))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.config.name)
            .finish_non_exhaustive()
    }
}
