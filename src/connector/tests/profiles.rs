//! What a profile decides: the meaning of replies, stop rule, groups, inputs.

use std::num::NonZeroUsize;

use super::*;

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
        let user = user(&platform, &[], &[]);
        let crm = session(&platform, &user).unwrap();
        let group = group(&platform, &user);
        let ada = example::record(&json!({"id": 1, "name": "Ada"})).contact;
        let found = Found {
            contacts: vec![ada; 5],
            extensions: vec![String::new(); 5],
            complete: true,
        };
        let shared = Arc::clone(&connector) as Arc<dyn Connector>;
        let mut details = Details::begin(&shared, &crm, found, (Lane::CallPop, 2), group);
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
        (user.info.text("mail", &[]), user.info.text("token", &[])),
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
            hosts: vec!["*.example.com".parse().unwrap()],
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
