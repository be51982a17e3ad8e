//! What differs from a typical CRM, over real HTTP: a scripted CRM that is searched by POST, takes
//! other headers than `Authorization`, and reports "nobody" by a status.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Response};
use parking_lot::Mutex;
use prost_types::{Struct, Value as PbValue, value::Kind};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use super::credential::{CredentialForm, CredentialPiece};
use super::find::{Found, SearchPlan};
use super::pages::Pager;
use super::path::Path;
use super::profile::{Inputs, StopRule, documented_quota};
use super::reply_class::{ReplyClass, ReplyRule, ReplySign};
use super::request::{ReadByPost, Request};
use super::success::ListForm;
use super::*;
use crate::budget::{self, Budget};
use crate::clock::SystemClock;
use crate::domain::error::BadReply;
use crate::domain::user::Settings;
use crate::domain::{
    AuthHeader, E164, GroupTag, KeyMaker, Lane, Party, QuestionKey, Region, Spelling, User,
};
use crate::metrics::Metrics;
use crate::trace::Span;
use crate::urgency::Urgency;

mod profiles;
mod requests;

/// A request as the CRM received it.
#[derive(Debug, Clone)]
struct Seen {
    method: HttpMethod,
    path: String,
    headers: HeaderMap,
    body: Value,
}

struct ScriptedCrm {
    url: Url,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl ScriptedCrm {
    #[expect(clippy::disallowed_methods, reason = "a server of this test")]
    async fn start(script: impl Fn(&Seen) -> Response<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let (seen, script) = (Arc::new(Mutex::new(Vec::new())), Arc::new(script));
        let log = Arc::clone(&seen);
        let answer = move |request: axum::http::Request<Body>| {
            let (log, script) = (Arc::clone(&log), Arc::clone(&script));
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap();
                let seen = Seen {
                    method: head.method,
                    path: head.uri.path().to_owned(),
                    headers: head.headers,
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                };
                log.lock().push(seen.clone());
                script(&seen)
            }
        };
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

fn reply(status: u16, body: &Value) -> Response<String> {
    let reply = Response::builder().status(status);
    reply.body(body.to_string()).unwrap()
}

fn moved(status: u16, to: &str) -> Response<String> {
    let reply = Response::builder().status(status).header("location", to);
    reply.body(String::new()).unwrap()
}

/// One person with the number that is searched for.
fn person(seen: &Seen) -> Value {
    let number = &seen.body["number"];
    json!({"found": [{"id": number, "name": "Ada", "kind": "contact", "phones": [{"number": number}]}]})
}

/// Searches by POST, and records how many contacts it is asked to enrich at once.
#[derive(Debug)]
struct PostConnector {
    profile: Arc<Profile>,
    enriched: Mutex<Vec<usize>>,
}

impl PostConnector {
    fn new(profile: Profile) -> Arc<Self> {
        Arc::new(Self {
            profile: Arc::new(profile),
            enriched: Mutex::default(),
        })
    }
}

#[async_trait]
impl Connector for PostConnector {
    fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    async fn whoami(&self, crm: &CrmSession) -> Result<Option<WhoAmI>, LookupError> {
        let me = crm.read(Request::get(&["me"], &[])).await?;
        let id = me["id"].as_str().unwrap_or_default().to_owned();
        Ok(WhoAmI::new(id, String::new()))
    }

    async fn search(
        &self,
        crm: &CrmSession,
        search: &Search<'_>,
    ) -> Result<List<Record>, LookupError> {
        let Search::Number(number) = search else {
            return Ok(List::default());
        };
        let (number, form) = (number.text(), ListForm::objects(&["found"]));
        let at = Path::of_keys(&["next"]);
        let pager = Pager::Link { at };
        let request = Request::read_by_post(&search_path(), json!({"number": number})).with_header(
            HeaderName::from_static("prefer"),
            HeaderValue::from_static("transient"),
        );
        let found = crm.search().list(request, &form, Some(&pager)).await?;
        Ok(found.read(example::record).await)
    }

    async fn enrich(&self, _: &CrmSession, contacts: &[Contact]) -> Vec<Enrichment> {
        self.enriched.lock().push(contacts.len());
        contacts.iter().map(|_| Enrichment::default()).collect()
    }
}

fn search_path() -> ReadByPost {
    ReadByPost::declare(&["contacts", "search"])
}

fn profile() -> Profile {
    Profile {
        reads_by_post: vec![search_path()],
        ..Profile::new(Spelling::E164, documented_quota(1_000, 1, 1_000).into())
    }
}

fn platform(connector: &Arc<PostConnector>, base_url: Option<Url>) -> Platform {
    let profile = connector.profile();
    let config = ConnectorConfig {
        name: "scripted".to_owned(),
        connector: Arc::clone(connector) as Arc<dyn Connector>,
        base_url,
        allowed_hosts: profile.hosts.clone(),
        create_option: false,
        identity: IdentitySource::Crm,
        shared_login: None,
        regions: Vec::new(),
        quotas: profile.quotas,
    };
    let (limits, metrics) = (
        CallLimits {
            call_timeout: Duration::from_secs(5),
            reply_bytes: 1 << 20,
            pages: 3,
            contacts: 25,
            concurrent_calls: 4,
        },
        Arc::new(Metrics::default()),
    );
    let budgets = budget::BudgetConfig::default();
    let budget = Budget::new(profile.quotas, &budgets, "scripted", &metrics, None);
    let client = CrmClient::new(
        HttpClients::new(&Dns::system()).unwrap().egress(true),
        limits,
        Arc::new(budget),
        Arc::new(SystemClock::start()),
        &metrics,
        &config,
    );
    Platform::new(config, client, KeyMaker::new([7; 16]))
}

fn fields(fields: &[(&str, &str)]) -> Struct {
    let value = |text: &str| PbValue {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let fields = fields
        .iter()
        .map(|(name, text)| ((*name).to_owned(), value(text)));
    Struct {
        fields: fields.collect(),
    }
}

fn user(platform: &Platform, settings: &[(&str, &str)], info: &[(&str, &str)]) -> User {
    User {
        id: "u".to_owned(),
        account: String::new(),
        host: None,
        region: Region::parse("US"),
        settings: Settings::new(fields(settings)),
        info: platform.info_of(Some(&fields(info))),
    }
}

fn session(platform: &Platform, user: &User) -> Result<CrmSession, LookupError> {
    let auth = AuthHeader::parse("Bearer abc").unwrap();
    let tag = platform.auth_tag(user, &auth);
    let urgency = Arc::new(Urgency::new(Lane::CallPop, None));
    platform.session(user, (&auth, tag), None, urgency, Span::default())
}

fn group(platform: &Platform, user: &User) -> GroupTag {
    let auth = AuthHeader::parse("Bearer abc").unwrap();
    let keys = platform.keys().prefix(&platform.crm(), user, &[]);
    keys.group(platform.auth_tag(user, &auth))
}

fn number() -> E164 {
    E164::parse("+16505551234", None).unwrap()
}

async fn find(profile: Profile, url: &Url) -> Result<Found, LookupError> {
    let connector = PostConnector::new(profile);
    let platform = platform(&connector, Some(url.clone()));
    let user = user(&platform, &[], &[("mail", "ada@example.com")]);
    let crm = session(&platform, &user)?;
    let plan = SearchPlan {
        group: group(&platform, &user),
        party: Party::Number(number()),
        formats: &[],
        regions: platform.regions_for(&user),
    };
    search(connector.as_ref(), &crm, &plan).await
}

/// Two headers: the secret, and a field of the additional info.
fn two_headers() -> CredentialForm {
    CredentialForm::of(vec![
        (
            HeaderName::from_static("x-api-token"),
            vec![
                CredentialPiece::Text("key ".to_owned()),
                CredentialPiece::Secret,
            ],
        ),
        (
            HeaderName::from_static("x-user"),
            vec![CredentialPiece::Info("mail".to_owned(), Vec::new())],
        ),
    ])
}

fn reads_mail() -> Inputs {
    Inputs {
        settings: vec!["closed".to_owned()],
        info: vec!["mail".to_owned()],
        required_info: Vec::new(),
        asked_info: Vec::new(),
        asked_settings: Vec::new(),
        host: false,
        required_host: false,
        required_settings: Vec::new(),
    }
}
