//! Answers in Redis that are sealed: who can read them, where, and what a change of keys costs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contactd::cache::KeyRing;
use contactd::pb::v1::Source;
use contactd::redis_link::user::token;
use redis::Script;
use tempfile::NamedTempFile;

use super::{begin, entry, key, load, question, stored};
use crate::support::daemon::names;
use crate::support::fleet::{ada, replica};
use crate::support::redis::{RedisServer, data, link_to, tier_on};
use crate::support::{FakeCrm, find};

/// A line of a key file, with a key made now.
fn line(id: &str) -> String {
    format!("{id}:{}\n", STANDARD.encode([token(), token()].concat()))
}

fn ring(lines: &str) -> Option<KeyRing> {
    Some(KeyRing::parse(lines.as_bytes()).unwrap())
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn only_who_has_the_key_reads_an_answer_and_everybody_else_has_a_miss() {
    let server = RedisServer::start().await;
    let tier = |lines: &str| tier_on(link_to(&server.url())).sealed(ring(lines));
    let (old, new, foreign) = (line("old"), line("new"), line("old"));
    let ann = (key("u", 1), entry("Ann", 1_000));
    assert!(load(&tier(&old), &ann.0, &ann.1).await);
    for (keys, read) in [
        (old.clone(), true),
        (new.clone() + &old, true),
        (new.clone(), false),
        (foreign, false),
    ] {
        let expected = read.then(|| ann.1.clone());
        assert_eq!(stored(&tier(&keys), &ann.0).await, Ok(expected.clone()));
        let begun = begin(&tier(&keys), &ann.0).await.unwrap();
        assert_eq!(tier(&keys).entry(&begun.held, &ann.0), expected);
        assert_eq!(
            tier(&keys)
                .get_many(ann.0.user(), &[ann.0, ann.0], data())
                .await,
            Ok(vec![expected.clone(), expected])
        );
    }
    let plain = tier_on(link_to(&server.url()));
    assert_eq!(
        stored(&plain, &ann.0).await,
        Ok(None),
        "without keys a sealed answer is a miss"
    );
    assert!(
        load(&plain, &ann.0, &entry("Ann", 2_000)).await,
        "and is replaced"
    );
    assert_eq!(
        stored(&tier(&old), &ann.0).await,
        Ok(None),
        "with keys what is not sealed is a miss"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_value_that_is_moved_to_another_number_or_user_is_a_miss_sealed_or_not() {
    /// Puts the value of one record in the place of another's, under that one's identity and
    /// question.
    const MOVE: &str = "
        local from, to = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
        redis.call('SET', KEYS[2], string.sub(to, 1, 64) .. string.sub(from, 65))
        return #from";
    for keys in [Some(line("k")), None] {
        let server = RedisServer::start().await;
        let tier = tier_on(link_to(&server.url())).sealed(keys.as_deref().and_then(ring));
        let sheet_of = |before: &[String]| {
            server
                .keys()
                .into_iter()
                .find(|key| key.contains(":a:") && !before.contains(key))
                .unwrap()
        };
        assert!(load(&tier, &key("mallory", 1), &entry("Mallory", 1)).await);
        let from = sheet_of(&[]);
        for (user, number) in [("ann", 1), ("mallory", 2)] {
            let (before, victim) = (server.keys(), key(user, number));
            assert!(load(&tier, &victim, &entry("Ann", 1)).await);
            let to = sheet_of(&before);
            assert_eq!(stored(&tier, &victim).await, Ok(Some(entry("Ann", 1))));
            let mut connection = redis::Client::open(server.url())
                .unwrap()
                .get_connection()
                .unwrap();
            let bytes: usize = Script::new(MOVE)
                .key(&from)
                .key(&to)
                .invoke(&mut connection)
                .unwrap();
            assert!(bytes > 68);
            assert_eq!(
                stored(&tier, &victim).await,
                Ok(None),
                "{:?}",
                question(user, number)
            );
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn replicas_with_the_same_key_file_share_answers_and_others_ask_the_crm() {
    let redis = RedisServer::start().await;
    let crm = FakeCrm::start(ada).await;
    let [ours, other] = ["k1", "k1"].map(|id| {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), line(id)).unwrap();
        file
    });
    let setting = |file: &NamedTempFile| {
        format!(
            "timeout = \"2s\"\nencryption_key_file = \"{}\"",
            file.path().display()
        )
    };
    let source = async |more: &str| {
        let answer = replica(&crm, &redis.url(), more)
            .await
            .find(find())
            .await
            .unwrap();
        assert_eq!(names(&answer), ["Ada"]);
        answer.lookup.unwrap().source()
    };
    assert_eq!(source(&setting(&ours)).await, Source::Crm);
    assert_eq!(source(&setting(&ours)).await, Source::Redis);
    assert_eq!(
        source(&setting(&other)).await,
        Source::Crm,
        "another key is a miss, no error"
    );
    assert_eq!(
        source("timeout = \"2s\"").await,
        Source::Crm,
        "so are no keys"
    );
    assert_eq!(
        source(&setting(&ours)).await,
        Source::Crm,
        "and what is not sealed, with keys"
    );
}
