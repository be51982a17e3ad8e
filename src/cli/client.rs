//! What the client commands share: the daemon's address, the user, and how failures are reported.

use std::error::Error;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use prost::Message as _;
use tonic::codegen::http;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, TimeoutExpired};

use super::Failure;
use crate::grpc::client::ContactServiceClient;
use crate::pb::{rpc, v1 as pb};

/// How long to wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often a silent connection is tried. Otherwise a batch would wait for ever for a machine that
/// is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What to do if the daemon has no login of the house for this command.
const NO_CREDENTIAL: &str =
    "The CRM's credential is missing: set CONTACTD_AUTH_HEADER or give --auth-header-file.";

#[derive(Debug, clap::Args)]
pub(super) struct ClientArgs {
    /// The address of the daemon.
    #[arg(long, default_value = "http://127.0.0.1:50051", value_name = "URL")]
    server: String,
    /// The connector to ask, as the daemon's settings name it.
    #[arg(long, default_value = "example", value_name = "NAME")]
    platform: String,
    /// The id of the user for whom to look up. Answers are stored per id.
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
    /// A file with the client token for the daemon. Without it, the variable CONTACTD_TOKEN is
    /// used. Required if the daemon has grpc.tokens.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authority (PEM) to trust for an https:// server, instead of the system's authorities.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The client certificate (PEM). Required if the daemon has grpc.tls.client_ca.
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
        let endpoint = self.encrypted(endpoint(&self.server)?)?;
        let channel = endpoint
            .connect_timeout(Duration::from_secs(5))
            .tcp_keepalive(Some(KEEPALIVE))
            .connect()
            .await;
        let channel = channel.map_err(|error| self.unconnected(error))?;
        Ok(ContactServiceClient::new(channel))
    }

    fn unconnected(&self, error: transport::Error) -> Failure {
        let is_there = chain(&error).any(is_of_handshake);
        let error = anyhow::Error::from(error);
        if is_there {
            let words = format!("{} did not complete the TLS handshake", self.server);
            Failure::from(error.context(words)).with_note(self.hint())
        } else {
            let words = format!("no daemon at {}; is `contactd serve` running?", self.server);
            Failure::from(error.context(words))
        }
    }

    /// The words for a failure. If the connection broke, they name the option that may be the
    /// reason.
    pub(super) fn explain(&self, status: &Status) -> Failure {
        let mut failure = explain(status);
        if status.message().starts_with("auth_header is required") {
            failure = failure.with_note(NO_CREDENTIAL);
        }
        // A status from the daemon itself has no source. A time limit is not a fault of the
        // connection.
        let is_own = status.source().is_none();
        let is_late = chain(status).any(<dyn Error>::is::<TimeoutExpired>);
        if is_own || is_late {
            failure
        } else {
            failure.with_note(self.hint())
        }
    }

    /// What may be missing if the daemon is there but calls fail.
    fn hint(&self) -> &'static str {
        let is_encrypted = self.server.starts_with("https:");
        match (is_encrypted, &self.cert_file) {
            (false, _) => "If the daemon has grpc.tls, write https:// in --server.",
            (true, None) => {
                "The daemon may ask for a client certificate (grpc.tls.client_ca): give --cert-file and --key-file. \
                 Its own has to come from the authority in --ca-file, else from one that the system trusts. \
                 If the daemon has no grpc.tls, write http:// in --server."
            }
            (true, Some(_)) => {
                "The certificate in --cert-file has to come from an authority in the daemon's grpc.tls.client_ca, and \
                 the daemon's own from the one in --ca-file. If the daemon has no grpc.tls, write http:// in --server."
            }
        }
    }

    /// Adds TLS if the URL is https.
    fn encrypted(&self, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        if endpoint.uri().scheme_str() != Some("https") {
            if self.ca_file.is_some() || self.cert_file.is_some() {
                let words =
                    "--ca-file and --cert-file are for a server whose URL begins with https://";
                return Err(Failure::Misused(words.to_owned()));
            }
            return Ok(endpoint);
        }
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca_file {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        endpoint.tls_config(tls).map_err(|error| {
            Failure::Misused(format!(
                "the certificates cannot be used: {:#}",
                anyhow::Error::from(error)
            ))
        })
    }

    /// The token by which the daemon knows its clients, if there is one, as a header.
    fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let token = match &self.token_file {
            Some(path) => Some(read(path)?),
            None => std::env::var_os("CONTACTD_TOKEN").and_then(|text| text.into_string().ok()),
        };
        let Some(token) = token.filter(|token| !token.trim().is_empty()) else {
            return Ok(None);
        };
        let mut header: MetadataValue<Ascii> =
            format!("Bearer {}", token.trim()).parse().map_err(|_| {
                Failure::Misused("the token holds characters that no header can".to_owned())
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

    /// The credential for the CRM; empty if none was given, because the daemon may have a login of
    /// the house.
    pub(super) fn auth_header(&self) -> Result<String, Failure> {
        let variable = || std::env::var_os("CONTACTD_AUTH_HEADER")?.into_string().ok();
        let text = match &self.auth_header_file {
            Some(path) => read(path)?,
            None => variable().unwrap_or_default(),
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

/// The address in `--server`.
fn endpoint(server: &str) -> Result<Endpoint, Failure> {
    let wrong = |advice: String| Failure::Misused(format!("--server {server:?} {advice}"));
    let example = || wrong("is not a URL such as http://127.0.0.1:50051".to_owned());
    let address = server.split_once("://").map_or(server, |(_, rest)| rest);
    let uri: http::Uri = server.parse().map_err(|_| example())?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(_)) => Ok(Endpoint::from(uri)),
        (_, Some(_)) => Err(wrong(format!(
            "does not begin with http:// or https://: write http://{address}, or https://{address} if the daemon has \
             grpc.tls"
        ))),
        (_, None) => Err(example()),
    }
}

/// An error and its sources.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Returns whether the peer was there, but did not speak TLS or was not trusted.
fn is_of_handshake(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof
        )
    })
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The message for a failure: the words for a person, the status, and its reason.
pub(super) fn explain(status: &Status) -> Failure {
    let details = rpc::Status::decode(status.details())
        .unwrap_or_default()
        .details;
    let mut lines = vec![format!("{:?}: {}", status.code(), status.message())];
    for detail in details {
        if detail.type_url.ends_with("/contactd.v1.ReturnMessage") {
            let Ok(message) = pb::ReturnMessage::decode(detail.value.as_slice()) else {
                continue;
            };
            let hints = message
                .details
                .iter()
                .flat_map(|detail| &detail.items)
                .map(|item| item.text.as_str());
            lines.extend(
                std::iter::once(message.message.as_str())
                    .chain(hints)
                    .map(|line| format!("  {line}")),
            );
        }
        if detail.type_url.ends_with("/google.rpc.RetryInfo") {
            let Ok(info) = rpc::RetryInfo::decode(detail.value.as_slice()) else {
                continue;
            };
            let delay = info
                .retry_delay
                .and_then(|delay| Duration::try_from(delay).ok());
            lines.extend(
                delay.map(|delay| {
                    format!("  Try again after {}.", humantime::format_duration(delay))
                }),
            );
        }
    }
    let text = lines.join("\n");
    if status.code() == Code::InvalidArgument {
        Failure::Misused(text)
    } else {
        Failure::Failed(anyhow::anyhow!(text))
    }
}
