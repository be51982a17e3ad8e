//! The Redis tier against a real server: what is stored, what is refused, and what is left.

mod away;
mod blips;
mod kinds;
mod log;
mod reads;
pub(crate) mod refusals;
mod sealed;
mod shared;

use std::time::Duration;

use contactd::cache::{Begun, NumberToken, RedisTier, StoreOutcome};
use contactd::clock::Stopwatch;
use contactd::domain::user::{AdditionalInfo, Settings};
use contactd::domain::{
    AuthTag, Contact, ContactKey, Crm, E164, Entry, Identity, KeyMaker, MatchQuality, NumberFormat,
    Party, QuestionKey, SharedTime, User,
};
use contactd::redis_link::LinkError;

use crate::support::redis::{RedisServer, data, link_to, tier_on};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn party(n: u32) -> Party {
    Party::Number(E164::parse(&format!("+1650{}", 2_000_000 + n), None).unwrap())
}

/// The question of user `id` about number `n`.
pub(crate) fn question(id: &str, n: u32) -> QuestionKey {
    question_in(id, n, &[])
}

fn question_in(id: &str, n: u32, formats: &[NumberFormat]) -> QuestionKey {
    let user = User {
        id: id.to_owned(),
        account: String::new(),
        host: None,
        region: None,
        settings: Settings::default(),
        info: AdditionalInfo::default(),
    };
    let crm = Crm {
        connector: "example",
        base_url: "",
        regions: &[],
        settings: &[],
        info: &[],
    };
    KeyMaker::new([1; 16])
        .prefix(&crm, &user, formats)
        .question(party(n))
}

/// The answer to that question.
fn key(id: &str, n: u32) -> ContactKey {
    question(id, n).of(&Identity::Caller)
}

fn key_in(id: &str, n: u32, formats: &[NumberFormat]) -> ContactKey {
    question_in(id, n, formats).of(&Identity::Caller)
}

/// The same for somebody else who claims to be user `id`.
fn key_of(identity: u8, id: &str, n: u32, formats: &[NumberFormat]) -> ContactKey {
    question_in(id, n, formats).of(&Identity::Credential(AuthTag::from_bytes([identity; 16])))
}

/// Redis' time in these tests.
pub(crate) const NOW: SharedTime = SharedTime(1_000_000);

pub(crate) fn contact(name: &str) -> Contact {
    Contact {
        id: "1".to_owned(),
        name: name.to_owned(),
        kind: String::new(),
        title: String::new(),
        company: String::new(),
        email: String::new(),
        created: String::new(),
        last_activity: String::new(),
        additional_info: serde_json::Map::new(),
        quality: MatchQuality::Exact,
        kept: Vec::new(),
    }
}

pub(crate) fn entry(name: &str, asked_at: u64) -> Entry {
    Entry::new(&party(1), &[contact(name)], true, SharedTime(asked_at)).with_jitter(7)
}

pub(crate) async fn load(tier: &RedisTier, key: &ContactKey, entry: &Entry) -> bool {
    let number_token = begin(tier, key).await.unwrap().number_token;
    store(tier, key, &number_token, entry).await.unwrap()
}

/// Begins a load of this number.
pub(crate) async fn begin(tier: &RedisTier, key: &ContactKey) -> Result<Begun, LinkError> {
    tier.begin(key.user(), key.party(), data()).await
}

/// Whether the answer was kept.
pub(crate) async fn store(
    tier: &RedisTier,
    key: &ContactKey,
    number_token: &NumberToken,
    entry: &Entry,
) -> Result<bool, LinkError> {
    let outcome = tier.store(key, number_token, entry, HOUR, NOW).await?;
    Ok(matches!(outcome, StoreOutcome::Stored(_)))
}

/// The stored answer, as somebody reads it who knows no user token.
pub(crate) async fn stored(tier: &RedisTier, key: &ContactKey) -> Result<Option<Entry>, LinkError> {
    let held = tier.get(key.user(), key.party(), None, data()).await?;
    Ok(tier.entry(&held, key))
}

pub(crate) async fn tier() -> (RedisServer, RedisTier) {
    let server = RedisServer::start().await;
    let tier = tier_on(link_to(&server.url()));
    (server, tier)
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_answer_stored_by_one_replica_is_read_by_another() {
    let (server, tier) = tier().await;
    let other = tier_on(link_to(&server.url()));
    assert_eq!(stored(&tier, &key("u", 1)).await, Ok(None));
    assert!(begin(&tier, &key("u", 1)).await.unwrap().held.is_empty());
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1_000)).await);
    assert_eq!(
        stored(&other, &key("u", 1)).await,
        Ok(Some(entry("Ann", 1_000)))
    );
    let begun = begin(&other, &key("u", 1)).await.unwrap();
    assert_eq!(
        other.entry(&begun.held, &key("u", 1)),
        Some(entry("Ann", 1_000))
    );
    for unasked in [
        key("u", 2),
        key("v", 1),
        key_in("u", 1, &[NumberFormat::parse("###").unwrap()]),
    ] {
        assert_eq!(stored(&other, &unasked).await, Ok(None));
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn questions_about_one_number_are_kept_and_forgotten_together() {
    let (_server, tier) = tier().await;
    let (plain, spelt) = (
        key("u", 1),
        key_in("u", 1, &[NumberFormat::parse("###").unwrap()]),
    );
    assert!(load(&tier, &plain, &entry("Ann", 1)).await);
    assert!(load(&tier, &spelt, &entry("Bob", 2)).await);
    let both = tier
        .get_many(plain.user(), &[plain, spelt], data())
        .await
        .unwrap();
    assert_eq!(both, [Some(entry("Ann", 1)), Some(entry("Bob", 2))]);
    tier.invalidate_numbers(plain.user(), &[party(1)])
        .await
        .unwrap();
    assert_eq!(
        tier.get_many(plain.user(), &[plain, spelt], data()).await,
        Ok(vec![None, None])
    );
}

fn spelt(n: usize) -> [NumberFormat; 1] {
    [NumberFormat::parse(&"#".repeat(n)).unwrap()]
}

/// When the stored answers were asked for; zero for those that are not there.
async fn asked_at(tier: &RedisTier, keys: &[ContactKey]) -> Vec<u64> {
    let entries = tier.get_many(keys[0].user(), keys, data()).await.unwrap();
    entries
        .iter()
        .map(|entry| entry.as_ref().map_or(0, |entry| entry.asked_at().0))
        .collect()
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn of_too_many_questions_of_one_identity_about_one_number_the_latest_stay() {
    let (_server, tier) = tier().await;
    let keys: Vec<_> = (1..=6).map(|n| key_in("u", 1, &spelt(n))).collect();
    for (n, key) in (1..).zip(&keys) {
        assert!(load(&tier, key, &entry("Ann", n)).await);
    }
    assert!(
        load(&tier, &keys[3], &entry("Bob", 11)).await,
        "an answer that is replaced takes no place of others"
    );
    assert_eq!(asked_at(&tier, &keys).await, [0, 0, 3, 11, 5, 6]);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn no_identity_pushes_out_the_answers_of_another_one() {
    let (_server, tier) = tier().await;
    let ann: Vec<_> = (1..=4).map(|n| key_of(1, "u", 1, &spelt(n))).collect();
    for (n, key) in (1..).zip(&ann) {
        assert!(load(&tier, key, &entry("Ann", n)).await);
    }
    for n in 1..=50 {
        assert!(
            load(
                &tier,
                &key_of(2, "u", 1, &spelt(n)),
                &entry("Mallory", 100 + n as u64)
            )
            .await
        );
    }
    assert_eq!(
        asked_at(&tier, &ann).await,
        [1, 2, 3, 4],
        "one token with many formats"
    );
    let many: Vec<_> = (1..=10)
        .map(|identity| key_of(identity, "v", 1, &[]))
        .collect();
    for (n, key) in (1..).zip(&many) {
        assert!(load(&tier, key, &entry("Ann", n)).await);
    }
    assert_eq!(
        asked_at(&tier, &many).await,
        [0, 0, 3, 4, 5, 6, 7, 8, 9, 10],
        "a sheet has an end, the latest stay"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn storing_an_answer_returns_when_the_replaced_one_was_asked_for() {
    let (_server, tier) = tier().await;
    let key = key("u", 1);
    let begun = begin(&tier, &key).await.unwrap();
    let store = async |asked| {
        tier.store(&key, &begun.number_token, &entry("Ann", asked), HOUR, NOW)
            .await
            .unwrap()
    };
    assert_eq!(store(5_000).await, StoreOutcome::Stored(None));
    assert_eq!(
        store(6_000).await,
        StoreOutcome::Stored(Some(SharedTime(5_000)))
    );
    assert_eq!(store(5_500).await, StoreOutcome::Superseded);
    tier.invalidate_numbers(key.user(), &[party(1)])
        .await
        .unwrap();
    assert_eq!(store(7_000).await, StoreOutcome::Invalidated);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_answer_from_the_future_is_replaced() {
    let (_server, tier) = tier().await;
    let ahead = |by: u64| NOW.0 + by;
    for (earlier, stays) in [
        (ahead(0), true),
        (ahead(5_000), true),
        (ahead(5_001), false),
        (ahead(3_600_000), false),
    ] {
        let key = key("u", u32::try_from(earlier % 1_000_000).unwrap());
        assert!(load(&tier, &key, &entry("Ann", earlier)).await);
        assert_eq!(
            load(&tier, &key, &entry("Bob", NOW.0 - 1)).await,
            !stays,
            "{earlier}"
        );
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_load_that_began_before_an_invalidation_is_refused() {
    let (server, tier) = tier().await;
    for what in [
        "number",
        "user",
        "flush",
        "user token evicted",
        "sheet evicted",
    ] {
        let key = key("u", 1);
        let begun = begin(&tier, &key).await.unwrap();
        let evict = |end: &str| {
            let name = server
                .keys()
                .into_iter()
                .find(|name| name.contains(end))
                .unwrap();
            server.run::<()>(&["DEL", &name]);
        };
        match what {
            "number" => tier
                .invalidate_numbers(key.user(), &[party(1)])
                .await
                .unwrap(),
            "user" => tier.invalidate_user(key.user()).await.unwrap(),
            "flush" => server.flush(),
            "user token evicted" => evict(":g"),
            _ => evict(":a:"),
        }
        // A load that begins now has its own number token, which does not help the earlier load.
        let later = begin(&tier, &key).await.unwrap();
        assert_eq!(
            store(&tier, &key, &begun.number_token, &entry("old", 9)).await,
            Ok(false),
            "{what}"
        );
        assert_eq!(stored(&tier, &key).await, Ok(None), "{what}");
        assert_eq!(
            store(&tier, &key, &later.number_token, &entry("new", 1)).await,
            Ok(true),
            "{what}"
        );
        tier.invalidate_user(key.user()).await.unwrap();
        assert_eq!(
            store(&tier, &key, &later.number_token, &entry("old", 9)).await,
            Ok(false),
            "{what}"
        );
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn answers_that_an_evicted_index_has_lost_are_void_after_an_erasure() {
    let (server, tier) = tier().await;
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
    let index = server
        .keys()
        .into_iter()
        .find(|name| name.ends_with(":i"))
        .unwrap();
    server.run::<()>(&["DEL", &index]);
    tier.invalidate_user(key("u", 1).user()).await.unwrap();
    assert_eq!(stored(&tier, &key("u", 1)).await, Ok(None));
    assert!(load(&tier, &key("u", 2), &entry("Bob", 1)).await);
    assert_eq!(
        stored(&tier, &key("u", 1)).await,
        Ok(None),
        "a new user token does not bring it back"
    );
    assert!(begin(&tier, &key("u", 1)).await.unwrap().held.is_empty());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_older_answer_does_not_replace_a_newer_one() {
    let (_server, tier) = tier().await;
    let (slow, fast) = (
        begin(&tier, &key("u", 1)).await.unwrap(),
        begin(&tier, &key("u", 1)).await.unwrap(),
    );
    assert_eq!(
        slow.number_token, fast.number_token,
        "two loads of one number share an epoch"
    );
    // More digits, and a comparison as text would say the opposite.
    assert_eq!(
        store(
            &tier,
            &key("u", 1),
            &fast.number_token,
            &entry("new", 10_000)
        )
        .await,
        Ok(true)
    );
    assert_eq!(
        store(
            &tier,
            &key("u", 1),
            &slow.number_token,
            &entry("old", 9_999)
        )
        .await,
        Ok(false)
    );
    assert_eq!(
        stored(&tier, &key("u", 1)).await,
        Ok(Some(entry("new", 10_000)))
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_user_who_is_erased_leaves_no_key_and_others_keep_theirs() {
    let (server, tier) = tier().await;
    assert!(load(&tier, &key("other", 1), &entry("Bob", 1)).await);
    let others = server.keys();
    for n in 0..2_500 {
        assert!(load(&tier, &key("u", n), &entry("Ann", 1)).await);
    }
    begin(&tier, &key("u", 9_999)).await.unwrap(); // a load under way
    assert!(server.keys().len() > 2_500);
    tier.invalidate_user(key("u", 1).user()).await.unwrap();
    assert_eq!(server.keys(), others);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn no_key_lives_for_ever_or_spells_a_number() {
    let (server, tier) = tier().await;
    let begun = begin(&tier, &key("u", 1)).await.unwrap();
    assert!(matches!(
        tier.store(
            &key("u", 1),
            &begun.number_token,
            &entry("Ann", 1),
            Duration::from_millis(1),
            NOW
        )
        .await,
        Ok(StoreOutcome::Stored(_))
    ));
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
    for name in server.keys() {
        let left = server.run::<i64>(&["PTTL", &name]);
        assert!(
            (3_590_000..=3_600_000).contains(&left),
            "{name} lives for {left} ms"
        );
        for part in ["6502000001", "2000001"] {
            assert!(!name.contains(part), "{name}");
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn expired_keys_leave_the_index() {
    let (server, tier) = tier().await;
    let index = || {
        server
            .keys()
            .into_iter()
            .find(|name| name.ends_with(":i"))
            .unwrap()
    };
    begin(&tier, &key("u", 1)).await.unwrap();
    let sheet = server
        .keys()
        .into_iter()
        .find(|name| name.contains(":a:"))
        .unwrap();
    let suffix = sheet.split("}:").last().unwrap();
    server.run::<()>(&["ZADD", &index(), "1000", suffix]);
    begin(&tier, &key("u", 2)).await.unwrap();
    assert_eq!(server.run::<u32>(&["ZCARD", &index()]), 1);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn damaged_bytes_are_a_miss_and_the_next_load_mends_them() {
    let (server, tier) = tier().await;
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
    let sheet = server
        .keys()
        .into_iter()
        .find(|name| name.contains(":a:"))
        .unwrap();
    let mut connection = redis::Client::open(server.url())
        .unwrap()
        .get_connection()
        .unwrap();
    let good: Vec<u8> = redis::cmd("GET")
        .arg(&sheet)
        .query(&mut connection)
        .unwrap();
    let behind = |kept: usize, junk: &[u8]| [&good[..kept], junk].concat();
    for junk in [
        Vec::new(),
        vec![0xff; 3],
        vec![b'x'; 500],
        good[..good.len() - 1].to_vec(),
        good[..20].to_vec(),
        good[..31].to_vec(),
        behind(32, b""),
        behind(32, b"a record must be longer"),
        behind(32, &[0xff; 100]),
        behind(32 + 32, &[0xff; 4]),
        behind(good.len() - 1, b"?"),
    ] {
        redis::cmd("SET")
            .arg(&sheet)
            .arg(junk)
            .arg("PX")
            .arg(3_600_000)
            .exec(&mut connection)
            .unwrap();
        assert_eq!(stored(&tier, &key("u", 1)).await, Ok(None));
        assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
        assert_eq!(stored(&tier, &key("u", 1)).await, Ok(Some(entry("Ann", 1))));
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn ten_thousand_answers_are_read_within_a_second() {
    let (_server, tier) = tier().await;
    let keys: Vec<_> = (0..10_000).map(|n| key("u", n)).collect();
    for key in keys.iter().step_by(2) {
        assert!(load(&tier, key, &entry("Ann", 1)).await);
    }
    let watch = Stopwatch::start();
    let mut entries = Vec::new();
    for keys in keys.chunks(500) {
        entries.extend(tier.get_many(keys[0].user(), keys, data()).await.unwrap());
    }
    assert!(
        watch.elapsed() < Duration::from_secs(1),
        "{:?}",
        watch.elapsed()
    );
    assert_eq!(entries.len(), 10_000);
    assert!(
        entries
            .iter()
            .enumerate()
            .all(|(n, entry)| entry.is_some() == (n % 2 == 0))
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_server_that_has_forgotten_the_scripts_learns_them_again() {
    let (server, tier) = tier().await;
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
    server.run::<()>(&["SCRIPT", "FLUSH"]);
    assert!(load(&tier, &key("u", 1), &entry("Ann", 2)).await);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_key_of_another_type_is_in_the_way_of_that_key_only() {
    let (server, tier) = tier().await;
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
    let sheet = server
        .keys()
        .into_iter()
        .find(|name| name.contains(":a:"))
        .unwrap();
    server.run::<()>(&["DEL", &sheet]);
    server.run::<()>(&["RPUSH", &sheet, "not ours"]);
    for _ in 0..5 {
        assert_eq!(stored(&tier, &key("u", 1)).await, Ok(None));
        assert!(matches!(
            begin(&tier, &key("u", 1)).await,
            Err(LinkError::Failed(_))
        ));
        assert!(load(&tier, &key("u", 2), &entry("Bob", 1)).await);
    }
    tier.invalidate_numbers(key("u", 1).user(), &[party(1)])
        .await
        .unwrap();
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
}
