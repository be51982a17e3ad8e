//! The quota's scripts in Redis, where a test of replicas cannot reach: calls that are given back,
//! parts of a day that are over, and a clock that was set back.

use redis::FromRedisValue as _;

use crate::support::redis::RedisServer;

const REQUEST: &str = concat!(
    include_str!("../../../src/budget/clock.lua"),
    include_str!("../../../src/budget/request.lua")
);
const RELEASE: &str = concat!(
    include_str!("../../../src/budget/clock.lua"),
    include_str!("../../../src/budget/release.lua")
);
/// No correction of Redis' clock, and no expectation.
const BY_REDIS: [&str; 3] = ["0", "0", "0"];

const KEYS: [&str; 6] = ["{s}:q", "{s}:w", "{s}:b", "{s}:t", "{s}:p", "{s}:pb"];
const SECOND: i64 = 1_000_000;
const CALL_TIMEOUT: i64 = 5 * SECOND;
const HOLD: i64 = CALL_TIMEOUT + SECOND;
const PART: i64 = 900 * SECOND;
const DAY: i64 = 86_400 * SECOND;

/// What a request is for. By default, a call in the owner's scope.
#[derive(Default)]
struct Aim {
    /// To count a call that was made already.
    is_made: bool,
    /// To look only.
    looks: bool,
    /// For a call of the credential's scope.
    is_unpaced: bool,
    /// For a call after a loss of all data that was waited for.
    is_loss_over: bool,
}

/// What a scope of these totals allows: of all lanes, and of the background lanes.
struct Scope {
    redis: RedisServer,
    window: i64,
    places: [i64; 2],
    day: [i64; 2],
}

impl Scope {
    async fn with(places: [i64; 2], day: [i64; 2]) -> Self {
        let redis = RedisServer::start().await;
        Self {
            redis,
            window: 1_000,
            places,
            day,
        }
    }

    /// Without totals, and so many calls in a window.
    async fn with_window(window: i64) -> Self {
        Self {
            window,
            ..Self::with([0, 0], [0, 0]).await
        }
    }

    fn eval<T: redis::FromRedisValue>(&self, script: &str, keys: &[&str], args: &[String]) -> T {
        let count = keys.len().to_string();
        let args: Vec<&str> = args.iter().map(String::as_str).chain(BY_REDIS).collect();
        self.redis
            .run(&[&["EVAL", script, &count], keys, &args].concat())
    }

    /// Requests a call. Returns whether it is granted, and what the script says of the totals.
    fn request(&self, name: &str, is_background: bool) -> (bool, Vec<i64>) {
        self.request_as(name, is_background, Aim::default())
    }

    fn request_as(&self, name: &str, is_background: bool, aim: Aim) -> (bool, Vec<i64>) {
        let window = [
            i64::from(is_background),
            0,
            SECOND,
            0,
            SECOND,
            -1,
            SECOND / 10,
            self.window,
            self.window,
            SECOND,
            HOLD,
        ];
        let unknown_for = if aim.is_unpaced { 0 } else { SECOND };
        let made = i64::from(aim.is_made);
        let known = if aim.is_loss_over { 2 } else { 0 };
        let rules = [
            0,
            1,
            0,
            made,
            128,
            SECOND,
            unknown_for,
            0,
            known,
            60 * SECOND,
            0,
        ];
        let [[places, share], [day, day_share]] = [self.places, self.day];
        let totals = [
            places,
            share,
            day,
            day_share,
            CALL_TIMEOUT,
            10_000,
            100_000,
            PART,
            DAY,
            0,
            0,
        ];
        let text = |numbers: &[i64]| numbers.iter().map(i64::to_string).collect::<Vec<_>>();
        let names = [name.to_owned(), String::new()].to_vec();
        let looks = text(&[i64::from(aim.looks)]);
        // The replica has seen nothing of the data.
        let seen = vec![String::new(); 3];
        let args = [
            text(&window),
            names,
            text(&rules),
            text(&totals),
            looks,
            seen,
        ]
        .concat();
        let reply: redis::Value = self.eval(REQUEST, &KEYS, &args);
        let fields = Vec::<redis::Value>::from_redis_value(reply).unwrap();
        let granted = i64::from_redis_value(fields[0].clone()).unwrap();
        let totals = Vec::<i64>::from_redis_value(fields[11].clone()).unwrap();
        (granted == 1, totals)
    }

    fn is_granted(&self, name: &str, is_background: bool) -> bool {
        self.request(name, is_background).0
    }

    fn release(&self, name: &str, is_background: bool, after: i64) {
        let numbers = [after, i64::from(is_background), HOLD, CALL_TIMEOUT, PART];
        let numbers = numbers.map(|number| number.to_string());
        let args = [vec![name.to_owned()], numbers.to_vec()].concat();
        self.eval::<i64>(RELEASE, &KEYS, &args);
    }

    /// The part of a day in which a call of now counts.
    fn part(&self) -> i64 {
        let [seconds, micros]: [i64; 2] = self.redis.run(&["TIME"]);
        (seconds * SECOND + micros + CALL_TIMEOUT) / PART
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_place_is_free_after_the_reply_and_the_background_leaves_one() {
    let scope = Scope::with([3, 2], [0, 0]).await;
    assert!(scope.is_granted("a", true) && scope.is_granted("b", true));
    assert!(!scope.is_granted("c", true), "one is left to phones");
    assert!(scope.is_granted("d", false));
    let (granted, totals) = scope.request("e", false);
    assert!(!granted);
    assert_eq!(totals[..2], [3, 2], "a denied call takes nothing");
    scope.release("a", true, SECOND);
    assert!(!scope.is_granted("f", true), "a phone waits for it");
    assert!(scope.is_granted("g", false));
    scope.release("b", true, -1);
    assert!(
        scope.is_granted("h", false),
        "a call that was not made has no place"
    );
    scope.release("never granted", false, -1);
    assert!(!scope.is_granted("i", false));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_call_whose_reply_comes_after_a_loss_is_held_again_for_a_window() {
    let scope = Scope::with([0, 0], [0, 0]).await;
    assert!(scope.is_granted("a", true) && scope.is_granted("b", false));
    scope.redis.flush();
    scope.release("a", true, SECOND);
    scope.release("b", false, SECOND);
    for (key, held) in [(KEYS[1], 2), (KEYS[2], 1)] {
        assert_eq!(scope.redis.run::<u32>(&["ZCARD", key]), held, "{key}");
        let kept = scope.redis.run::<i64>(&["PTTL", key]);
        assert!(kept > 1_000, "{key} is kept for {kept} ms");
    }
    assert!(
        !scope.is_granted("c", false),
        "nobody knows of other calls before the loss"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_reply_or_a_call_that_is_given_back_does_not_hide_that_the_calls_were_lost() {
    for after in [SECOND, -1] {
        let scope = Scope::with_window(3).await;
        for name in ["a", "b"] {
            assert!(scope.is_granted(name, true), "{name}");
            scope.release(name, true, SECOND);
        }
        assert!(scope.is_granted("c", false));
        scope.redis.run::<u32>(&["DEL", KEYS[1], KEYS[2]]);
        scope.release("c", false, after);
        assert!(!scope.is_granted("d", false), "released with {after}");
        assert!(!scope.is_granted("e", false), "nor a moment later");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn after_a_call_that_was_given_back_the_loss_of_the_others_is_noticed() {
    let scope = Scope::with_window(3).await;
    assert!(scope.is_granted("a", false) && scope.is_granted("b", false));
    scope.release("b", false, -1);
    assert!(scope.is_granted("c", false), "nothing is lost");
    scope.release("c", false, -1);
    scope.redis.run::<u32>(&["DEL", KEYS[1], KEYS[2]]);
    assert!(!scope.is_granted("d", false));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_call_that_is_counted_when_its_window_is_over_is_no_loss() {
    let scope = Scope::with_window(3).await;
    let adopted = Aim {
        is_made: true,
        ..Aim::default()
    };
    assert!(scope.request_as("a", false, adopted).0);
    scope.release("a", false, 0);
    assert!(scope.is_granted("b", false));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_call_that_does_not_wait_for_lost_calls_leaves_the_loss_to_others() {
    for (is_made, is_unpaced) in [(true, false), (false, true)] {
        let scope = Scope::with_window(3).await;
        assert!(scope.is_granted("a", false));
        scope.redis.run::<u32>(&["DEL", KEYS[1], KEYS[2]]);
        let aim = Aim {
            is_made,
            is_unpaced,
            ..Aim::default()
        };
        assert!(scope.request_as("b", false, aim).0);
        scope.release("b", false, SECOND);
        assert!(!scope.is_granted("c", false), "{is_made}");
        // What else is known of the scope is lost while calls wait.
        scope.redis.run::<u32>(&["DEL", KEYS[0]]);
        assert!(!scope.is_granted("d", false), "{is_made}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn nothing_waits_if_the_calls_are_there_and_what_else_is_known_is_lost() {
    let scope = Scope::with_window(3).await;
    assert!(scope.is_granted("a", false) && scope.is_granted("b", false));
    scope.redis.run::<u32>(&["DEL", KEYS[0]]);
    assert!(scope.is_granted("c", false));
    assert!(!scope.is_granted("d", false), "there were three");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn only_time_ends_the_wait_for_lost_calls() {
    let scope = Scope::with_window(3).await;
    assert!(scope.is_granted("a", false));
    scope.redis.run::<u32>(&["DEL", KEYS[1], KEYS[2]]);
    assert!(!scope.is_granted("b", false));
    let looks = Aim {
        looks: true,
        ..Aim::default()
    };
    assert!(!scope.request_as("look", false, looks).0);
    assert!(!scope.is_granted("c", false), "a look changes nothing");
    let is_unpaced = Aim {
        is_unpaced: true,
        ..Aim::default()
    };
    assert!(scope.request_as("unpaced", false, is_unpaced).0);
    assert!(
        !scope.is_granted("d", false),
        "nor does a call that does not wait"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn places_that_were_lost_are_those_of_the_calls_that_have_not_ended() {
    let scope = Scope::with([3, 2], [0, 0]).await;
    assert!(scope.is_granted("a", true) && scope.is_granted("b", false));
    scope.redis.run::<u32>(&["DEL", KEYS[4], KEYS[5]]);
    assert!(scope.is_granted("c", false) && !scope.is_granted("d", false));
    scope.release("a", true, SECOND);
    assert!(scope.is_granted("e", false), "its reply has ended");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_reply_after_a_loss_that_was_waited_for_is_no_other_loss() {
    let scope = Scope::with_window(3).await;
    assert!(scope.is_granted("a", false));
    scope.redis.flush();
    scope.release("a", false, SECOND);
    let after_a_loss = Aim {
        is_loss_over: true,
        ..Aim::default()
    };
    assert!(scope.request_as("b", false, after_a_loss).0);
    assert!(scope.is_granted("c", false) && !scope.is_granted("d", false));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_day_counts_what_was_made_and_forgets_it_a_day_after_its_part() {
    let scope = Scope::with([0, 0], [6, 3]).await;
    for n in 0..20 {
        let name = format!("not made {n}");
        assert!(scope.is_granted(&name, n % 2 == 0), "{n}");
        scope.release(&name, n % 2 == 0, -1);
        scope.release(&name, n % 2 == 0, -1);
    }
    let background = (0..6).filter(|n| scope.is_granted(&format!("b{n}"), true));
    assert_eq!(background.count(), 3);
    for n in 0..3 {
        scope.release(&format!("b{n}"), true, SECOND);
    }
    let phones = (0..6).filter(|n| scope.is_granted(&format!("p{n}"), false));
    assert_eq!(phones.count(), 3);
    let totals = scope.request("more", false).1;
    assert_eq!([totals[2], totals[4]], [6, 3]);
    assert!(
        totals[3] > DAY && totals[3] <= DAY + PART + CALL_TIMEOUT,
        "{totals:?}"
    );
    // The calls become a day old.
    let part = scope.part();
    for lanes in ["d", "s"] {
        scope
            .redis
            .run::<i64>(&["HDEL", KEYS[3], &format!("{lanes}{part}")]);
        scope
            .redis
            .run::<i64>(&["HDEL", KEYS[3], &format!("{lanes}{}", part - 1)]);
        let old = format!("{lanes}{}", part - 97 - 1);
        scope.redis.run::<i64>(&["HSET", KEYS[3], &old, "6"]);
    }
    assert!(scope.is_granted("next day", false));
    assert_eq!(
        scope.redis.run::<i64>(&["HLEN", KEYS[3]]),
        1,
        "and are gone"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_clock_that_was_set_back_closes_a_day_for_a_day_and_not_for_longer() {
    let scope = Scope::with([2, 1], [2, 1]).await;
    let later = format!("d{}", scope.part() + 40_000);
    scope.redis.run::<i64>(&["HSET", KEYS[3], &later, "2"]);
    for place in &KEYS[4..] {
        scope
            .redis
            .run::<i64>(&["ZADD", place, "99999999999999999", "x"]);
    }
    let totals = scope.request("a", false).1;
    assert_eq!(totals[2], 2, "they count");
    assert!(totals[3] <= DAY + PART + CALL_TIMEOUT, "{totals:?}");
    let held: f64 = scope.redis.run(&["ZSCORE", KEYS[4], "x"]);
    let [seconds, _]: [i64; 2] = scope.redis.run(&["TIME"]);
    assert!(held <= ((seconds + 6) * SECOND) as f64, "{held}");
}
