//! How far a credential is trusted, decided by a pure function from the age of its acceptance.

use std::time::Duration;

use crate::domain::Identity;

/// A verified credential is renewed after this part of `cache.admitted`, in tenths.
const RENEWED_FROM: u32 = 8;

/// Settings of admissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// How long a credential that the CRM accepted is trusted without asking again.
    pub admitted: Duration,
    /// How long its acceptance is remembered: longer than any answer is kept.
    pub remembered: Duration,
}

/// How far a credential is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The CRM accepted it a short time ago.
    Verified,
    /// The CRM accepted it, but it is time to ask again. It still counts if the CRM cannot be
    /// reached.
    Lapsed,
}

/// What is known of a credential that the CRM has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    /// Whose it is.
    pub identity: Identity,
    /// How far it is trusted.
    pub trust: Trust,
    /// Whether it is verified, but not for much longer.
    pub(crate) due: bool,
}

impl Credential {
    /// Judges a credential that the CRM accepted at this `age`; `None` if that is too old to count.
    #[must_use]
    pub(crate) fn judge(
        identity: Identity,
        age: Duration,
        config: AdmissionConfig,
    ) -> Option<Self> {
        let AdmissionConfig {
            admitted,
            remembered,
        } = config;
        let (trust, due) = if age < admitted {
            (Trust::Verified, age >= admitted / 10 * RENEWED_FROM)
        } else if age < remembered {
            (Trust::Lapsed, false)
        } else {
            return None;
        };
        Some(Self {
            identity,
            trust,
            due,
        })
    }

    /// Returns whether stored answers may be served under it without asking the CRM.
    #[must_use]
    pub(crate) fn is_verified(&self) -> bool {
        self.trust == Trust::Verified
    }
}
