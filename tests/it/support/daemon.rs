//! The real daemon on free ports, with a clock that the test moves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contactd::app::App;
use contactd::clock::ManualClock;
use contactd::config;
use contactd::connector::Dns;
use contactd::domain::Timestamp;
use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1::{FindContactRequest, FindContactResponse, ReturnMessage, Trigger, User};
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::crm::FakeCrm;

pub(crate) const NUMBER: &str = "+16505551234";

/// 2026-01-01T00:00:00Z
pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000);

pub(crate) struct TestDaemon {
    pub(crate) grpc: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) clock: ManualClock,
    pub(crate) client: ContactServiceClient<Channel>,
    stop: CancellationToken,
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl TestDaemon {
    /// A daemon whose platform "example" is `crm`.
    pub(crate) async fn over(crm: &FakeCrm) -> Self {
        Self::with(crm, "example", "").await
    }

    /// A daemon with one platform named after its kind at `crm`; `more` is further TOML.
    pub(crate) async fn with(crm: &FakeCrm, kind: &str, more: &str) -> Self {
        let url = crm.url();
        Self::start(&format!(
            "{more}\n[connectors.{kind}]\nkind = \"{kind}\"\nbase_url = \"{url}\"\n"
        ))
        .await
    }

    /// A daemon with these settings, on free ports.
    pub(crate) async fn start(toml: &str) -> Self {
        Self::resolving(toml, &Dns::system()).await
    }

    /// A daemon to which names have these addresses.
    pub(crate) async fn resolving(toml: &str, dns: &Dns) -> Self {
        Self::begin(toml, dns, true).await
    }

    /// A daemon whose CRMs others may have called until it started.
    pub(crate) async fn after_others(toml: &str) -> Self {
        Self::begin(toml, &Dns::system(), false).await
    }

    async fn begin(toml: &str, dns: &Dns, are_crms_new: bool) -> Self {
        let mut env = vec![
            ("GRPC__LISTEN", "127.0.0.1:0"),
            ("OPS__LISTEN", "127.0.0.1:0"),
        ];
        if !toml.contains("details_timeout") {
            // On a busy machine details may take longer than a phone should wait; tests of that set
            // it.
            env.push(("LOOKUP__DETAILS_TIMEOUT", "10s"));
        }
        let env = env
            .into_iter()
            .map(|(key, value)| (format!("CONTACTD__{key}"), value.to_owned()));
        let mut config = config::read(toml, env)
            .unwrap_or_else(|faults| panic!("{faults:?}"))
            .config;
        config.grpc.drain_delay = Duration::from_millis(50);
        config.are_crms_new = are_crms_new;
        let clock = ManualClock::new(START);
        let app = App::build_with(config, Arc::new(clock.clone()), dns)
            .await
            .unwrap();
        let (grpc, ops) = app.addresses().unwrap();
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        drop(tokio::spawn(app.run(stop.clone().cancelled_owned())));
        let channel = Endpoint::from_shared(format!("http://{grpc}"))
            .unwrap()
            .connect_lazy();
        Self {
            grpc,
            ops,
            clock,
            client: ContactServiceClient::new(channel),
            stop,
        }
    }

    /// One look-up.
    pub(crate) async fn find(
        &self,
        request: impl tonic::IntoRequest<FindContactRequest>,
    ) -> Result<FindContactResponse, Status> {
        self.client
            .clone()
            .find_contact(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// A page of the operations port: status and text.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        get(&format!("http://{}{path}", self.ops)).await
    }

    /// The value of a metric whose line begins with `series`.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let (_, page) = self.page("/metrics").await;
        let line = page.lines().find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// A client for HTTP alone.
pub(crate) fn http_client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let tls = tls
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls);
    client
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

/// An HTTP GET: status and text.
#[expect(clippy::disallowed_methods, reason = "this is no CRM")]
pub(crate) async fn get(url: &str) -> (u16, String) {
    let response = http_client().get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// A look-up of [`NUMBER`] on platform "example" for an incoming call.
pub(crate) fn find() -> FindContactRequest {
    FindContactRequest {
        user: Some(User {
            id: "user-1".to_owned(),
            platform: "example".to_owned(),
            ..Default::default()
        }),
        auth_header: "Bearer token-1".to_owned(),
        phone_number: NUMBER.to_owned(),
        ..Default::default()
    }
}

/// The same by manual refresh.
pub(crate) fn refresh() -> FindContactRequest {
    FindContactRequest {
        trigger: Trigger::ManualRefresh.into(),
        ..find()
    }
}

/// What a request is made of, changed where the test says.
pub(crate) trait Changed: Sized {
    fn platform(self, name: &str) -> Self;
    fn user(self, id: &str) -> Self;
    fn number(self, number: &str) -> Self;
    fn formats(self, formats: &[&str]) -> Self;
    fn hostname(self, name: &str) -> Self;
    fn region(self, region: &str) -> Self;
    fn auth(self, header: &str) -> Self;
    fn within(self, limit: Duration) -> Request<Self>;
}

impl Changed for FindContactRequest {
    fn platform(mut self, name: &str) -> Self {
        self.user.as_mut().unwrap().platform = name.to_owned();
        self
    }

    /// Another user, with a credential of their own.
    fn user(mut self, id: &str) -> Self {
        self.user.as_mut().unwrap().id = id.to_owned();
        self.auth(&format!("Bearer {}", id.escape_default()))
    }

    fn number(self, number: &str) -> Self {
        Self {
            phone_number: number.to_owned(),
            ..self
        }
    }

    fn formats(self, formats: &[&str]) -> Self {
        Self {
            overriding_formats: formats.iter().map(|format| (*format).to_owned()).collect(),
            ..self
        }
    }

    fn hostname(mut self, name: &str) -> Self {
        self.user.as_mut().unwrap().hostname = name.to_owned();
        self
    }

    fn region(mut self, region: &str) -> Self {
        self.user.as_mut().unwrap().region = region.to_owned();
        self
    }

    fn auth(self, header: &str) -> Self {
        Self {
            auth_header: header.to_owned(),
            ..self
        }
    }

    fn within(self, limit: Duration) -> Request<Self> {
        let mut request = Request::new(self);
        request.set_timeout(limit);
        request
    }
}

/// The names of the real contacts.
pub(crate) fn names(response: &FindContactResponse) -> Vec<&str> {
    response
        .matched_contact_info
        .iter()
        .filter(|c| !c.is_new_contact)
        .map(|c| c.name.as_str())
        .collect()
}

/// The details of a failure by the last part of their type: reason, violated fields, seconds to
/// wait, message.
#[derive(Debug, Default)]
pub(crate) struct Details {
    pub(crate) reason: String,
    pub(crate) domain: String,
    pub(crate) fields: Vec<String>,
    pub(crate) retry_after: Option<i64>,
    pub(crate) message: Option<ReturnMessage>,
}

/// Reads the details of a failure.
pub(crate) fn details(status: &Status) -> Details {
    let rpc = tonic_types::pb::Status::decode(status.details()).unwrap();
    assert_eq!(rpc.code, i32::from(status.code()));
    assert_eq!(rpc.message, status.message());
    let mut details = Details::default();
    for any in rpc.details {
        let bytes = any.value.as_slice();
        match any.type_url.as_str() {
            "type.googleapis.com/google.rpc.ErrorInfo" => {
                let info = tonic_types::pb::ErrorInfo::decode(bytes).unwrap();
                (details.reason, details.domain) = (info.reason, info.domain);
            }
            "type.googleapis.com/google.rpc.BadRequest" => {
                let bad = tonic_types::pb::BadRequest::decode(bytes).unwrap();
                details.fields = bad
                    .field_violations
                    .into_iter()
                    .map(|violation| violation.field)
                    .collect();
            }
            "type.googleapis.com/google.rpc.RetryInfo" => {
                let info = tonic_types::pb::RetryInfo::decode(bytes).unwrap();
                details.retry_after = info.retry_delay.map(|delay| delay.seconds);
            }
            "type.googleapis.com/contactd.v1.ReturnMessage" => {
                details.message = ReturnMessage::decode(bytes).ok()
            }
            other => panic!("unexpected detail {other}"),
        }
    }
    details
}
