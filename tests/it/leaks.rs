//! Nothing personal leaves by a side door: known numbers, names, credentials and ids go through the
//! real program in every way it knows, and then its log, its operations port, every status text and
//! Redis are searched for each of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1::invalidate_contacts_request::Scope;
use contactd::pb::v1::prefetch_contacts_response::Event;
use contactd::pb::v1::{
    ExplainContactRequest, FindContactRequest, InvalidateContactsRequest, PhoneNumbers,
    PrefetchContactsRequest, Trigger, User,
};
use nix::sys::signal::Signal;
use serde_json::json;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::support::crm::Seen;
use crate::support::daemon::{get, http_client};
use crate::support::program::Program;
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, eventually};

const NUMBER: &str = "+16505557310";
const EXTENSION: &str = "7318042";
const NAME: &str = "Zyxwvut";
const EMAIL: &str = "marked-mail@example.com";
const DEAL: &str = "Marked-Deal";
const TOKEN: &str = "marked-token-41f7c2";
const USER: &str = "marked-user-8812";
const ACCOUNT: &str = "marked-account-8813";
const HOST: &str = "marked-host.pipedrive.com";
/// What a CRM says in its error bodies, headers and links.
const WORDS: &str = "marked-words-of-the-crm";

/// What nobody but the caller and the CRM may see.
const SECRET: [&str; 5] = [TOKEN, USER, ACCOUNT, HOST, WORDS];
/// What an answer holds, and with it an unsealed value in Redis.
const PERSONAL: [&str; 5] = ["6505557310", EXTENSION, NAME, EMAIL, DEAL];

/// A marker as it might be written.
fn spellings(marker: &str) -> Vec<String> {
    let mut all = vec![
        marker.to_owned(),
        STANDARD.encode(marker),
        URL_SAFE_NO_PAD.encode(marker),
        STANDARD.encode(format!("Bearer {marker}")),
        url::form_urlencoded::byte_serialize(marker.as_bytes()).collect(),
        marker.bytes().map(|byte| format!("{byte:02x}")).collect(),
    ];
    if marker == "6505557310" {
        all.extend(["555-7310", "555 7310", "555.7310", "5557310"].map(str::to_owned));
    }
    all
}

/// A few digits of a longer number do not count: they may be a part of a time.
fn holds(text: &[u8], part: &str) -> bool {
    let is_short = part.len() < 10 && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_digit = |at: Option<usize>| {
        at.and_then(|at| text.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let mut places = text.windows(part.len()).enumerate();
    places.any(|(at, window)| {
        let goes_on = is_digit(at.checked_sub(1)) || is_digit(Some(at + part.len()));
        window.eq_ignore_ascii_case(part.as_bytes()) && !(is_short && goes_on)
    })
}

/// Each of the markers that the text holds.
fn found_in(text: &[u8], markers: &[&str]) -> Vec<String> {
    markers
        .iter()
        .flat_map(|marker| spellings(marker))
        .filter(|spelling| holds(text, spelling))
        .collect()
}

#[test]
fn a_few_digits_are_found_alone_and_not_within_a_time() {
    for (text, is_found) in [
        ("tel 5557310.", true),
        ("x5557310", true),
        ("1795755573108", false),
        ("15557310", false),
        ("x16505557310", true),
    ] {
        let found = found_in(text.as_bytes(), &["6505557310"]);
        assert_eq!(!found.is_empty(), is_found, "{text}: {found:?}");
    }
}

fn assert_clean(place: &str, text: &[u8]) {
    for markers in [SECRET, PERSONAL] {
        let found = found_in(text, &markers);
        assert!(
            found.is_empty(),
            "{place} holds {found:?}:\n{}",
            String::from_utf8_lossy(text)
        );
    }
}

/// All three CRMs in one, which finds one person whatever the number.
fn crm(seen: &Seen) -> Reply {
    let person = json!({"id": 1, "name": NAME, "kind": "person", "email": EMAIL, "primary_email": EMAIL,
        "primary_email_address": EMAIL, "phones": [], "phone_numbers": []});
    let deals = json!([{"id": 1, "title": DEAL, "display_number": DEAL}]);
    Reply::json(match seen.path.as_str() {
        "/api/v1/contacts" => json!({"contacts": [person], "next_page": null}),
        "/api/v2/persons/search" => json!({"success": true, "data": {"items": [{"item": person}]}}),
        "/api/v4/contacts.json" => json!({"data": [person]}),
        "/api/v4/relationships.json" => json!({"data": []}),
        "/api/v4/matters.json" | "/api/v2/deals" | "/v1/leads" => {
            json!({"success": true, "data": deals})
        }
        _ => json!({"deals": deals, "next_page": null}),
    })
}

fn words(status: u16) -> Reply {
    Reply::status(status)
        .header("x-note", WORDS)
        .header("location", format!("http://{WORDS}.example/{NAME}"))
        .header("retry-after", WORDS)
        .header(
            "www-authenticate",
            format!("Bearer realm=\"{WORDS} {EMAIL}\""),
        )
}

fn user(platform: &str) -> User {
    User {
        id: USER.to_owned(),
        platform: platform.to_owned(),
        account_id: ACCOUNT.to_owned(),
        hostname: if platform == "named" {
            HOST.to_owned()
        } else {
            String::new()
        },
        region: "US".to_owned(),
        ..User::default()
    }
}

fn ask(platform: &str, number: &str, trigger: Trigger) -> FindContactRequest {
    FindContactRequest {
        user: Some(user(platform)),
        auth_header: format!("Bearer {TOKEN}"),
        phone_number: number.to_owned(),
        trigger: trigger.into(),
        ..FindContactRequest::default()
    }
}

/// The program, and all that it has told callers in words.
struct Traffic {
    client: ContactServiceClient<Channel>,
    /// The same port, over HTTP/1.1.
    http: String,
    http_client: reqwest::Client,
    told: Vec<String>,
    failures: usize,
}

impl Traffic {
    fn hear(&mut self, status: &Status) {
        self.failures += 1;
        self.told.push(format!(
            "{} {status:?} {status}",
            String::from_utf8_lossy(status.details())
        ));
    }

    /// The same question over HTTP in both forms. What is told is the whole answer if it failed.
    #[expect(clippy::disallowed_methods, reason = "this is no CRM")]
    async fn find_over_http(&mut self, request: &FindContactRequest) {
        let user = request.user.clone().unwrap();
        let json = json!({
            "user": { "id": user.id, "platform": user.platform, "accountId": user.account_id,
                "hostname": user.hostname, "region": user.region },
            "authHeader": request.auth_header,
            "phoneNumber": request.phone_number,
            "overridingFormats": request.overriding_formats,
            "isExtension": request.is_extension,
            "trigger": request.trigger,
            "onlyIfCached": request.only_if_cached,
        });
        let path = "contactd.v1.ContactService/FindContact";
        let client = self.http_client.clone();
        let mut wrong = json.clone();
        wrong[NUMBER] = json!(NAME);
        wrong["user"]["settings"] = json!([NAME, NUMBER]);
        let find = |json: &serde_json::Value| {
            let call = client.post(format!("{}/{path}", self.http));
            let call = call.header("content-type", "application/json");
            call.body(json.to_string())
        };
        let mut name = url::Url::parse(&format!("{}/v1/name", self.http)).unwrap();
        name.query_pairs_mut()
            .append_pair("platform", &user.platform)
            .append_pair("user", &user.id)
            .append_pair("account", &user.account_id)
            .append_pair("hostname", &user.hostname)
            .append_pair("region", &user.region)
            .append_pair("number", &request.phone_number);
        let credential = request.auth_header.trim_end().replace('\u{1}', "");
        let mut get = format!("{}/{path}?encoding=json&message=", self.http);
        get.extend(url::form_urlencoded::byte_serialize(
            wrong.to_string().as_bytes(),
        ));
        for call in [
            find(&json),
            find(&wrong),
            client.get(get),
            client.get(name).header("x-crm-authorization", credential),
        ] {
            let answer = call.send().await.unwrap();
            let (status, headers) = (answer.status(), format!("{:?}", answer.headers()));
            let body = answer.text().await.unwrap();
            self.told.push(headers);
            if !status.is_success() {
                self.failures += 1;
                let decoded = body.split('"').filter_map(|part| {
                    base64::engine::general_purpose::STANDARD_NO_PAD
                        .decode(part)
                        .ok()
                });
                let decoded: Vec<_> = decoded
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                    .collect();
                self.told.push(decoded.join(" "));
                self.told.push(body);
            }
        }
    }

    async fn find(&mut self, request: FindContactRequest) {
        assert_clean("Debug of a request", format!("{request:?}").as_bytes());
        // How a CRM fails is the same on every wire, so one CRM is enough.
        if request.user.as_ref().unwrap().platform == "example" {
            self.find_over_http(&request).await;
        }
        match self.client.find_contact(request).await {
            Ok(answer) => self
                .told
                .push(format!("{:?}", answer.into_inner().return_message)),
            Err(status) => self.hear(&status),
        }
    }

    /// What an explanation says besides the answer itself.
    async fn explain(&mut self, question: FindContactRequest, live: bool) {
        let request = ExplainContactRequest {
            question: Some(question),
            live,
        };
        assert_clean("Debug of a request", format!("{request:?}").as_bytes());
        match self.client.explain_contact(request).await {
            Ok(explained) => {
                let explained = explained.into_inner();
                self.told.push(format!(
                    "{:?} {:?} {:?} {:?} {:?} {}",
                    explained.exchanges,
                    explained.records,
                    explained.stored,
                    explained.credential,
                    explained.quota,
                    explained.because
                ));
            }
            Err(status) => self.hear(&status),
        }
    }

    async fn prefetch(&mut self, platform: &str, numbers: &[&str]) {
        let request = PrefetchContactsRequest {
            user: Some(user(platform)),
            auth_header: format!("Bearer {TOKEN}"),
            phone_numbers: numbers.iter().map(|number| (*number).to_owned()).collect(),
            ..PrefetchContactsRequest::default()
        };
        assert_clean("Debug of a request", format!("{request:?}").as_bytes());
        let mut events = match self.client.prefetch_contacts(request).await {
            Ok(events) => events.into_inner(),
            Err(status) => return self.hear(&status),
        };
        loop {
            match events.message().await {
                Ok(Some(event)) => {
                    if let Some(Event::Result(result)) = event.event {
                        self.told.push(result.reason);
                    }
                }
                Ok(None) => return,
                Err(status) => return self.hear(&status),
            }
        }
    }

    async fn invalidate(&mut self, platform: &str, scope: Scope) {
        let request = InvalidateContactsRequest {
            user: Some(user(platform)),
            scope: Some(scope),
        };
        if let Err(status) = self.client.invalidate_contacts(request).await {
            self.hear(&status);
        }
    }

    /// Requests that cannot be used, with a marker in every field.
    async fn misuse(&mut self) {
        let sound = || ask("example", NUMBER, Trigger::IncomingCall);
        let of = |user: User| FindContactRequest {
            user: Some(user),
            ..sound()
        };
        for request in [
            of(User {
                platform: USER.to_owned(),
                ..user("example")
            }),
            of(User {
                hostname: format!("{HOST}:1"),
                ..user("named")
            }),
            of(User {
                hostname: format!("{WORDS}.example"),
                ..user("named")
            }),
            of(User {
                id: USER.repeat(100),
                ..user("example")
            }),
            of(User {
                account_id: ACCOUNT.repeat(100),
                ..user("example")
            }),
            of(User {
                region: NAME.to_owned(),
                ..user("example")
            }),
            FindContactRequest {
                auth_header: format!("Bearer {TOKEN}\r\n"),
                ..sound()
            },
            FindContactRequest {
                auth_header: format!("Bearer {TOKEN}\u{1}"),
                ..sound()
            },
            FindContactRequest {
                phone_number: format!("{NUMBER}{NUMBER}{NUMBER}"),
                ..sound()
            },
            FindContactRequest {
                phone_number: format!("{NAME} {NUMBER}x"),
                ..sound()
            },
            FindContactRequest {
                overriding_formats: vec![NAME.to_owned(); 17],
                ..sound()
            },
            FindContactRequest {
                phone_number: NAME.to_owned(),
                is_extension: true,
                ..sound()
            },
        ] {
            self.find(request).await;
        }
        let numbers = PhoneNumbers {
            phone_numbers: vec![format!("{NUMBER}{NUMBER}{NUMBER}")],
        };
        self.invalidate("example", Scope::Numbers(numbers)).await;
    }

    /// All triggers, connectors and failures; ends with answers that are stored.
    async fn everything(&mut self, crm_server: &FakeCrm) {
        let failures = [301, 400, 401, 403, 404, 408, 500, 503].map(words);
        let odd = [
            Reply::text("text/html", format!("<html>{WORDS} {NAME} {NUMBER}</html>")),
            Reply::text("application/json", format!("{{\"{WORDS}\": \"{NAME}\"}}")),
            Reply::text("application/json", format!("{{\"data\": [{{\"{WORDS}\": ")),
            Reply::text("application/json", format!("{}\"{NAME}\"", "[".repeat(100))),
            Reply::json(
                json!({"data": [], "meta": {"paging": {"next": format!("http://{WORDS}.example/{NAME}")}}}),
            ),
            Reply::text("application/json", NAME.to_owned()).header("content-encoding", "gzip"),
            Reply::cut(),
        ];
        for reply in failures.into_iter().chain(odd) {
            crm_server.becomes(move |_| reply.clone());
            for platform in ["example", "pipedrive", "clio"] {
                self.find(ask(platform, NUMBER, Trigger::ManualRefresh))
                    .await;
            }
            self.prefetch("example", &[NUMBER, "+16505557311", NAME])
                .await;
            for live in [true, false] {
                let question = ask("pipedrive", NUMBER, Trigger::IncomingCall);
                self.explain(question, live).await;
            }
        }
        // Last, because it pauses these users, and a batch would wait for the end of that.
        crm_server.becomes(|_| words(429));
        for platform in ["example", "pipedrive", "clio"] {
            self.find(ask(platform, NUMBER, Trigger::ManualRefresh))
                .await;
        }
        self.find(ask("named", NUMBER, Trigger::IncomingCall)).await;
        self.misuse().await;
        crm_server.becomes(crm);
        // Rates that were refused have paused these users; the accounts behind are others.
        for platform in ["example2", "pipedrive2", "clio2"] {
            for trigger in [
                Trigger::IncomingCall,
                Trigger::ManualRefresh,
                Trigger::InitialMatch,
            ] {
                self.find(ask(platform, NUMBER, trigger)).await;
            }
            self.prefetch(
                platform,
                &[
                    NUMBER,
                    "(650) 555-7310",
                    "+16505557312",
                    NAME,
                    "911",
                    "anonymous",
                ],
            )
            .await;
            for (number, live) in [(NUMBER, true), (NUMBER, false), (NAME, true)] {
                let question = ask(platform, number, Trigger::IncomingCall);
                self.explain(question, live).await;
            }
            let cached = ask(platform, NUMBER, Trigger::IncomingCall);
            self.find(FindContactRequest {
                only_if_cached: true,
                ..cached
            })
            .await;
            let numbers = PhoneNumbers {
                phone_numbers: vec!["+16505557312".to_owned()],
            };
            self.invalidate(platform, Scope::Numbers(numbers)).await;
            let extension = ask(platform, EXTENSION, Trigger::IncomingCall);
            self.find(FindContactRequest {
                is_extension: true,
                ..extension
            })
            .await;
        }
        self.invalidate("clio2", Scope::Everything(true)).await;
    }
}

/// Everything that Redis is told, until it ends.
fn monitor(redis: &RedisServer) -> std::thread::JoinHandle<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port)).unwrap();
    stream.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(stream);
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert_eq!(first, "+OK\r\n");
    std::thread::spawn(move || {
        let mut text = String::new();
        let mut line = Vec::new();
        while lines
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            text.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
        text
    })
}

/// Runs the traffic and searches everything but Redis; what Redis was told.
async fn run(log_level: &str, redis_settings: &str) -> (String, Vec<String>) {
    let mut redis = RedisServer::start().await;
    let told_redis = monitor(&redis);
    let server = FakeCrm::start(crm).await;
    let mut toml = format!(
        "[redis]\nurl = \"{}\"\ntimeout = \"2s\"\n{redis_settings}",
        redis.url()
    );
    for kind in ["example", "pipedrive", "clio"] {
        for name in [kind.to_owned(), format!("{kind}2")] {
            let url = server.url();
            toml += &format!("[connectors.{name}]\nkind = \"{kind}\"\nbase_url = \"{url}\"\n");
            toml += "quota = { rate = 1000, per = \"1s\", burst = 1000 }\n";
        }
    }
    toml += "[connectors.named]\nkind = \"pipedrive\"\n[lookup]\ntimeout = \"3s\"\n";
    toml += "[log]\nlookups = true\n";
    let program = Program::start_with(&toml, log_level, &[]).await;
    let channel = Endpoint::from_shared(program.grpc.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut traffic = Traffic {
        client: ContactServiceClient::new(channel),
        http: program.grpc.clone(),
        http_client: http_client(),
        told: Vec::new(),
        failures: 0,
    };
    traffic.everything(&server).await;
    assert!(
        traffic.failures > 50,
        "{} failures were told",
        traffic.failures
    );
    for told in &traffic.told {
        assert_clean("what a caller is told", told.as_bytes());
    }
    for page in ["/metrics", "/", "/readyz", "/livez"] {
        let (_, text) = get(&format!("{}{page}", program.ops)).await;
        assert_clean(page, text.as_bytes());
    }
    let keys = redis.keys();
    eventually("answers are in Redis", || {
        redis.keys().iter().any(|key| key.contains(":a:"))
    })
    .await;
    program.signal(Signal::SIGTERM);
    let (code, log) = program.end().await;
    assert_eq!(code, Some(0));
    assert!(
        log.contains("a look-up in the CRM failed"),
        "the log is there"
    );
    assert!(log.matches("\"look-up\"").count() > 50, "and its look-ups");
    assert_clean("the log", log.as_bytes());
    redis.stop();
    (told_redis.join().unwrap(), keys)
}

fn key_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let key = STANDARD.encode([random(), random()].concat());
    std::fs::write(file.path(), format!("k1:{key}\n")).unwrap();
    file
}

fn random() -> [u8; 16] {
    contactd::redis_link::user::token()
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn with_sealed_answers_nothing_personal_is_told_logged_or_given_to_redis() {
    let keys = key_file();
    let sealed = format!("encryption_key_file = \"{}\"\n", keys.path().display());
    let (redis, names) = run("debug", &sealed).await;
    assert!(redis.contains("EVALSHA") && names.len() > 5);
    assert_clean("Redis", redis.as_bytes());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn without_keys_redis_holds_answers_and_otherwise_only_hashes() {
    let (redis, names) = run("info", "").await;
    assert!(
        found_in(redis.as_bytes(), &PERSONAL).len() >= 3,
        "answers are readable, so the search can find them"
    );
    assert_eq!(
        found_in(redis.as_bytes(), &SECRET),
        Vec::<String>::new(),
        "no credential, id or host is in Redis"
    );
    for name in names {
        assert_clean("the name of a key", name.as_bytes());
    }
    // Lines that hold no answer (an answer begins with its version, 5) hold nothing personal
    // either.
    for line in redis.lines().filter(|line| !line.contains("\\x05")) {
        assert_clean("a command to Redis", line.as_bytes());
    }
}

/// A guard for this file itself: what is searched for is found where it is.
#[test]
fn the_search_finds_what_it_should() {
    for text in [
        "x (650) 555-7310",
        "+16505557310",
        "bWFya2VkLXRva2VuLTQxZjdjMg==",
        "zyxWVUT",
        "marked-host.pipedrive.com",
    ] {
        let found = [
            found_in(text.as_bytes(), &SECRET),
            found_in(text.as_bytes(), &PERSONAL),
        ]
        .concat();
        assert!(!found.is_empty(), "{text}");
    }
    assert!(found_in(b"contactd serves", &SECRET).is_empty());
}
