//! The platforms that requests may name, each with its replies and counters.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::counts::PlatformCounters;
use super::error::Violation;
use super::replies::PlatformReplies;
use crate::connector::Platform;
use crate::metrics::Metrics;
use crate::pb::v1 as pb;

/// All platforms, by name.
pub(super) struct Platforms(HashMap<String, ServedPlatform>);

/// One platform.
pub(super) struct ServedPlatform {
    pub(super) platform: Arc<Platform>,
    pub(super) replies: PlatformReplies,
    pub(super) counters: PlatformCounters,
}

impl fmt::Debug for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Platforms {
    pub(super) fn new(platforms: Vec<Platform>, metrics: &Metrics) -> Self {
        let served = platforms.into_iter().map(|platform| {
            let name = platform.name().to_owned();
            let served = ServedPlatform {
                replies: PlatformReplies::new(&platform),
                counters: PlatformCounters::new(&name, metrics),
                platform: Arc::new(platform),
            };
            (name, served)
        });
        Self(served.collect())
    }

    /// The platform that a request names, and its user.
    pub(super) fn named<'a>(
        &self,
        user: Option<&'a pb::User>,
    ) -> Result<(&ServedPlatform, &'a pb::User), Violation> {
        let user = user.ok_or_else(|| Violation::new("user", "is required"))?;
        if user.platform.is_empty() {
            return Err(Violation::new("user.platform", "is required"));
        }
        match self.0.get(&user.platform) {
            Some(served) => Ok((served, user)),
            None => Err(Violation::new("user.platform", self.unknown())),
        }
    }

    fn unknown(&self) -> String {
        let mut known: Vec<&str> = self.0.keys().map(String::as_str).collect();
        known.sort_unstable();
        let known = known.join(", ");
        format!("is not a configured connector; configured: {known}")
    }
}
