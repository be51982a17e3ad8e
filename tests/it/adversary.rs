//! Nobody is ever shown another's contact: random people claim random user ids with valid, rotated,
//! revoked and false tokens, at several replicas, while the CRM and Redis come and go. A checker
//! knows whose contact is whose.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::pb::v1::invalidate_contacts_request::Scope;
use contactd::pb::v1::{FindContactRequest, InvalidateContactsRequest, Trigger};
use fastrand::Rng;
use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::prefetch::{batch, run, under};
use crate::support::crm::{Seen, example, user_named};
use crate::support::daemon::{Changed as _, names};
use crate::support::fleet::{number, replica};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find};

const PEOPLE: usize = 6;
const NUMBERS: usize = 12;
const ANSWERS: usize = 20_000;
const AT_ONCE: usize = 100;

/// How the CRM is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Down,
    /// It does not say whose a credential is.
    Discreet,
    /// It takes a while.
    Slow,
}

struct World {
    mood: Mood,
    revoked: HashSet<String>,
}

/// The person in `Bearer PERSON.N`, if the token was ever good.
fn person_of(token: &str) -> Option<&str> {
    let (person, _) = token.strip_prefix("Bearer ")?.split_once('.')?;
    person.starts_with("person").then_some(person)
}

fn crm(world: &Mutex<World>, seen: &Seen) -> Reply {
    let (mood, token) = (
        world.lock().mood,
        seen.authorization.clone().unwrap_or_default(),
    );
    let reply = match person_of(&token).filter(|_| !world.lock().revoked.contains(&token)) {
        _ if mood == Mood::Down => Reply::status(503),
        None => Reply::status(401),
        Some(_) if seen.asks_who() && mood == Mood::Discreet => Reply::status(403),
        Some(person) if seen.asks_who() => user_named(person),
        // Each person has other numbers among the contacts.
        Some(person) => {
            let phone = seen.param("phone").unwrap_or_default().to_owned();
            let ends = [&phone, person].map(|text| text.bytes().last().unwrap_or_default());
            let knows = !(ends[0] + ends[1]).is_multiple_of(3);
            example(
                seen,
                &if knows {
                    vec![contact(1, person, &phone)]
                } else {
                    vec![]
                },
            )
        }
    };
    let delay = if mood == Mood::Slow {
        Duration::from_millis(20)
    } else {
        Duration::ZERO
    };
    reply.after(delay)
}

fn token(rng: &mut Rng) -> String {
    match rng.u8(..10) {
        0 => format!("Bearer false{}", rng.u8(..3)),
        _ => format!("Bearer person{}.{}", rng.usize(..PEOPLE), rng.u8(..3)),
    }
}

fn request(rng: &mut Rng) -> FindContactRequest {
    let trigger = match rng.u8(..10) {
        0 => Trigger::ManualRefresh,
        1 => Trigger::InitialMatch,
        _ => Trigger::IncomingCall,
    };
    let mut request = find()
        .user(&format!("user{}", rng.usize(..PEOPLE)))
        .number(&number(rng.usize(..NUMBERS)));
    request.only_if_cached = trigger != Trigger::ManualRefresh && rng.u8(..5) == 0;
    FindContactRequest {
        trigger: trigger.into(),
        auth_header: token(rng),
        ..request
    }
}

/// Whether all of these names are those of the token's owner.
fn is_own(token: &str, shown: &[&str]) -> bool {
    shown.iter().all(|name| Some(*name) == person_of(token))
}

/// One look-up; true if there was an answer.
async fn look_up(daemon: &TestDaemon, request: FindContactRequest, limit: Duration) -> bool {
    let token = request.auth_header.clone();
    let Ok(answer) = daemon.find(request.within(limit)).await else {
        return false;
    };
    let shown = names(&answer);
    assert!(is_own(&token, &shown), "{token} was shown {shown:?}");
    assert!(
        person_of(&token).is_some(),
        "a token that was never good got an answer"
    );
    true
}

/// Something that happens between look-ups.
async fn happen(
    rng: &mut Rng,
    world: &Mutex<World>,
    daemons: &mut [TestDaemon],
    redis: &mut RedisServer,
    crm: &FakeCrm,
) {
    match rng.u8(..12) {
        0 => world.lock().mood = Mood::Down,
        1 => world.lock().mood = Mood::Discreet,
        2 => world.lock().mood = Mood::Slow,
        3..=5 => world.lock().mood = Mood::Well,
        6 => {
            let token = token(rng);
            let mut world = world.lock();
            if !world.revoked.remove(&token) {
                world.revoked.insert(token);
            }
        }
        7 => {
            // The hours pass for all of them.
            let by = Duration::from_secs(rng.u64(..7200));
            daemons.iter().for_each(|daemon| daemon.clock.advance(by));
        }
        8 => {
            let user = find().user(&format!("user{}", rng.usize(..PEOPLE))).user;
            let request = InvalidateContactsRequest {
                user,
                scope: Some(Scope::Everything(true)),
            };
            let _ = rng
                .choice(&*daemons)
                .unwrap()
                .client
                .clone()
                .invalidate_contacts(request)
                .await;
        }
        9 => redis.flush(),
        10 => {
            redis.restart().await;
        }
        _ => {
            // A replica dies, and another one begins with nothing in memory.
            let at = rng.usize(..daemons.len());
            let passed = clock_of(&daemons[at]);
            daemons[at] = replica(crm, &redis.url(), "").await;
            daemons[at].clock.advance(passed);
        }
    }
}

fn clock_of(daemon: &TestDaemon) -> Duration {
    use contactd::clock::Clock as _;
    daemon.clock.now().since(crate::support::daemon::START)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: tests/run gets it"]
async fn nobody_is_shown_the_contact_of_another_whatever_ids_are_claimed_and_whatever_fails() {
    let seed = 8;
    let mut rng = Rng::with_seed(seed);
    let world = Arc::new(Mutex::new(World {
        mood: Mood::Well,
        revoked: HashSet::new(),
    }));
    let mut redis = RedisServer::start().await;
    let shared = Arc::clone(&world);
    let server = FakeCrm::start(move |seen| crm(&shared, seen)).await;
    let mut daemons = Vec::new();
    for _ in 0..2 {
        daemons.push(replica(&server, &redis.url(), "").await);
    }
    let (mut answers, mut asked) = (0, 0);
    let stopwatch = Stopwatch::start();
    while answers < ANSWERS {
        let wave = (0..AT_ONCE).map(|_| {
            let limit = Duration::from_millis(rng.choice([30, 200, 2_000, 2_000]).unwrap());
            look_up(&daemons[rng.usize(..2)], request(&mut rng), limit)
        });
        let waves: Vec<_> = wave.collect();
        asked += waves.len();
        answers += join_all(waves)
            .await
            .into_iter()
            .filter(|answered| *answered)
            .count();
        if rng.u8(..8) == 0 {
            let (daemon, token) = (&daemons[rng.usize(..2)], token(&mut rng));
            let mut request = under(batch((0..NUMBERS).map(number).collect()), &token);
            request.user.as_mut().unwrap().id = format!("user{}", rng.usize(..PEOPLE));
            // An outage ends while the batch waits for it.
            let recovery = async {
                clock::sleep(Duration::from_secs(1)).await;
                let mood = &mut world.lock().mood;
                *mood = if *mood == Mood::Down {
                    Mood::Well
                } else {
                    *mood
                };
            };
            let told = tokio::select! {
                told = clock::timeout(Duration::from_secs(5), run(daemon, request)) => told,
                () = async { recovery.await; std::future::pending().await } => None,
            };
            let found = told.map_or(0, |told| {
                told.results
                    .iter()
                    .map(|result| result.match_count)
                    .sum::<u32>()
            });
            assert!(
                found == 0 || person_of(&token).is_some(),
                "a false token was told of {found} contacts"
            );
        }
        if rng.u8(..3) == 0 {
            happen(&mut rng, &world, &mut daemons, &mut redis, &server).await;
        }
        assert!(
            stopwatch.elapsed() < Duration::from_secs(600),
            "{answers} answers of {asked} in {:?}",
            stopwatch.elapsed()
        );
    }
}
