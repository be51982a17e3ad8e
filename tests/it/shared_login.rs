//! The shared login: questions without a credential, who may ask them, and whose answers they
//! get. What browsers can do with it is in `browsers`, the settings in `settings`.

use contactd::pb::v1::prefetch_contacts_response::Event;
use contactd::pb::v1::{
    FindContactRequest, InvalidateContactsRequest, PrefetchContactsRequest, Source, User,
};
use tempfile::NamedTempFile;
use tonic::Code;

use crate::clients::{sha256, with_token};
use crate::commands::{contactd, run, text};
use crate::support::crm::user_named;
use crate::support::daemon::{Changed as _, NUMBER, details, names};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find};

mod browsers;
mod settings;

const SHARED: &str = "Bearer shared-secret";

/// A file with this content.
fn file(content: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

/// Settings whose platform "example" has the login in `file`.
fn settings_with(crm: &FakeCrm, file: &NamedTempFile, more: &str) -> String {
    format!(
        "{more}\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\ncredential = {{ file = {:?} }}\n",
        crm.url(),
        file.path()
    )
}

async fn daemon_with(crm: &FakeCrm, more: &str) -> TestDaemon {
    let file = file(&format!("{SHARED}\n"));
    TestDaemon::start(&settings_with(crm, &file, more)).await
}

/// A CRM in which the shared login sees Ada, and everybody else Bob.
async fn crm() -> FakeCrm {
    FakeCrm::start(|seen| {
        let is_shared = seen.authorization.as_deref() == Some(SHARED);
        let name = if is_shared { "Ada" } else { "Bob" };
        crate::support::crm::example(seen, &[contact(1, name, NUMBER)])
    })
    .await
}

/// A question without a credential.
fn bare() -> FindContactRequest {
    find().auth("")
}

#[tokio::test]
async fn a_question_without_a_credential_uses_the_shared_login() {
    let crm = crm().await;
    let daemon = daemon_with(&crm, "").await;
    for (auth, source) in [
        ("", Source::Crm),
        ("  ", Source::Memory),
        ("", Source::Memory),
    ] {
        let answer = daemon.find(find().auth(auth)).await.unwrap();
        assert_eq!(names(&answer), ["Ada"]);
        assert_eq!(answer.lookup.unwrap().source(), source);
    }
    let calls = crm.seen();
    assert!(
        calls
            .iter()
            .all(|call| call.authorization.as_deref() == Some(SHARED))
    );
}

#[tokio::test]
async fn the_answers_of_the_shared_login_are_its_own() {
    let crm = crm().await;
    let daemon = daemon_with(&crm, "").await;
    assert_eq!(names(&daemon.find(bare()).await.unwrap()), ["Ada"]);
    // The same user id with a credential of its own, and one that the CRM refuses.
    let own = daemon.find(find().auth("Bearer own")).await.unwrap();
    assert_eq!(
        (names(&own), own.lookup.as_ref().unwrap().source()),
        (vec!["Bob"], Source::Crm)
    );
    crm.becomes(|_| Reply::status(401));
    let refused = daemon.find(find().auth("Bearer false")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let only = FindContactRequest {
        only_if_cached: true,
        ..find().auth("Bearer false")
    };
    assert_eq!(daemon.find(only).await.unwrap_err().code(), Code::NotFound);
    // Neither of them has changed what the shared login has.
    assert_eq!(names(&daemon.find(bare()).await.unwrap()), ["Ada"]);
    // By the rule for every credential: the CRM says that both are the same person.
    crm.becomes(|seen| match seen.asks_who() {
        true => user_named(SHARED),
        false => Reply::status(500),
    });
    let same = daemon.find(find().auth("Bearer colleague")).await.unwrap();
    assert_eq!(names(&same), ["Ada"]);
}

#[tokio::test]
async fn without_the_setting_the_message_names_it_and_the_field() {
    let crm = crm().await;
    let daemon = TestDaemon::over(&crm).await;
    let status = daemon.find(bare()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(details(&status).fields, ["auth_header"]);
    assert!(
        status.message().contains("connectors.example.credential"),
        "{status}"
    );
    assert!(crm.seen().is_empty() && crm.asked_who() == 0);
}

#[tokio::test]
async fn a_listed_client_uses_it_for_the_platforms_of_its_list() {
    let crm = crm().await;
    let entry = |name: &str, more: &str| {
        format!(
            "{{ name = \"{name}\", sha256 = \"{}\"{more} }}",
            sha256(name)
        )
    };
    let tokens = format!(
        "[grpc]\ntokens = [{}, {}]\n[connectors.other]\nkind = \"example\"\nbase_url = \"{}\"\n",
        entry("pbx", ""),
        entry("crm-sync", ", platforms = [\"other\"]"),
        crm.url()
    );
    let daemon = daemon_with(&crm, &tokens).await;
    let asked = |token: &str| daemon.find(with_token(&format!("Bearer {token}"), bare()));
    assert_eq!(names(&asked("pbx").await.unwrap()), ["Ada"]);
    let status = asked("crm-sync").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        asked("nobody").await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        daemon.find(bare()).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    // It is the login of one platform.
    let other = with_token("Bearer pbx", bare().platform("other"));
    assert_eq!(
        daemon.find(other).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_batch_uses_it_and_an_invalidation_needs_none() {
    let crm = crm().await;
    let daemon = daemon_with(&crm, "").await;
    let user = User {
        id: "user-1".to_owned(),
        platform: "example".to_owned(),
        ..Default::default()
    };
    let request = PrefetchContactsRequest {
        user: Some(user.clone()),
        phone_numbers: vec![NUMBER.to_owned()],
        ..Default::default()
    };
    let mut client = daemon.client.clone();
    let mut events = client
        .prefetch_contacts(request)
        .await
        .unwrap()
        .into_inner();
    let mut found = 0;
    while let Some(event) = events.message().await.unwrap() {
        if let Some(Event::Finished(finished)) = event.event {
            found = finished.found;
        }
    }
    assert_eq!(found, 1);
    let hit = daemon.find(bare()).await.unwrap();
    assert_eq!(hit.lookup.unwrap().source(), Source::Memory);
    let everything = contactd::pb::v1::invalidate_contacts_request::Scope::Everything(true);
    let forget = InvalidateContactsRequest {
        user: Some(user),
        scope: Some(everything),
    };
    client.invalidate_contacts(forget).await.unwrap();
    let miss = daemon.find(bare()).await.unwrap();
    assert_eq!(miss.lookup.unwrap().source(), Source::Crm);
}

#[tokio::test]
async fn the_commands_need_no_credential_then() {
    let crm = crm().await;
    let daemon = daemon_with(&crm, "").await;
    let url = format!("http://{}", daemon.grpc);
    let mut command = contactd(&["find", NUMBER, "--server", &url]);
    command.env_remove("CONTACTD_AUTH_HEADER");
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Ada"));
}
