//! A watch asks the CRM for nothing that the same look-up does not ask for.

use std::sync::Arc;

use contactd::pb::v1::Trigger;

use super::*;

/// How many calls of each kind a CRM has got: whose credential it is, searches, details.
type Calls = [usize; 3];

/// A state in which a number is looked up, and what that costs.
struct State {
    name: &'static str,
    /// What is stored before.
    stored: Option<FindContactRequest>,
    before: Box<dyn Fn(&Seen) -> Reply + Send + Sync>,
    passed: Duration,
    now: Box<dyn Fn(&Seen) -> Reply + Send + Sync>,
    request: FindContactRequest,
    /// The calls in all.
    calls: Calls,
}

fn state(name: &'static str, request: FindContactRequest, calls: Calls) -> State {
    State {
        name,
        stored: Some(find()),
        before: Box::new(named("Ada")),
        passed: Duration::ZERO,
        now: Box::new(named("Ada King")),
        request,
        calls,
    }
}

fn nobody(seen: &Seen) -> Reply {
    example(seen, &[])
}

/// Details that take longer than a phone waits.
fn slow(seen: &Seen) -> Reply {
    let reply = named("Ada King")(seen);
    if seen.path.ends_with("/deals") {
        reply.after(Duration::from_millis(500))
    } else {
        reply
    }
}

fn states() -> Vec<State> {
    let only_if_cached = || FindContactRequest {
        only_if_cached: true,
        ..find()
    };
    let first_match = || FindContactRequest {
        trigger: Trigger::InitialMatch.into(),
        ..find()
    };
    let missing = |state: State| State {
        stored: None,
        ..state
    };
    let stale = |state: State| State {
        passed: STALE,
        ..state
    };
    let lapsed = |state: State| State {
        passed: Duration::from_secs(2 * 3600),
        ..state
    };
    let absent = |state: State| State {
        before: Box::new(nobody),
        passed: STALE_NOBODY,
        ..state
    };
    let now = |state: State, now: fn(&Seen) -> Reply| State {
        now: Box::new(now),
        ..state
    };
    vec![
        state("fresh", find(), [1, 1, 1]),
        stale(state("stale", find(), [1, 2, 2])),
        stale(state("stale, first match", first_match(), [1, 2, 2])),
        stale(now(state("stale, slow details", find(), [1, 2, 2]), slow)),
        stale(now(
            state("stale, a CRM that fails", find(), [1, 2, 1]),
            |_| Reply::status(500),
        )),
        stale(now(
            state("stale, refused by now", find(), [1, 2, 1]),
            |_| Reply::status(401),
        )),
        absent(state("absent, stale", find(), [1, 2, 1])),
        absent(now(state("absent, still", find(), [1, 2, 0]), nobody)),
        absent(now(
            state("absent, a CRM that fails", find(), [1, 3, 0]),
            |_| Reply::status(500),
        )),
        missing(state("missing", find(), [1, 1, 1])),
        missing(now(state("missing, slow details", find(), [1, 1, 1]), slow)),
        missing(now(state("missing, nobody", find(), [1, 1, 0]), nobody)),
        missing(now(state("refused", find(), [1, 1, 0]), |_| {
            Reply::status(401)
        })),
        state("another credential", find().auth("Bearer other"), [2, 2, 2]),
        lapsed(state("lapsed", find(), [2, 2, 2])),
        lapsed(now(state("lapsed, refused", find(), [2, 1, 1]), |_| {
            Reply::status(401)
        })),
        state("only if cached", only_if_cached(), [1, 1, 1]),
        stale(state("only if cached, stale", only_if_cached(), [1, 1, 1])),
        missing(state(
            "only if cached, missing",
            only_if_cached(),
            [0, 0, 0],
        )),
        state("manual refresh", refresh(), [1, 2, 2]),
        now(
            state("manual refresh, slow details", refresh(), [1, 2, 2]),
            slow,
        ),
        now(
            state("manual refresh, a CRM that fails", refresh(), [1, 2, 1]),
            |_| Reply::status(500),
        ),
        missing(state("manual refresh, missing", refresh(), [1, 1, 1])),
    ]
}

fn counted(crm: &FakeCrm) -> Calls {
    let deals = crm
        .seen()
        .iter()
        .filter(|seen| seen.path.ends_with("/deals"))
        .count();
    [crm.asked_who(), crm.searches(), deals]
}

/// A daemon that waits for details as briefly as in production, and its CRM.
async fn started() -> (FakeCrm, TestDaemon) {
    let crm = FakeCrm::with(vec![]).await;
    let patience = "[lookup]\ndetails_timeout = \"100ms\"\n";
    let daemon = TestDaemon::with(&crm, "example", patience).await;
    (crm, daemon)
}

#[tokio::test]
async fn a_watch_calls_the_crm_as_a_look_up_does_in_every_state() {
    let mut all = Vec::new();
    for state in states() {
        let State {
            name,
            stored,
            before,
            passed,
            now,
            request,
            calls,
        } = state;
        let (before, now) = (Arc::new(before), Arc::new(now));
        for is_watch in [false, true] {
            let (crm, daemon) = started().await;
            if let Some(stored) = &stored {
                let script = Arc::clone(&before);
                crm.becomes(move |seen| script(seen));
                let answer = daemon.find(stored.clone()).await.unwrap();
                assert!(answer.lookup.unwrap().complete, "{name}");
            }
            daemon.clock.advance(passed);
            let script = Arc::clone(&now);
            crm.becomes(move |seen| script(seen));
            if is_watch {
                drop(watch(&daemon, request.clone()).await);
            } else {
                drop(daemon.find(request.clone()).await);
            }
            eventually(name, || counted(&crm) == calls).await;
            all.push((name, is_watch, calls, crm, daemon));
        }
    }
    // By now whatever one of them does beyond that has been done.
    for (name, is_watch, calls, crm, _daemon) in &all {
        assert_eq!(counted(crm), *calls, "{name}, watched: {is_watch}");
    }
}
