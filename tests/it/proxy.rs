//! App Connect's `proxyConfig` on the wire.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contactd::config;
use contactd::domain::json::to_struct;
use contactd::pb::v1::{ContactInfo, FindContactRequest, MatchQuality};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::crm::Seen;
use crate::support::daemon::{Changed as _, details, names};
use crate::support::{FakeCrm, Reply, TestDaemon, find};

mod faults;
mod reply;

/// A configuration with this operation.
fn with_find(find: Value) -> Value {
    json!({
        "auth": {"type": "apiKey"},
        "requestDefaults": {"baseUrl": "https://crm.example.com"},
        "operations": {"findContact": find},
    })
}

/// An operation with these further members, which sends the number and maps the reply.
fn searching(more: Value) -> Value {
    let mut find = json!({"url": "c", "query": {"q": "{{phoneNumber}}"}, "responseMapping": {}});
    let (members, more) = (find.as_object_mut().unwrap(), more.as_object().unwrap());
    members.extend(more.clone());
    find
}

fn nobody(_: &Seen) -> Reply {
    Reply::json(json!([]))
}

/// A CRM, a daemon whose platform "example" is a proxy to it, and the file of that.
struct Proxied {
    crm: FakeCrm,
    daemon: TestDaemon,
    _file: NamedTempFile,
}

fn spec(config: &Value) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(config.to_string().as_bytes()).unwrap();
    file
}

impl Proxied {
    async fn new(config: &Value) -> Self {
        Self::below(config, "", "").await
    }

    /// With this path of the settings' base URL, and further settings.
    async fn below(config: &Value, path: &str, more: &str) -> Self {
        let crm = FakeCrm::start(nobody).await;
        let file = spec(config);
        let toml = format!(
            "[connectors.example]\nkind = \"proxy\"\nspec = \"{}\"\nbase_url = \"{}{path}\"\nregion = \"US\"\n{more}\n",
            file.path().display(),
            crm.url()
        );
        let daemon = TestDaemon::start(&toml).await;
        Self {
            crm,
            daemon,
            _file: file,
        }
    }

    async fn find(&self, request: FindContactRequest) -> Vec<ContactInfo> {
        let response = self.daemon.find(request).await.unwrap();
        let contacts = response.matched_contact_info.into_iter();
        contacts.filter(|contact| !contact.is_new_contact).collect()
    }

    /// The only request of this look-up.
    async fn asked(&self, request: FindContactRequest) -> Seen {
        self.find(request).await;
        let mut seen = self.crm.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }
}

fn with_info(info: Value) -> FindContactRequest {
    let mut request = find();
    request.user.as_mut().unwrap().platform_additional_info = info.as_object().map(to_struct);
    request
}

/// The request of one look-up with this operation.
async fn asked(find: Value, request: FindContactRequest) -> Seen {
    Proxied::new(&with_find(find)).await.asked(request).await
}

fn basic(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

#[tokio::test]
async fn a_placeholder_alone_keeps_its_type_and_others_become_text() {
    let find = searching(json!({
        "method": "POST", "url": "search",
        "body": {
            "{{key}}": "{{parsedPhoneNumber.countryCode}}",
            "valid": "{{ parsedPhoneNumber.valid }}",
            "text": "code {{parsedPhoneNumber.countryCode}}, {{user.platformAdditionalInfo.none}}.",
            "deep": [{"a": "{{phoneNumber}}", "gone": "{{unknown.thing}}"}, "{{unknown}}", 7, null],
            "info": "{{user.platformAdditionalInfo.ids}}",
            "tenant": "{{user.platformAdditionalInfo.tenant.id}}",
            "user": "{{user.id}}@{{user.platform}}", "host": "{{user.hostname}}",
            "formats": "{{overridingFormat}}", "extension": "{{isExtension}}",
            "gone": "{{user.timezoneName}}", "braces": "{{}} {x}",
            "national": "{{parsedPhoneNumber.number.national}}",
        },
    }));
    let mut request = with_info(json!({"ids": [1, "b"], "tenant": {"id": 12}, "secret": "s"}))
        .hostname("acme.example.com")
        .formats(&["(###) ###-####", "###.###.####"]);
    request.user.as_mut().unwrap().id = "u1-rest".to_owned();
    let seen = asked(find, request).await;
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("POST", "/search")
    );
    assert_eq!(
        seen.body,
        json!({
            "{{key}}": 1, "valid": true, "text": "code 1, .",
            "deep": [{"a": "+16505551234"}, null, 7, null],
            "info": [1, "b"], "tenant": 12, "user": "u1@example", "host": "acme.example.com",
            "formats": "(###) ###-####,###.###.####", "extension": "false", "braces": "{{}} {x}",
            "national": "(650) 555-1234",
        })
    );
}

#[tokio::test]
async fn every_request_has_a_json_body_and_parameters_in_the_encoding_of_axios() {
    let find = searching(json!({
        "url": "c?first={{phoneNumber}}&fixed=a%20b",
        "query": {
            "q": "{{phoneNumber}}", "all": "{{parsedPhoneNumber.number.international}} a:b$c,d'(e)!~[f]&g=h#i",
            "none": "{{unknown}}", "raw": "{{unknown}}{{unknown}}", "null": null, "yes": "{{parsedPhoneNumber.valid}}",
            "list": ["a", 1], "nested": {"k": "v"}, "code": "{{parsedPhoneNumber.countryCode}}",
        },
    }));
    let seen = asked(find, find_with_no_info()).await;
    assert_eq!(
        seen.raw_query,
        "first=%2B16505551234&fixed=a+b&q=%2B16505551234\
         &all=%2B1+650-555-1234+a:b$c,d%27(e)!~%5Bf%5D%26g%3Dh%23i\
         &raw=&yes=true&list%5B%5D=a&list%5B%5D=1&nested%5Bk%5D=v&code=1"
    );
    assert_eq!((seen.method.as_str(), seen.text.as_str()), ("GET", "{}"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
}

fn find_with_no_info() -> FindContactRequest {
    find()
}

#[tokio::test]
async fn a_body_is_a_form_if_the_configuration_says_so() {
    let find = searching(json!({
        "method": "post", "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        "body": {"q": "{{phoneNumber}}", "l": [1, 2], "none": "{{unknown}}"},
    }));
    let seen = asked(find, find_with_no_info()).await;
    assert_eq!(seen.text, "q=%2B16505551234&l%5B%5D=1&l%5B%5D=2");
    assert_eq!(
        seen.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    let find = searching(json!({"headers": {"content-type": "application/vnd.api+json"}}));
    let seen = asked(find, find_with_no_info()).await;
    assert_eq!(
        seen.header("content-type"),
        Some("application/vnd.api+json")
    );
}

#[tokio::test]
async fn the_credential_is_sent_as_auth_says() {
    let template = |text: &str| json!({"credentialTemplate": text});
    let with = |mut auth: Value, key: &str, value: &str| {
        auth[key] = value.into();
        auth
    };
    let (key, bearer) = (basic("key-1:"), "Bearer tok-1".to_owned());
    let plain = with(template("{{apiKey}}"), "encode", "none");
    for (auth, header, name, expected) in [
        // The caller's header as it came.
        (json!({}), &key, "authorization", key.clone()),
        (json!(null), &bearer, "authorization", bearer.clone()),
        (
            json!({"type": "oauth", "scheme": "X"}),
            &bearer,
            "authorization",
            bearer.clone(),
        ),
        (
            json!({"headerName": "X-Key"}),
            &bearer,
            "x-key",
            bearer.clone(),
        ),
        (
            json!({"credentialTemplate": "", "headerName": ""}),
            &bearer,
            "authorization",
            bearer.clone(),
        ),
        // A template in base64, unless it says "none".
        (
            template("{{apiKey}}:"),
            &key,
            "authorization",
            STANDARD.encode("key-1:"),
        ),
        (
            with(template("{{apiKey}}:{{secretKey}}"), "scheme", "Basic"),
            &key,
            "authorization",
            basic("key-1:own"),
        ),
        (
            with(template("{{user.accessToken}}"), "encode", "NONE"),
            &bearer,
            "authorization",
            STANDARD.encode("tok-1"),
        ),
        (plain.clone(), &key, "authorization", "key-1".to_owned()),
        (
            plain.clone(),
            &basic("a:b:"),
            "authorization",
            "a:b".to_owned(),
        ),
        (
            plain.clone(),
            &basic("a:b"),
            "authorization",
            "a:b".to_owned(),
        ),
        (
            plain.clone(),
            &"just-a-key".to_owned(),
            "authorization",
            "just-a-key".to_owned(),
        ),
        (
            with(plain.clone(), "scheme", "Token"),
            &bearer,
            "authorization",
            "Token tok-1".to_owned(),
        ),
        (
            with(
                with(
                    template(
                        "{{authHeader}}/{{user.platformAdditionalInfo.n}}/{{user.id}}{{user.refreshToken}}",
                    ),
                    "encode",
                    "none",
                ),
                "headerName",
                "X-All",
            ),
            &bearer,
            "x-all",
            "Bearer tok-1/7/user".to_owned(),
        ),
    ] {
        let mut config = with_find(searching(json!({})));
        config["auth"] = auth.clone();
        config["secretKey"] = "own".into();
        let proxied = Proxied::new(&config).await;
        let seen = proxied.asked(with_info(json!({"n": 7})).auth(header)).await;
        assert_eq!(seen.header(name), Some(expected.as_str()), "{auth}");
    }
}

#[tokio::test]
async fn an_operations_own_auth_replaces_the_common_one_as_a_whole() {
    let own = json!({"auth": {"headerName": "X-Own"}});
    let mut config = with_find(searching(own));
    config["auth"] = json!({"credentialTemplate": "{{apiKey}}", "scheme": "S", "encode": "none"});
    let seen = Proxied::new(&config).await.asked(find()).await;
    assert_eq!(seen.header("x-own"), Some("Bearer token-1"));
    assert_eq!(seen.authorization, None);
}

#[tokio::test]
async fn the_secret_of_the_settings_wins_over_that_of_the_configuration() {
    let mut secret = NamedTempFile::new().unwrap();
    secret.write_all(b"from-settings\n").unwrap();
    let more = format!(
        "secrets.secretKey = {{ file = \"{}\" }}",
        secret.path().display()
    );
    for own in [json!(null), json!("own")] {
        let mut config = with_find(searching(
            json!({"query": {"q": "{{phoneNumber}}", "s": "{{secretKey}}"}}),
        ));
        config["secretKey"] = own;
        config["auth"] = json!({"credentialTemplate": "{{secretKey}}", "encode": "none"});
        let seen = Proxied::below(&config, "", &more).await.asked(find()).await;
        assert_eq!(seen.authorization.as_deref(), Some("from-settings"));
        assert_eq!(seen.param("s"), Some("from-settings"));
    }
}

#[tokio::test]
async fn later_headers_win_and_those_of_the_connection_are_not_the_configurations() {
    let mut config = with_find(searching(json!({
        "headers": {
            "x-b": "operation {{parsedPhoneNumber.countryCode}}", "X-C": "operation", "Host": "evil.example.com",
            "Content-Length": "5", "Transfer-Encoding": "chunked", "X-Gone": "{{unknown}}", "X-Empty": "{{unknown}}{{unknown}}",
            "X-Number": 5, "X-Token": "t {{apiKey}}", "Cookie": "session={{user.accessToken}}", "X-False": false,
        },
    })));
    config["requestDefaults"]["defaultHeaders"] = json!({"X-A": "default", "X-B": "default", "X-C": "default", "Accept": "application/vnd.acme+json"});
    config["auth"] = json!({"headerName": "x-c"});
    let proxied = Proxied::new(&config).await;
    let seen = proxied.asked(find()).await;
    for (name, expected) in [
        ("x-a", Some("default")),
        ("x-b", Some("operation 1")),
        ("x-c", Some("Bearer token-1")),
        ("host", Some(proxied.crm.addr.to_string().as_str())),
        ("content-length", Some("2")),
        ("transfer-encoding", None),
        ("x-gone", None),
        ("x-empty", Some("")),
        ("x-false", None),
        ("x-number", Some("5")),
        ("x-token", Some("t token-1")),
        ("cookie", Some("session=token-1")),
        ("accept", Some("application/vnd.acme+json")),
        ("authorization", None),
    ] {
        assert_eq!(seen.header(name), expected, "{name}");
    }
}

#[tokio::test]
async fn base_and_url_are_joined_by_one_slash() {
    for (base, url, expected) in [
        ("/api", "c", "/api/c"),
        ("/api/", "/c", "/api/c"),
        ("/api/", "c/", "/api/c/"),
        ("/api", "", "/api"),
        (
            "",
            "/c/{{parsedPhoneNumber.number.e164}}/x y",
            "/c/+16505551234/x%20y",
        ),
        ("", "https://crm.example.com/v2/c", "/v2/c"),
        ("", "https://{{user.hostname}}/v2/c", "/v2/c"),
    ] {
        let config = with_find(searching(json!({"url": url})));
        let proxied = Proxied::below(&config, base, "").await;
        let seen = proxied.asked(find().hostname("acme.example.com")).await;
        assert_eq!(seen.path, expected, "{base} {url}");
        assert_eq!(seen.param("q"), Some("+16505551234"));
    }
}

/// Texts that would leave their place if they were pasted.
const HOSTILE: [&str; 10] = [
    "a&b=c#d?e",
    "../../admin",
    "/../x",
    "a\r\nX-Evil: 1",
    "\"}],\"x\":\"",
    "https://evil.example.com/",
    "{{secretKey}}{{apiKey}}",
    "%2e%2e%2f%00",
    "\t..",
    "@evil.example.com",
];

#[tokio::test]
async fn no_value_leaves_its_place() {
    let find = searching(json!({
        "url": "c/{{user.platformAdditionalInfo.v}}/z?u={{user.platformAdditionalInfo.v}}",
        "query": {"q": "{{phoneNumber}}", "v": "{{user.platformAdditionalInfo.v}}"},
        "headers": {"X-V": "v{{user.platformAdditionalInfo.v}}"},
        "body": {"v": "{{user.platformAdditionalInfo.v}}", "w": "-{{user.platformAdditionalInfo.v}}-"},
    }));
    let mut config = with_find(find);
    config["secretKey"] = "hidden".into();
    for value in HOSTILE {
        let proxied = Proxied::new(&config).await;
        let seen = proxied.asked(with_info(json!({"v": value}))).await;
        let segments: Vec<&str> = seen.path.split('/').collect();
        assert_eq!(
            (segments.len(), segments[1], segments[3]),
            (4, "c", "z"),
            "{value:?}"
        );
        let expected: Vec<(String, String)> = [("u", value), ("q", "+16505551234"), ("v", value)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(seen.query, expected);
        assert_eq!(seen.body, json!({"v": value, "w": format!("-{value}-")}));
        let clean = format!("v{}", value.replace(['\r', '\n', '\t'], " "));
        assert_eq!(seen.header("x-v"), Some(clean.trim()));
        assert_eq!(seen.header("x-evil"), None);
        assert!(!format!("{seen:?}").contains("hidden"));
    }
}

#[tokio::test]
async fn a_path_is_never_shorter_than_it_is_written() {
    let find = searching(json!({"url": "c/{{user.platformAdditionalInfo.v}}"}));
    let proxied = Proxied::new(&with_find(find)).await;
    for value in [json!({}), json!({"v": ""}), json!({"v": null})] {
        let error = proxied.daemon.find(with_info(value)).await.unwrap_err();
        assert_eq!(details(&error).fields, ["user.platform_additional_info"]);
    }
    for value in ["..", "."] {
        let error = proxied
            .daemon
            .find(with_info(json!({"v": value})))
            .await
            .unwrap_err();
        assert_eq!(details(&error).reason, "CRM_BAD_REPLY", "{value}");
    }
    assert_eq!(proxied.crm.seen().len(), 0);
}

#[tokio::test]
async fn what_templates_read_keeps_answers_apart() {
    let find = searching(json!({
        "query": {"q": "{{phoneNumber}}", "t": "{{user.platformAdditionalInfo.t}}", "k": "{{apiKey}}"},
    }));
    let proxied = Proxied::new(&with_find(find)).await;
    let ask = |info: Value, key: &str| {
        let request = with_info(info).auth(key);
        proxied.find(request)
    };
    ask(json!({"t": "1", "unread": "a"}), "Bearer k1").await;
    ask(json!({"t": "1", "unread": "b"}), "Bearer k1").await;
    assert_eq!(
        proxied.crm.seen().len(),
        1,
        "a field that no template reads"
    );
    ask(json!({"t": "2"}), "Bearer k1").await;
    assert_eq!(proxied.crm.seen().len(), 2);
    ask(json!({"t": "1"}), "Bearer k2").await;
    let seen = proxied.crm.seen();
    assert_eq!(seen.len(), 3, "another credential");
    assert_eq!(seen[2].param("k"), Some("k2"));
}

#[tokio::test]
async fn a_key_that_is_sent_in_a_parameter_alone_keeps_answers_apart_too() {
    let mut config = with_find(searching(
        json!({"query": {"q": "{{phoneNumber}}", "k": "{{apiKey}}"}}),
    ));
    config["auth"] = json!({"credentialTemplate": "{{secretKey}}", "headerName": "X-App"});
    config["secretKey"] = "app".into();
    let proxied = Proxied::new(&config).await;
    for key in ["k1", "k2", "k1"] {
        proxied.find(find().auth(&format!("Bearer {key}"))).await;
    }
    assert_eq!(proxied.crm.seen().len(), 2);
}

#[tokio::test]
async fn an_extension_is_looked_up_only_if_the_configuration_knows_of_extensions() {
    let extension = || FindContactRequest {
        is_extension: true,
        ..find().number("101")
    };
    let proxied = Proxied::new(&with_find(searching(json!({})))).await;
    proxied.find(extension()).await;
    assert_eq!(proxied.crm.seen().len(), 0);
    let query = json!({
        "q": "{{phoneNumber}}", "x": "{{isExtension}}", "n": "{{parsedPhoneNumber.number.e164}}",
        "v": "{{parsedPhoneNumber.valid}}",
    });
    let proxied = Proxied::new(&with_find(searching(json!({"query": query})))).await;
    proxied
        .crm
        .becomes(|_| Reply::json(json!([{"id": 1, "name": "Desk", "phone": "101"}])));
    let found = proxied.find(extension()).await;
    assert_eq!(found[0].name, "Desk");
    assert_eq!(proxied.crm.seen()[0].raw_query, "q=101&x=true&v=false");
}

#[tokio::test]
async fn without_the_operation_or_its_mapping_nobody_is_found_and_nothing_is_asked() {
    let mut without = with_find(json!({}));
    without["operations"] = json!({"createContact": {"url": "x"}});
    let mut unmapped = with_find(searching(json!({})));
    unmapped["operations"]["findContact"]["responseMapping"] = json!(null);
    for config in [without, unmapped] {
        let proxied = Proxied::new(&config).await;
        assert_eq!(proxied.find(find()).await, []);
        assert_eq!(proxied.crm.seen().len(), 0);
    }
}

#[tokio::test]
async fn the_example_of_the_documentation_works() {
    let page = include_str!("../../deploy/connectors/PROXY.md");
    let (_, rest) = page.split_once("```json\n").unwrap();
    let config: Value = serde_json::from_str(rest.split_once("```").unwrap().0).unwrap();
    let proxied = Proxied::below(&config, "/v1", "").await;
    proxied.crm.becomes(|seen| match seen.path.as_str() {
        "/v1/me" => Reply::json(json!({"id": "u"})),
        _ => Reply::json(json!({"data": {"contacts": [
            {"uuid": "c-1", "full_name": "Ada", "phones": [{"value": "650-555-1234"}], "account": {"name": "Engines"}},
            {"uuid": "c-2", "full_name": "Bob", "phones": [{"value": "650-555-9999"}]},
        ]}})),
    });
    let request = with_info(json!({"tenant": "t-1"})).auth(&basic("key-1:"));
    let found = proxied.find(request).await;
    assert_eq!(found.len(), 1, "the other one has another number");
    assert_eq!(
        (found[0].name.as_str(), found[0].company.as_str()),
        ("Ada", "Engines")
    );
    assert_eq!(found[0].match_quality(), MatchQuality::Exact);
    let all = proxied.crm.seen();
    let seen = all.iter().find(|seen| seen.path != "/v1/me").unwrap();
    assert_eq!(seen.path, "/v1/contacts/search");
    assert_eq!(seen.raw_query, "phone=6505551234&country=1");
    assert_eq!(seen.authorization, Some(basic("key-1:not-a-real-secret")));
    assert_eq!(seen.header("x-tenant"), Some("t-1"));
    assert_eq!(seen.text, "{}");
}
