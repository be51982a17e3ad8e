//! One user's contacts are never another's.

use contactd::pb::v1::FindContactRequest;

use crate::support::crm::example;
use crate::support::daemon::{Changed as _, names};
use crate::support::{FakeCrm, TestDaemon, contact, find};

/// A CRM that shows each credential its own contact.
async fn personal() -> (FakeCrm, TestDaemon) {
    let crm = FakeCrm::start(|seen| {
        let owner = seen
            .authorization
            .clone()
            .unwrap_or_default()
            .replace("Bearer ", "");
        example(seen, &[contact(1, &owner, "+16505551234")])
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    (crm, daemon)
}

fn of(account: &str, id: &str, token: &str) -> FindContactRequest {
    let mut request = find().user(id).auth(&format!("Bearer {token}"));
    request.user.as_mut().unwrap().account_id = account.to_owned();
    request
}

#[tokio::test]
async fn each_user_has_answers_of_their_own_whatever_the_ids() {
    let (_crm, daemon) = personal().await;
    let users = [
        ("", "a|b"),
        ("", "a"),
        ("a", "b"),
        ("a|b", ""),
        ("a", "|b"),
        ("b", "a"),
        ("", "ab"),
        ("ab", "c"),
        ("a", "bc"),
        ("", "a\0b"),
        ("", "a\nb"),
        ("", "A"),
        ("", " a"),
        ("", "a "),
        ("", "*"),
        ("", "\u{202e}a"),
        ("", "ａ"),
    ];
    for round in 0..2 {
        for (n, (account, id)) in users.iter().enumerate() {
            if id.is_empty() {
                continue;
            }
            let token = format!("token-of-{n}");
            let response = daemon.find(of(account, id, &token)).await.unwrap();
            assert_eq!(
                names(&response),
                [token.as_str()],
                "round {round}: {account:?} {id:?}"
            );
        }
    }
}

#[tokio::test]
async fn platforms_hosts_formats_and_regions_are_told_apart() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let url = crm.url();
    let daemon = TestDaemon::start(&format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{url}\"\n\
         [connectors.other]\nkind = \"example\"\nbase_url = \"{url}\"\n"
    ))
    .await;
    let questions = [
        find(),
        find().platform("other"),
        find().hostname("a.example.com"),
        find().hostname("b.example.com"),
        find().formats(&["(###) ###-####"]),
        find().formats(&["(###) ###-####", "##########"]),
        find().formats(&["##########", "(###) ###-####"]),
        find().region("US"),
        find().region("DE"),
    ];
    for (asked, question) in questions.iter().enumerate() {
        daemon.find(question.clone()).await.unwrap();
        daemon.find(question.clone()).await.unwrap();
        assert_eq!(crm.searches(), asked + 1, "each is one look-up of its own");
    }
    // What cannot change the answer shares it: useless formats.
    daemon.find(find().formats(&["", "none"])).await.unwrap();
    assert_eq!(crm.searches(), questions.len());
}
