//! Old answers: who waits for a newer one, and how soon a newer one is everywhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::pb::v1::{FindContactRequest, Freshness, PrefetchOutcome, Source, Trigger};
use futures_util::future::{join, join_all};
use tonic::Code;

use crate::prefetch::{batch, run};
use crate::support::crm::{Seen, example};
use crate::support::daemon::{Changed as _, names};
use crate::support::fleet::{everything, forget, named, number, replica, replicas, source};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find, refresh};

fn nobody(seen: &Seen) -> Reply {
    example(seen, &[])
}

fn created(seen: &Seen) -> Reply {
    named("Ada", seen)
}

/// A daemon that has stored "nobody", with its clock moved until that is stale.
async fn stale_nobody(more: &str) -> (FakeCrm, TestDaemon) {
    let crm = FakeCrm::start(nobody).await;
    let toml = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{more}",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    daemon.find(find()).await.unwrap();
    daemon.clock.advance(Duration::from_secs(90));
    crm.becomes(created);
    (crm, daemon)
}

fn freshness(answer: &contactd::pb::v1::FindContactResponse) -> Freshness {
    answer.lookup.as_ref().unwrap().freshness()
}

#[tokio::test]
async fn a_phone_that_rings_for_a_number_that_was_nobodys_waits_a_moment_for_news() {
    let (crm, daemon) = stale_nobody("").await;
    crm.becomes(|seen| created(seen).after(Duration::from_millis(100)));
    let answer = daemon.find(find()).await.unwrap();
    assert_eq!(
        (names(&answer), freshness(&answer), source(&answer)),
        (vec!["Ada"], Freshness::Fresh, Source::Crm)
    );
}

#[tokio::test]
async fn a_crm_that_takes_longer_than_the_moment_is_not_waited_for() {
    for (limit, at_least, at_most) in [(None, 700, 1_600), (Some(1_000), 400, 900)] {
        let (crm, daemon) = stale_nobody("").await;
        crm.becomes(|seen| created(seen).after(Duration::from_secs(2)));
        let stopwatch = Stopwatch::start();
        let answer = match limit {
            None => daemon.find(find()).await.unwrap(),
            Some(limit) => daemon
                .find(find().within(Duration::from_millis(limit)))
                .await
                .unwrap(),
        };
        let took = stopwatch.elapsed();
        assert_eq!(
            (names(&answer).len(), freshness(&answer)),
            (0, Freshness::Stale)
        );
        assert!(
            (at_least..at_most).contains(&took.as_millis()),
            "{limit:?}: {took:?}"
        );
        crate::support::fleet::answers(&daemon, "Ada", Duration::from_secs(10)).await;
    }
}

/// What a caller gets, with these ages, if it joins a load when `passes` has passed since it began.
/// The caller who began the load gets a fresh answer.
async fn joined_after(passes: Duration, ages: &str) -> Result<Freshness, tonic::Code> {
    let crm = FakeCrm::start(|seen| created(seen).after(Duration::from_secs(1))).await;
    let ages = format!("[lookup]\ncall_timeout = \"12s\"\n[cache]\nfound = {{ {ages} }}\n");
    let daemon = TestDaemon::with(&crm, "example", &ages).await;
    let joining = async {
        eventually("the load is under way", || crm.searches() == 1).await;
        daemon.clock.advance(passes);
        daemon.find(find()).await
    };
    let (first, joined) = tokio::join!(daemon.find(find()), joining);
    assert_eq!(freshness(&first.unwrap()), Freshness::Fresh);
    assert_eq!(crm.searches(), 1, "the load is shared");
    joined
        .map(|answer| freshness(&answer))
        .map_err(|status| status.code())
}

#[tokio::test]
async fn what_a_load_brings_is_judged_by_its_age_when_a_caller_joins_it() {
    let minutes =
        async |minutes: u64, ages| joined_after(Duration::from_secs(60 * minutes), ages).await;
    let hour = "fresh = \"10m\", stale = \"1h\"";
    assert_eq!(minutes(0, hour).await, Ok(Freshness::Fresh));
    assert_eq!(minutes(30, hour).await, Ok(Freshness::Stale));
    assert_eq!(minutes(61, hour).await, Err(tonic::Code::Unavailable));
}

#[tokio::test]
async fn callers_who_ask_together_share_an_answer_that_may_not_be_stored_at_all() {
    let nothing = "fresh = \"0s\", stale = \"0s\"";
    let joined = joined_after(Duration::from_millis(200), nothing).await;
    assert_eq!(joined, Ok(Freshness::Stale));
}

#[tokio::test]
async fn nobody_waits_for_news_who_is_in_no_hurry_or_wants_no_call() {
    for (trigger, only_if_cached) in [
        (Trigger::InitialMatch, false),
        (Trigger::IncomingCall, true),
    ] {
        let (crm, daemon) = stale_nobody("").await;
        let asked = crm.searches();
        crm.becomes(|seen| created(seen).after(Duration::from_millis(300)));
        let request = FindContactRequest {
            trigger: trigger.into(),
            only_if_cached,
            ..find()
        };
        let answer = daemon.find(request).await.unwrap();
        assert_eq!(
            (names(&answer).len(), freshness(&answer)),
            (0, Freshness::Stale),
            "{trigger:?}"
        );
        if only_if_cached {
            assert_eq!(crm.searches(), asked);
        } else {
            eventually("it is refreshed behind the answer", || {
                crm.searches() > asked
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_credential_that_the_crm_refuses_meanwhile_gets_no_stale_nobody() {
    let (crm, daemon) = stale_nobody("").await;
    crm.becomes(|_| Reply::status(401));
    let asked = crm.seen().len();
    let refused = daemon.find(find()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(crm.seen().len(), asked + 1, "it is sent once");
}

#[tokio::test]
async fn a_credential_that_another_call_shows_to_be_refused_gets_no_stale_nobody() {
    let (crm, daemon) = stale_nobody("").await;
    let (asked, phones_call) = (crm.searches(), AtomicBool::new(true));
    crm.becomes(move |seen| {
        if phones_call.swap(false, Ordering::Relaxed) {
            created(seen).after(Duration::from_secs(2))
        } else {
            Reply::status(401)
        }
    });
    let other = async {
        eventually("the phone's call is on its way", || crm.searches() > asked).await;
        daemon.find(find().number(&number(1))).await.unwrap_err()
    };
    let (answer, other) = join(daemon.find(find()), other).await;
    assert_eq!(other.code(), Code::Unauthenticated);
    // The CRM accepted the credential when the phone's call began, so it may have that answer.
    let answer = answer.unwrap();
    assert_eq!(
        (names(&answer), source(&answer)),
        (vec!["Ada"], Source::Crm)
    );
}

#[tokio::test]
async fn what_is_replaced_or_invalidated_while_a_phone_waits_for_news_is_not_served() {
    for is_replaced in [true, false] {
        let (crm, daemon) = stale_nobody("").await;
        let (asked, phones_call) = (crm.searches(), AtomicBool::new(true));
        crm.becomes(move |seen| {
            let is_slow = phones_call.swap(false, Ordering::Relaxed);
            let time = if is_slow { 2_000 } else { 0 };
            created(seen).after(Duration::from_millis(time))
        });
        let person = async {
            eventually("the phone's call is on its way", || crm.searches() > asked).await;
            if is_replaced {
                daemon.find(refresh()).await.unwrap();
            } else {
                forget(&daemon, everything()).await.unwrap();
            }
        };
        let (answer, ()) = join(daemon.find(find()), person).await;
        assert_eq!(names(&answer.unwrap()), ["Ada"], "replaced: {is_replaced}");
    }
}

#[tokio::test]
async fn without_room_in_the_quota_or_with_a_crm_that_is_down_a_stale_nobody_is_served_at_once() {
    let quota = "quota = { rate = 2, per = \"60s\", burst = 2 }\n";
    let (_crm, daemon) = stale_nobody(quota).await;
    let stopwatch = Stopwatch::start();
    let answer = daemon.find(find()).await.unwrap();
    assert_eq!(freshness(&answer), Freshness::Stale);
    assert!(
        stopwatch.elapsed() < Duration::from_millis(400),
        "{:?}",
        stopwatch.elapsed()
    );

    let (crm, daemon) = stale_nobody("").await;
    crm.becomes(|_| Reply::status(500));
    daemon.find(find()).await.unwrap();
    eventually("the refresh fails too", || crm.searches() >= 3).await;
    // The first ones may come before its failure is known.
    let left_alone = async {
        loop {
            let asked = crm.searches();
            for _ in 0..20 {
                assert_eq!(
                    freshness(&daemon.find(find()).await.unwrap()),
                    Freshness::Stale
                );
            }
            if crm.searches() == asked {
                break;
            }
        }
    };
    let left_alone = clock::timeout(Duration::from_secs(10), left_alone).await;
    assert!(
        left_alone.is_some(),
        "a CRM in trouble is left alone for a while"
    );
}

#[tokio::test]
async fn prefetch_refreshes_what_is_stale_and_counts_only_what_is_fresh() {
    let crm = FakeCrm::start(created).await;
    let daemon = TestDaemon::over(&crm).await;
    let numbers: Vec<String> = (0..5).map(number).collect();
    run(&daemon, batch(numbers.clone())).await;
    daemon.clock.advance(Duration::from_secs(700));
    daemon.find(find().number("+16505551234")).await.unwrap();
    crm.becomes(|seen| named("Ada King", seen));
    let more = [numbers.clone(), vec!["+16505551234".to_owned()]].concat();
    let told = run(&daemon, batch(more)).await;
    assert_eq!(told.started.already_cached, 1);
    let found = told
        .results
        .iter()
        .filter(|result| result.outcome() == PrefetchOutcome::Found)
        .count();
    assert_eq!((found, told.finished.unwrap().already_cached), (5, 1));
    for number in &numbers {
        let answer = daemon.find(find().number(number)).await.unwrap();
        assert_eq!(
            (names(&answer), freshness(&answer)),
            (vec!["Ada King"], Freshness::Fresh)
        );
    }
}

#[tokio::test]
async fn a_manual_refresh_never_joins_a_load_that_has_asked_the_crm_before_it() {
    let crm = FakeCrm::start(|seen| named("before", seen).after(Duration::from_millis(600))).await;
    let daemon = TestDaemon::over(&crm).await;
    let first = async { daemon.find(refresh()).await.unwrap() };
    let second = async {
        eventually("the first one asks the CRM", || crm.searches() == 1).await;
        daemon.clock.advance(Duration::from_millis(5));
        crm.becomes(|seen| named("after", seen));
        daemon.find(refresh()).await.unwrap()
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(
        (names(&first), names(&second)),
        (vec!["before"], vec!["after"])
    );
    assert_eq!(
        names(&daemon.find(find()).await.unwrap()),
        ["after"],
        "the slower, older one undoes nothing"
    );
}

/// Every replica answers so within a second.
async fn everywhere(daemons: &[TestDaemon], name: &str) {
    let told = daemons
        .iter()
        .map(|daemon| crate::support::fleet::answers(daemon, name, Duration::from_secs(1)));
    join_all(told).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn what_a_refresh_replaced_at_one_replica_is_replaced_at_all_within_a_second() {
    let (crm, redis) = (FakeCrm::start(created).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 3).await;
    everywhere(&daemons, "Ada").await;
    for (at, name) in [(0, "Ada King"), (2, "Ada Byron"), (1, "Ada Lovelace")] {
        crm.becomes(move |seen| named(name, seen));
        assert_eq!(names(&daemons[at].find(refresh()).await.unwrap()), [name]);
        everywhere(&daemons, name).await;
    }
    // Gone, and there again.
    crm.becomes(nobody);
    daemons[0].find(refresh()).await.unwrap();
    let searches = crm.searches();
    clock::sleep(Duration::from_secs(1)).await;
    for daemon in &daemons {
        assert!(names(&daemon.find(find()).await.unwrap()).is_empty());
    }
    assert_eq!(
        crm.searches(),
        searches,
        "read from Redis, not asked for again"
    );
    crm.becomes(created);
    daemons[1].find(refresh()).await.unwrap();
    everywhere(&daemons, "Ada").await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_load_under_way_is_not_void_because_another_answer_was_replaced() {
    let (crm, redis) = (FakeCrm::start(created).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 2).await;
    everywhere(&daemons, "Ada").await;
    crm.becomes(|seen| {
        let slow = seen.param("phone") == Some("+16505559999");
        named("Ada King", seen).after(if slow {
            Duration::from_millis(800)
        } else {
            Duration::ZERO
        })
    });
    let load = async {
        daemons[1]
            .find(find().number("+16505559999"))
            .await
            .unwrap()
    };
    let replaced = async { daemons[0].find(refresh()).await.unwrap() };
    let (loaded, _) = tokio::join!(load, replaced);
    assert_eq!(source(&loaded), Source::Crm);
    let searches = crm.searches();
    let again = daemons[1]
        .find(find().number("+16505559999"))
        .await
        .unwrap();
    assert_eq!((source(&again), crm.searches()), (Source::Memory, searches));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn thousands_of_replaced_answers_reach_other_replicas_as_few_events() {
    let (crm, redis) = (FakeCrm::start(created).await, RedisServer::start().await);
    let quota = "[connectors.example.quota]\nrate = 5000\nper = \"1s\"\nburst = 5000\nprefetch_share = 1.0\n";
    let toml = format!(
        "[redis]\nurl = \"{}\"\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}",
        redis.url(),
        crm.url()
    );
    let one = TestDaemon::start(&toml).await;
    crate::support::fleet::redis_is(&one, true).await;
    let other = replica(&crm, &redis.url(), "").await;
    let numbers: Vec<String> = (0..1_500).map(number).collect();
    run(&one, batch(numbers.clone())).await;
    for number in numbers.iter().step_by(100) {
        assert_eq!(
            names(&other.find(find().number(number)).await.unwrap()),
            ["Ada"]
        );
    }
    crm.becomes(|seen| named("Ada King", seen));
    one.clock.advance(Duration::from_secs(700));
    other.clock.advance(Duration::from_secs(700));
    let before = redis
        .run::<Option<u128>>(&["HGET", "contactd:{log}:h", "n"])
        .unwrap_or(0);
    let stopwatch = Stopwatch::start();
    let told = run(&one, batch(numbers.clone())).await;
    assert_eq!(told.finished.unwrap().found, 1_500);
    clock::sleep(Duration::from_secs(1)).await;
    let events = redis.run::<u128>(&["HGET", "contactd:{log}:h", "n"]) - before;
    // Up to eight answers of a user are published one by one, and then the replica waits 50 ms.
    let most = 8 * (stopwatch.elapsed().as_millis() / 50 + 1);
    assert!((1..=most).contains(&events), "{events} events of {most}");
    for number in numbers.iter().step_by(100) {
        let answer = other.find(find().number(number)).await.unwrap();
        assert_eq!(
            (names(&answer), freshness(&answer)),
            (vec!["Ada King"], Freshness::Fresh),
            "{number}"
        );
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_time_of_day_that_jumps_makes_nothing_fresher_older_or_undone() {
    let (crm, redis) = (FakeCrm::start(created).await, RedisServer::start().await);
    for hours in [1, -1, 24] {
        let (ahead, right) = (
            replica(&crm, &redis.url(), "").await,
            replica(&crm, &redis.url(), "").await,
        );
        let ask = || find().number(&number(usize::try_from(hours + 50).unwrap()));
        crm.becomes(created);
        ahead.clock.set_wall(hours * 3_600_000);
        ahead.find(ask()).await.unwrap();
        assert_eq!(
            freshness(&right.find(ask()).await.unwrap()),
            Freshness::Fresh
        );
        ahead.clock.set_wall(-hours * 3_600_000);
        for (daemon, name) in [(&right, "Ada King"), (&ahead, "Ada Byron")] {
            crm.becomes(move |seen| named(name, seen));
            let request = FindContactRequest {
                trigger: Trigger::ManualRefresh.into(),
                ..ask()
            };
            assert_eq!(names(&daemon.find(request).await.unwrap()), [name]);
            assert_eq!(
                names(&daemon.find(ask()).await.unwrap()),
                [name],
                "the refresh stays"
            );
        }
        // Ten minutes and no more, whatever the time of day says meanwhile.
        for daemon in [&right, &ahead] {
            daemon.clock.set_wall(-3 * 3_600_000);
            daemon.clock.advance(Duration::from_secs(601));
            let cached = FindContactRequest {
                only_if_cached: true,
                ..ask()
            };
            assert_eq!(
                freshness(&daemon.find(cached).await.unwrap()),
                Freshness::Stale
            );
            daemon.clock.advance(Duration::from_secs(24 * 3600));
            let cached = FindContactRequest {
                only_if_cached: true,
                ..ask()
            };
            assert!(daemon.find(cached).await.is_err(), "and a day at the most");
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_answer_that_came_from_redis_half_way_through_its_life_gets_no_second_one() {
    let (crm, redis) = (
        FakeCrm::start(|seen| example(seen, &[contact(1, "Ada", "+16505551234")])).await,
        RedisServer::start().await,
    );
    let daemons = replicas(&crm, &redis.url(), 2).await;
    daemons[0].find(find()).await.unwrap();
    // Time passes everywhere.
    for daemon in &daemons {
        daemon.clock.advance(Duration::from_secs(500));
    }
    let answer = daemons[1].find(find()).await.unwrap();
    assert_eq!(
        (source(&answer), freshness(&answer)),
        (Source::Redis, Freshness::Fresh)
    );
    assert!((499..=510).contains(&answer.lookup.unwrap().age.unwrap().seconds));
    daemons[1].clock.advance(Duration::from_secs(101));
    let cached = FindContactRequest {
        only_if_cached: true,
        ..find()
    };
    assert_eq!(
        freshness(&daemons[1].find(cached).await.unwrap()),
        Freshness::Stale
    );
}
