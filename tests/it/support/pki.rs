//! Certificates made at run time, and clients that use them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contactd::clock::{Clock as _, SystemClock};
use contactd::grpc::client::ContactServiceClient;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity};

/// An authority that issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key in PEM format.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::valid(i64::from(i32::MIN), i64::from(i32::MAX))
    }

    /// The same, valid from so many seconds from now, to so many.
    pub(crate) fn valid(from: i64, to: i64) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        set_validity(&mut params, from, to);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The authority's own certificate, in a place where a server's belongs.
    pub(crate) fn own(&self) -> Pair {
        Pair {
            cert: self.0.pem(),
            key: self.0.key().serialize_pem(),
        }
    }

    /// A certificate for these DNS names, with a common name.
    pub(crate) fn issue(&self, dns_names: &[&str], common_name: &str) -> Pair {
        self.issue_for(
            dns_names,
            common_name,
            i64::from(i32::MIN),
            i64::from(i32::MAX),
        )
    }

    /// The same, valid from so many seconds from now, to so many.
    pub(crate) fn issue_for(
        &self,
        dns_names: &[&str],
        common_name: &str,
        from: i64,
        to: i64,
    ) -> Pair {
        let names: Vec<String> = dns_names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        set_validity(&mut params, from, to);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn set_validity(params: &mut CertificateParams, from: i64, to: i64) {
    let now = i64::try_from(SystemClock::start().wall().0 / 1000).unwrap();
    let at = |seconds: i64| {
        let since_1970 = u64::try_from(now + seconds).unwrap_or(0);
        date_time_ymd(1970, 1, 1) + Duration::from_secs(since_1970)
    };
    (params.not_before, params.not_after) = (at(from), at(to));
}

/// A folder with the files of a server.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    pub(crate) fn new(server: &Pair, client_ca: Option<&Authority>) -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        files.replace(server);
        if let Some(authority) = client_ca {
            std::fs::write(files.path("ca.pem"), authority.pem()).unwrap();
        }
        files
    }

    pub(crate) fn replace(&self, server: &Pair) {
        std::fs::write(self.path("cert.pem"), &server.cert).unwrap();
        std::fs::write(self.path("key.pem"), &server.key).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Section `grpc` with these files, and the client authority where there is one.
    pub(crate) fn toml(&self) -> String {
        let shown = |path: &Path| path.display().to_string();
        let (cert, key, ca) = (
            shown(&self.path("cert.pem")),
            shown(&self.path("key.pem")),
            self.path("ca.pem"),
        );
        let ca = if ca.exists() {
            format!(", client_ca = \"{}\"", shown(&ca))
        } else {
            String::new()
        };
        format!("[grpc]\ntls = {{ cert = \"{cert}\", key = \"{key}\"{ca} }}\n")
    }
}

/// A client that trusts `authority` and shows `identity`.
pub(crate) async fn connect(
    addr: SocketAddr,
    authority: &Authority,
    identity: Option<&Pair>,
) -> Result<ContactServiceClient<Channel>, Error> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    if let Some(pair) = identity {
        tls = tls.identity(Identity::from_pem(&pair.cert, &pair.key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{addr}"))
        .unwrap()
        .tls_config(tls)
        .unwrap();
    Ok(ContactServiceClient::new(endpoint.connect().await?))
}
