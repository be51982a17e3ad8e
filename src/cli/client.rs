//! What the client commands share: the daemon's address, the user, and how failures are reported.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, TimeoutExpired};

use super::{Failure, words};
use crate::grpc::client::ContactServiceClient;
use crate::pb::v1 as pb;

mod address;
mod probe;
mod refusal;
mod unreached;

use address::ServerAddress;
use probe::ClientFiles;
pub(super) use refusal::{explain, with_options};
use unreached::Attempt;

/// The daemon's address if nothing else is given.
const SERVER: &str = "http://127.0.0.1:50051";

/// How long to wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for a connection, and for its TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);

/// How often a silent connection is pinged. Otherwise a batch would wait for ever for a machine
/// that is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(super) struct ClientArgs {
    /// The address of the daemon: a URL, or HOST:PORT. Without it, the variable CONTACTD_SERVER is
    /// used. [default: http://127.0.0.1:50051]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The connector, as the daemon's settings name it.
    #[arg(long, default_value = "example", value_name = "NAME")]
    platform: String,
    /// The id of the user. Answers are stored per id.
    #[arg(long, default_value = "cli", value_name = "ID")]
    user_id: String,
    /// The user's CRM account, if there is one.
    #[arg(long, default_value = "", value_name = "ID", hide_default_value = true)]
    account_id: String,
    /// The user's CRM host, such as acme.pipedrive.com.
    #[arg(
        long,
        default_value = "",
        value_name = "NAME",
        hide_default_value = true
    )]
    hostname: String,
    /// The country in which a number without a leading + is read, such as US.
    #[arg(long, default_value = "", value_name = "CC", hide_default_value = true)]
    region: String,
    /// A further number format to search for, such as "(###) ###-####"; can be repeated.
    #[arg(long = "format", value_name = "PATTERN")]
    formats: Vec<String>,
    /// A file with the Authorization header for the CRM. Without it, the variable
    /// CONTACTD_AUTH_HEADER is used; without both, the daemon's own login if it has
    /// connectors.NAME.credential. (There is no option for the header itself, because every user
    /// of a machine can see arguments.)
    #[arg(long, value_name = "FILE")]
    auth_header_file: Option<PathBuf>,
    /// A file with the client token for the daemon. Without it, the variables CONTACTD_TOKEN_FILE
    /// and CONTACTD_TOKEN are used. Required if the daemon has grpc.tokens, unless --cert-file is a
    /// certificate that is listed there.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authority (PEM) to trust for an https:// server, instead of the system's authorities.
    /// Without it, the variable CONTACTD_CA_FILE is used.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The client certificate (PEM). Required if the daemon has grpc.tls.client_ca. Without it, the
    /// variables CONTACTD_CERT_FILE and CONTACTD_KEY_FILE are used.
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// How long to wait for the answer, such as 500ms.
    /// [default: 30s; a batch may take as long as it needs]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    timeout: Option<Duration>,
}

impl ClientArgs {
    /// A connection to the daemon.
    pub(super) async fn connect(&self) -> Result<ContactServiceClient<Channel>, Failure> {
        let server = self.address()?;
        let endpoint = self.encrypted(&server)?;
        let channel = endpoint
            .connect_timeout(self.connect_limit())
            .tcp_keepalive(Some(KEEPALIVE))
            .connect()
            .await;
        let channel = channel.map_err(|error| self.unreached(&server, &error))?;
        Ok(ContactServiceClient::new(channel))
    }

    fn connect_limit(&self) -> Duration {
        self.timeout.unwrap_or(CONNECT).min(CONNECT)
    }

    fn address(&self) -> Result<ServerAddress, Failure> {
        let variable = || variable("CONTACTD_SERVER")?.into_string().ok();
        let server = self.server.clone().or_else(variable);
        let has_certificates = self.ca_file().is_some() || self.cert_file().is_some();
        ServerAddress::parse(server.as_deref().unwrap_or(SERVER), has_certificates)
    }

    fn unreached(&self, server: &ServerAddress, error: &(dyn Error + 'static)) -> Failure {
        let (ca, cert, key) = (self.ca_file(), self.cert_file(), self.key_file().ok());
        let files = ClientFiles {
            ca: ca.as_deref(),
            cert: cert.as_deref(),
            key: key.as_deref(),
        };
        let attempt = Attempt { server, files };
        attempt.failure(error)
    }

    /// The words for a failure: the daemon's answer, or why there is none.
    pub(super) fn explain(&self, status: &Status) -> Failure {
        // A status from the daemon itself has no source.
        let Some(broken) = status.source() else {
            return explain(status);
        };
        let mut sources = std::iter::successors(Some(broken), |error| (*error).source());
        if sources.any(<dyn Error>::is::<TimeoutExpired>) {
            let limit = humantime::format_duration(self.timeout.unwrap_or(TIMEOUT));
            return Failure::Failed(anyhow!(
                "no answer within {limit}\n  Wait longer with --timeout."
            ));
        }
        match self.address() {
            Ok(server) => self.unreached(&server, broken),
            Err(failure) => failure,
        }
    }

    fn ca_file(&self) -> Option<PathBuf> {
        file(self.ca_file.as_ref(), "CONTACTD_CA_FILE")
    }

    fn cert_file(&self) -> Option<PathBuf> {
        file(self.cert_file.as_ref(), "CONTACTD_CERT_FILE")
    }

    /// The key of the client certificate.
    fn key_file(&self) -> Result<PathBuf, Failure> {
        file(self.key_file.as_ref(), "CONTACTD_KEY_FILE").ok_or_else(|| {
            let words = "a client certificate needs its key: --key-file or CONTACTD_KEY_FILE";
            Failure::Misused(words.to_owned())
        })
    }

    /// Adds TLS if the URL is https. Options that only TLS uses are refused without it; variables
    /// may be there for other daemons.
    fn encrypted(&self, server: &ServerAddress) -> Result<Endpoint, Failure> {
        if !server.is_encrypted() {
            if self.ca_file.is_some() || self.cert_file.is_some() {
                return Err(Failure::Misused(format!(
                    "--ca-file and --cert-file are for TLS: write --server https://{}",
                    server.authority()
                )));
            }
            return Ok(server.endpoint());
        }
        let mut tls = ClientTlsConfig::new().timeout(self.connect_limit());
        tls = match self.ca_file() {
            Some(path) => tls.ca_certificate(authority(&path)?),
            None => tls.with_native_roots(),
        };
        if let Some(cert) = self.cert_file() {
            tls = tls.identity(Identity::from_pem(read(&cert)?, read(&self.key_file()?)?));
        }
        server.endpoint().tls_config(tls).map_err(|error| {
            Failure::Misused(format!(
                "the certificates cannot be used: {:#}",
                anyhow::Error::from(error)
            ))
        })
    }

    /// The token by which the daemon knows its clients, if there is one, as a header.
    fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let token = match file(self.token_file.as_ref(), "CONTACTD_TOKEN_FILE") {
            Some(path) => Some(read(&path)?),
            None => variable("CONTACTD_TOKEN").and_then(|text| text.into_string().ok()),
        };
        let Some(token) = token.filter(|token| !token.trim().is_empty()) else {
            return Ok(None);
        };
        let mut header: MetadataValue<Ascii> =
            format!("Bearer {}", token.trim()).parse().map_err(|_| {
                Failure::Misused("the token has characters that no header may have".to_owned())
            })?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    fn authorized<T>(&self, message: T) -> Result<Request<T>, Failure> {
        let mut request = Request::new(message);
        if let Some(header) = self.authorization()? {
            request.metadata_mut().insert("authorization", header);
        }
        Ok(request)
    }

    /// The user of a request.
    pub(super) fn user(&self) -> pb::User {
        pb::User {
            id: self.user_id.clone(),
            platform: self.platform.clone(),
            account_id: self.account_id.clone(),
            hostname: self.hostname.clone(),
            region: self.region.clone(),
            settings: None,
            platform_additional_info: None,
        }
    }

    /// The number formats of a request.
    pub(super) fn formats(&self) -> Vec<String> {
        self.formats.clone()
    }

    /// The credential for the CRM; empty if none was given, because the daemon may have a shared
    /// login.
    pub(super) fn auth_header(&self) -> Result<String, Failure> {
        let text = match &self.auth_header_file {
            Some(path) => read(path)?,
            None => variable("CONTACTD_AUTH_HEADER")
                .and_then(|text| text.into_string().ok())
                .unwrap_or_default(),
        };
        Ok(text.trim().to_owned())
    }

    /// A request that ends at the time limit.
    pub(super) fn request<T>(&self, message: T) -> Result<Request<T>, Failure> {
        let mut request = self.authorized(message)?;
        request.set_timeout(self.timeout.unwrap_or(TIMEOUT));
        Ok(request)
    }

    /// The time limit that was given, if any.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.timeout
    }

    /// A request without a time limit, unless one was given.
    pub(super) fn batch_request<T>(&self, message: T) -> Result<Request<T>, Failure> {
        let mut request = self.authorized(message)?;
        if let Some(limit) = self.timeout {
            request.set_timeout(limit);
        }
        Ok(request)
    }
}

/// A variable of the environment. An empty one counts as not set.
pub(super) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The file of an option, or else of a variable.
fn file(option: Option<&PathBuf>, name: &str) -> Option<PathBuf> {
    option
        .cloned()
        .or_else(|| variable(name).map(PathBuf::from))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path)
        .map_err(|error| anyhow!("cannot read {}: {}", path.display(), words(error)))
}

/// An authority to trust.
fn authority(path: &Path) -> Result<Certificate, Failure> {
    let pem = read(path)?;
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        let words = format!("{} holds no certificate in PEM format", path.display());
        return Err(Failure::Misused(words));
    }
    Ok(Certificate::from_pem(pem))
}
