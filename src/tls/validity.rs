//! The validity period of a certificate.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::time::Time;

use crate::domain::Timestamp;

/// The first and the last moment of validity, by the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    from: Timestamp,
    pub(super) to: Timestamp,
}

/// The certificate of a file that expires first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry {
    /// The setting that names the file: cert or client_ca.
    pub(super) setting: &'static str,
    pub(super) validity: Validity,
}

/// Why a certificate is not valid at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invalid {
    Expired(Timestamp),
    NotYet(Timestamp),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(at) => write!(f, "expired at {}", date(*at)),
            Self::NotYet(at) => write!(f, "is not valid before {}", date(*at)),
        }
    }
}

fn timestamp(time: Time) -> Option<Timestamp> {
    let millis = time.to_unix_duration().as_millis();
    u64::try_from(millis).ok().map(Timestamp)
}

impl Validity {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let validity = certificate.tbs_certificate().validity();
        Some(Self {
            from: timestamp(validity.not_before)?,
            to: timestamp(validity.not_after)?,
        })
    }

    pub(super) fn check(self, wall: Timestamp) -> Result<(), Invalid> {
        if wall > self.to {
            return Err(Invalid::Expired(self.to));
        }
        if wall < self.from {
            return Err(Invalid::NotYet(self.from));
        }
        Ok(())
    }

    /// Seconds until it expires; negative afterwards.
    pub(super) fn seconds_left(self, wall: Timestamp) -> i64 {
        let seconds = |time: Timestamp| i64::try_from(time.0 / 1000).unwrap_or(i64::MAX);
        seconds(self.to) - seconds(wall)
    }

    pub(super) fn end(self) -> String {
        date(self.to)
    }
}

/// In UTC, to the second.
fn date(at: Timestamp) -> String {
    // The last moment whose year has four digits. Later moments are printed as this one.
    const LAST: u64 = 253_402_300_799_000;
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(at.0.min(LAST)))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_valid_from_its_first_moment_to_its_last() {
        let validity = Validity {
            from: Timestamp(2_000),
            to: Timestamp(9_000),
        };
        assert_eq!(
            validity.check(Timestamp(1_999)),
            Err(Invalid::NotYet(Timestamp(2_000)))
        );
        assert!(
            validity.check(Timestamp(2_000)).is_ok() && validity.check(Timestamp(9_000)).is_ok()
        );
        assert_eq!(
            validity.check(Timestamp(9_001)),
            Err(Invalid::Expired(Timestamp(9_000)))
        );
        assert_eq!(
            [1_000, 8_000, 11_500].map(|now| validity.seconds_left(Timestamp(now))),
            [8, 1, -2]
        );
    }

    #[test]
    fn any_date_can_be_written() {
        assert_eq!(date(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert_eq!(date(Timestamp(u64::MAX)), "9999-12-31T23:59:59Z");
    }
}
