//! Connectors that fetch a token with the operator's secrets.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tempfile::NamedTempFile;
use tonic::Code;

use crate::support::crm::Seen;
use crate::support::daemon::{Changed as _, details, names};
use crate::support::{FakeCrm, Reply, TestDaemon, find};

pub(crate) const SPEC: &str = r#"
format = 1
name = "Tokens"
[crm]
base = "https://crm.example.com"
quota = { rate = 1000, per = "1s" }
[[search]]
get = "/search"
query = { phone = "{{text}}" }
list = "people"
phones = ["phone"]
record = { id = "{{id}}", name = "{{name}}" }
[auth]
headers = { Authorization = "Bearer {{token}}", X-Key = "{{secret.key}}" }
[auth.token]
post = "https://sign-in.example.com/connect/token"
form = { grant_type = "client_credentials", client_secret = "{{secret.client}}" }
"#;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// A daemon whose platform "example" fetches its token, and the files of its settings.
async fn daemon(crm: &FakeCrm) -> (TestDaemon, [NamedTempFile; 2]) {
    let files = [file(SPEC), file("s3cret\n")];
    let [spec, secret] = files
        .each_ref()
        .map(|file| file.path().display().to_string());
    let toml = format!(
        "[connectors.example]\nkind = \"file\"\nspec = \"{spec}\"\nbase_url = \"{}\"\nregion = \"US\"\n\
         secrets.key = {{ file = \"{secret}\" }}\nsecrets.client = {{ file = \"{secret}\" }}\n",
        crm.url()
    );
    (TestDaemon::start(&toml).await, files)
}

fn found(seen: &Seen) -> Reply {
    let phone = seen.param("phone").unwrap_or_default();
    Reply::json(json!({"people": [{"id": 1, "name": "Ada", "phone": phone}]}))
}

#[tokio::test]
async fn a_token_is_fetched_once_and_serves_all_callers() {
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetched);
    let crm = FakeCrm::start(move |seen| match seen.path.as_str() {
        "/connect/token" => {
            count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(seen.authorization, None);
            Reply::json(json!({"access_token": "t0k3n", "expires_in": 3600}))
        }
        _ => {
            assert_eq!(seen.authorization.as_deref(), Some("Bearer t0k3n"));
            found(seen)
        }
    })
    .await;
    let (daemon, _files) = daemon(&crm).await;
    let look_ups = (0..20).map(|n| {
        let number = format!("+1650555{:04}", 100 + n);
        daemon.find(find().number(&number))
    });
    for response in futures_util::future::join_all(look_ups).await {
        assert_eq!(names(&response.unwrap()), ["Ada"]);
    }
    assert_eq!(fetched.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn refused_secrets_are_reported_without_asking_the_crm() {
    let crm = FakeCrm::start(|seen| {
        assert_eq!(seen.path, "/connect/token");
        Reply::status(400)
    })
    .await;
    let (daemon, _files) = daemon(&crm).await;
    let status = daemon.find(find()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(details(&status).reason, "CRM_UNAUTHENTICATED");
    crm.becomes(|seen| match seen.path.as_str() {
        "/connect/token" => Reply::json(json!({"token": "of another form"})),
        path => panic!("unexpected path {path}"),
    });
    let (daemon, _files) = self::daemon(&crm).await;
    let status = daemon.find(find()).await.unwrap_err();
    assert_eq!(details(&status).reason, "CRM_BAD_REPLY");
}
