//! Explores all models. `MODEL_SECONDS` is the time for each model and each kind of schedules, and
//! `MODEL_SCHEDULE` repeats one schedule.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use models::explore::{Pace, explore};
use models::{flights, lanes, redis_link, tickets};

#[test]
fn flights_that_are_shared() {
    explore("flights", Pace::Anytime, || flights::run(flights::SHARED));
}

#[test]
fn flights_that_break() {
    explore("broken flights", Pace::Anytime, || {
        flights::run(flights::BROKEN)
    });
}

#[test]
fn lanes_of_one_credential() {
    explore("lanes", Pace::WhenIdle, || lanes::run(lanes::PLAIN));
}

#[test]
fn lanes_of_two_credentials_under_refusals() {
    explore("strict lanes", Pace::Anytime, || lanes::run(lanes::STRICT));
}

#[test]
#[ignore = "needs redis-server: tests/run gets it"]
fn tickets_keep_the_latest_answer() {
    let _redis = Redis::start();
    explore("latest answers", Pace::WhenIdle, || {
        tickets::run(tickets::ORDER)
    });
}

#[test]
#[ignore = "needs redis-server: tests/run gets it"]
fn tickets_end_with_an_invalidation() {
    let _redis = Redis::start();
    explore("invalidations", Pace::WhenIdle, || {
        tickets::run(tickets::INVALIDATION)
    });
}

#[test]
#[ignore = "needs redis-server: tests/run gets it"]
fn tickets_do_not_keep_what_was_read_during_an_invalidation() {
    let _redis = Redis::start();
    explore("reads and invalidations", Pace::WhenIdle, || {
        tickets::run(tickets::READING)
    });
}

#[test]
#[ignore = "needs redis-server: tests/run gets it"]
fn tickets_do_not_keep_what_was_read_during_a_replacement() {
    let _redis = Redis::start();
    explore("reads and replacements", Pace::WhenIdle, || {
        tickets::run(tickets::REPLACING)
    });
}

#[test]
#[ignore = "needs redis-server: tests/run gets it"]
fn tickets_end_with_an_invalidation_although_redis_fails() {
    let _redis = Redis::start();
    explore("invalidations and faults", Pace::WhenIdle, || {
        tickets::run(tickets::FAILING)
    });
}

/// A redis-server of this thread's own.
struct Redis(Child);

impl Redis {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
        let port = free.expect("a free port").port();
        let server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", ""])
            .stdout(Stdio::null())
            .spawn();
        let server = Self(server.expect("redis-server is missing: tests/run gets it"));
        let url = format!("redis://127.0.0.1:{port}");
        while redis_link::connect(&url).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
