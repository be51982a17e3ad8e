//! What no built-in CRM needs, over real HTTP: a scripted CRM that is searched by POST, takes other
//! headers than `Authorization`, and reports "nobody" by a status.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Response};
use parking_lot::Mutex;
use prost_types::{Struct, Value as PbValue, value::Kind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use super::credential::{CredentialForm, CredentialPiece};
use super::find::{Found, SearchPlan};
use super::pages::Pager;
use super::profile::{Inputs, StopRule, documented_quota};
use super::reply_class::{ReplyClass, ReplyRule, ReplySign};
use super::request::{ReadByPost, Request};
use super::success::ListForm;
use super::*;
use crate::budget::{self, Budget};
use crate::clock::SystemClock;
use crate::domain::error::BadReply;
use crate::domain::user::Settings;
use crate::domain::{AuthHeader, E164, KeyMaker, Lane, Party, QuestionKey, Region, Spelling, User};
use crate::metrics::Metrics;
use crate::trace::Span;
use crate::urgency::Urgency;

mod replies;

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
        let form = ListForm {
            list: Cow::Borrowed("/found"),
            null_is_empty: false,
            success: None,
        };
        let pager = Pager::Link { at: "/next".into() };
        let request = Request::read_by_post(&search_path(), json!({"number": number})).with_header(
            HeaderName::from_static("prefer"),
            HeaderValue::from_static("transient"),
        );
        let found = crm.search().list(request, &form, &pager).await?;
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

fn number() -> E164 {
    E164::parse("+16505551234", None).unwrap()
}

async fn find(profile: Profile, url: &Url) -> Result<Found, LookupError> {
    let connector = PostConnector::new(profile);
    let platform = platform(&connector, Some(url.clone()));
    let user = user(&platform, &[], &[("mail", "ada@example.com")]);
    let crm = session(&platform, &user)?;
    let plan = SearchPlan {
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
            vec![CredentialPiece::Info("mail".to_owned())],
        ),
    ])
}

fn reads_mail() -> Inputs {
    Inputs {
        settings: vec!["closed".to_owned()],
        info: vec!["mail".to_owned()],
    }
}

#[tokio::test]
async fn a_search_by_post_sends_its_query_and_the_credential_as_the_profile_says() {
    let crm = ScriptedCrm::start(|seen| reply(200, &person(seen))).await;
    let profile = Profile {
        credential: two_headers(),
        inputs: reads_mail(),
        ..profile()
    };
    let found = find(profile, &crm.url).await.unwrap();
    assert_eq!((found.contacts.len(), found.complete), (1, true));
    let [seen] = &crm.seen()[..] else {
        panic!("one call")
    };
    let header = |name: &str| {
        seen.headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(
        (&seen.method, seen.path.as_str(), &seen.body),
        (
            &HttpMethod::POST,
            "/contacts/search",
            &json!({"number": "+16505551234"})
        )
    );
    for (name, expected) in [
        ("x-api-token", Some("key abc")),
        ("x-user", Some("ada@example.com")),
        ("authorization", None),
        ("content-type", Some("application/json")),
        ("accept", Some("application/json")),
        ("prefer", Some("transient")),
    ] {
        assert_eq!(header(name).as_deref(), expected, "{name}");
    }
}

#[tokio::test]
async fn a_credential_that_lacks_a_field_calls_nobody() {
    let crm = ScriptedCrm::start(|seen| reply(200, &person(seen))).await;
    let profile = Profile {
        credential: two_headers(),
        ..profile()
    };
    let failure = find(profile, &crm.url).await.unwrap_err();
    assert_eq!(
        failure,
        LookupError::CrmUnauthenticated,
        "the field is not among the inputs"
    );
    assert_eq!(crm.seen().len(), 0);
}

#[tokio::test]
async fn a_post_that_the_profile_does_not_declare_is_never_sent() {
    let crm = ScriptedCrm::start(|seen| reply(200, &person(seen))).await;
    for reads_by_post in [vec![], vec![ReadByPost::declare(&["contacts"])]] {
        let profile = Profile {
            reads_by_post,
            ..profile()
        };
        let failure = find(profile, &crm.url).await.unwrap_err();
        assert_eq!(failure, LookupError::Internal);
    }
    assert_eq!(crm.seen().len(), 0);
}

#[tokio::test]
async fn a_post_follows_a_redirect_only_if_it_stays_a_post_at_the_same_host() {
    for (status, to, is_followed) in [
        (307, "/moved", true),
        (308, "/moved", true),
        (301, "/moved", false),
        (302, "/moved", false),
        (303, "/moved", false),
        (307, "http://localhost/moved", false),
        (308, "//localhost/moved", false),
    ] {
        let crm = ScriptedCrm::start(move |seen| match seen.path.as_str() {
            "/moved" => reply(200, &person(seen)),
            _ => moved(status, to),
        })
        .await;
        let found = find(profile(), &crm.url).await;
        let seen = crm.seen();
        if is_followed {
            assert_eq!(found.unwrap().contacts.len(), 1, "{status}");
            assert_eq!(seen.len(), 2, "{status}");
            assert_eq!(seen[0].body, seen[1].body, "{status}");
        } else {
            let redirect = LookupError::CrmBadReply(BadReply::Redirect);
            assert_eq!(found.unwrap_err(), redirect, "{status} {to}");
            assert_eq!(seen.len(), 1, "{status} {to}");
        }
        assert!(seen.iter().all(|seen| seen.method == HttpMethod::POST));
    }
}

#[tokio::test]
async fn a_get_stays_a_get_behind_every_redirect() {
    for status in [301, 302, 303, 307, 308] {
        let crm = ScriptedCrm::start(move |seen| match seen.path.as_str() {
            "/moved" => reply(200, &json!({"id": "7"})),
            _ => moved(status, "/moved"),
        })
        .await;
        let connector = PostConnector::new(profile());
        let platform = platform(&connector, Some(crm.url.clone()));
        let crm = session(&platform, &user(&platform, &[], &[])).unwrap();
        assert!(connector.whoami(&crm).await.unwrap().is_some(), "{status}");
    }
}

#[tokio::test]
async fn a_read_by_post_is_sent_again_after_a_broken_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let server = async {
        let mut requests = Vec::new();
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"found\":[]}",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            requests.push(String::from_utf8(request).unwrap());
        }
        requests
    };
    let (found, requests) = tokio::join!(find(profile(), &url), server);
    assert!(found.unwrap().complete);
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert!(request.starts_with("POST /contacts/search "), "{request}");
    }
}

#[tokio::test]
async fn statuses_mean_what_the_profile_says_before_what_all_crms_mean() {
    let rule = |status, class| ReplyRule {
        statuses: vec![status..=status].into(),
        sign: ReplySign::Any,
        class,
    };
    let rules = vec![
        rule(404, ReplyClass::Nobody),
        rule(400, ReplyClass::Partial),
        rule(477, ReplyClass::RateLimited),
        rule(201, ReplyClass::Found),
    ];
    let find = async |status| {
        let crm = ScriptedCrm::start(move |seen| reply(status, &person(seen))).await;
        let profile = Profile {
            replies: rules.clone(),
            ..profile()
        };
        let found = find(profile, &crm.url).await?;
        Ok((found.contacts.len(), found.complete))
    };
    assert_eq!(find(404).await, Ok((0, true)));
    assert_eq!(find(400).await, Ok((0, false)));
    assert_eq!(find(201).await, Ok((1, true)));
    assert_eq!(find(401).await, Err(LookupError::CrmUnauthenticated));
    assert!(matches!(
        find(477).await,
        Err(LookupError::CrmRateLimited { .. })
    ));
}

#[tokio::test]
async fn a_crm_that_may_store_several_spellings_is_asked_for_all_of_them() {
    for (stop, searches) in [(StopRule::AtFirstContact, 1), (StopRule::Never, 2)] {
        let crm = ScriptedCrm::start(|seen| reply(200, &person(seen))).await;
        let profile = Profile {
            spellings: vec![Spelling::E164, Spelling::National],
            stop,
            ..profile()
        };
        let found = find(profile, &crm.url).await.unwrap();
        assert_eq!(crm.seen().len(), searches, "{stop:?}");
        assert_eq!(found.contacts.len(), searches, "each finds its own record");
    }
}

#[tokio::test]
async fn details_are_asked_for_in_groups_of_the_profiles_size() {
    for (size, groups) in [(1, vec![1, 1, 1, 1, 1]), (3, vec![2, 3])] {
        let connector = PostConnector::new(Profile {
            contacts_at_once: NonZeroUsize::new(size).unwrap(),
            ..profile()
        });
        let platform = platform(&connector, Some(Url::parse("http://127.0.0.1:9").unwrap()));
        let crm = session(&platform, &user(&platform, &[], &[])).unwrap();
        let ada = example::record(&json!({"id": 1, "name": "Ada"})).contact;
        let found = Found {
            contacts: vec![ada; 5],
            extensions: vec![String::new(); 5],
            complete: true,
        };
        let shared = Arc::clone(&connector) as Arc<dyn Connector>;
        let mut details = Details::begin(&shared, &crm, found, (Lane::CallPop, 2));
        details.load().await;
        let mut enriched = connector.enriched.lock().clone();
        enriched.sort_unstable();
        assert_eq!(enriched, groups);
        assert!(details.is_done() && details.found().complete);
    }
}

#[test]
fn a_connector_sees_no_setting_and_no_info_that_its_profile_does_not_name() {
    let connector = PostConnector::new(Profile {
        inputs: reads_mail(),
        ..profile()
    });
    let platform = platform(&connector, Some(Url::parse("http://127.0.0.1:9").unwrap()));
    let sent = [("closed", "yes"), ("open", "yes")];
    let user = user(&platform, &sent, &[("mail", "a"), ("token", "b")]);
    assert_eq!(
        (user.info.text("mail"), user.info.text("token")),
        (Some("a"), None)
    );
    let crm = session(&platform, &user).unwrap();
    let settings = crm.settings();
    assert_eq!(
        (settings.is_on("closed"), settings.is_on("open")),
        (true, false)
    );
}

/// The user and credential of a request, as far as the cases below differ.
#[derive(Debug, Clone)]
struct Sent {
    base_url: Option<&'static str>,
    host: Option<&'static str>,
    header: &'static str,
    closed: &'static str,
    mail: &'static str,
    ignored: &'static str,
}

impl Sent {
    fn names(&self) -> (crate::domain::AuthTag, QuestionKey) {
        let connector = PostConnector::new(Profile {
            credential: two_headers(),
            inputs: reads_mail(),
            hosts: super::hosts::host_patterns(&["*.example.com"]),
            ..profile()
        });
        let platform = platform(&connector, self.base_url.map(|url| url.parse().unwrap()));
        let settings = [("closed", self.closed), ("open", self.ignored)];
        let info = [("mail", self.mail), ("other", self.ignored)];
        let user = User {
            host: platform
                .host(self.host.unwrap_or_default())
                .unwrap_or_default(),
            ..user(&platform, &settings, &info)
        };
        let auth = AuthHeader::parse(self.header).unwrap();
        let question = KeyMaker::new([7; 16])
            .prefix(&platform.crm(), &user, &[])
            .question(Party::Number(number()));
        (platform.auth_tag(&user, &auth), question)
    }
}

/// What differs from `base`, and whether that makes another tag and another key.
fn flips(base: &Sent) -> [(Sent, bool, bool); 6] {
    [
        (
            Sent {
                header: "Bearer abd",
                ..base.clone()
            },
            true,
            false,
        ),
        (
            Sent {
                mail: "bob@example.com",
                ..base.clone()
            },
            true,
            true,
        ),
        (
            Sent {
                closed: "no",
                ..base.clone()
            },
            false,
            true,
        ),
        (
            Sent {
                base_url: Some("https://b.example.com/"),
                ..base.clone()
            },
            true,
            true,
        ),
        (
            Sent {
                host: Some("b.example.com"),
                ..base.clone()
            },
            base.base_url.is_none(),
            true,
        ),
        (
            Sent {
                ignored: "y",
                ..base.clone()
            },
            false,
            false,
        ),
    ]
}

#[test]
fn each_input_that_a_profile_reads_makes_another_tag_or_key() {
    let base = Sent {
        base_url: Some("https://a.example.com/"),
        host: Some("a.example.com"),
        header: "Bearer abc",
        closed: "yes",
        mail: "ada@example.com",
        ignored: "x",
    };
    let named = Sent {
        base_url: None,
        ..base.clone()
    };
    for base in [&base, &named] {
        let (tag, key) = base.names();
        for (other, is_other_tag, is_other_key) in flips(base) {
            let (other_tag, other_key) = other.names();
            assert_eq!(tag != other_tag, is_other_tag, "tag: {other:?}");
            assert_eq!(key != other_key, is_other_key, "key: {other:?}");
        }
    }
}
