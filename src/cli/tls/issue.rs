//! The authority, and the certificates that it issues.

use std::time::Duration;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use secrecy::SecretString;

use crate::domain::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the authority is valid.
const AUTHORITY_DAYS: u32 = 3650;

/// A certificate and its key in PEM format.
pub(super) struct Pair {
    pub(super) cert: String,
    pub(super) key: SecretString,
}

/// An authority that is made now and only signs.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    now: Timestamp,
}

impl Authority {
    pub(super) fn new(now: Timestamp) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        let name = "contactd authority";
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, AUTHORITY_DAYS);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer, now })
    }

    pub(super) fn pair(&self) -> Pair {
        Pair {
            cert: self.issuer.pem(),
            key: self.issuer.key().serialize_pem().into(),
        }
    }

    /// A certificate for a server with these names and addresses.
    pub(super) fn server(&self, names: &[String], days: u32) -> anyhow::Result<Pair> {
        let params = CertificateParams::new(names).with_context(|| {
            format!("no certificate can have these names: {}", names.join(", "))
        })?;
        let name = names.first().map_or("contactd", String::as_str);
        self.issue(params, name, ExtendedKeyUsagePurpose::ServerAuth, days)
    }

    /// A certificate for a client with this name.
    pub(super) fn client(&self, name: &str, days: u32) -> anyhow::Result<Pair> {
        let params = CertificateParams::new(Vec::new())?;
        self.issue(params, name, ExtendedKeyUsagePurpose::ClientAuth, days)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
        days: u32,
    ) -> anyhow::Result<Pair> {
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, self.now, days);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Pair {
            cert: cert.pem(),
            key: key.serialize_pem().into(),
        })
    }
}

/// From a day ago, because clocks differ, until in `days`.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: u32) {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_millis(now.0);
    params.not_before = now - DAY;
    params.not_after = now + DAY * days;
}
