//! What a hit costs beside a tonic method that does nothing.
//!
//! Run with `cargo bench --profile dist --bench hit_path` on an idle Linux machine; it takes about
//! 40 seconds.
//!
//! A second process serves the real daemon, warmed, and two bare methods that read the same request
//! and answer a constant message of the same length: `bare` a `FindContactResponse`, `bare, flat` a
//! single bytes field, which is the least that prost can do. `bare` is a method as anybody would
//! write it, on tokio's default runtime; `bare, threads` is the same method on a runtime for each
//! core, as the daemon has them. `hit` asks for one E.164 number over and over, `hit, spelled` for
//! the same number in its national spelling. This process drives them one after the other, round by
//! round, with the same closed loop over the same HTTP/2 client: 16 connections with 10 calls each,
//! and one connection with one call.
//!
//! Printed are medians over the rounds: requests a second, latencies, CPU of the server process per
//! request, ratios to the bare method of the same round, and the goals. Requests per second include
//! the client's own CPU. So a difference between servers is clearer in the server's CPU.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to a person")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use contactd::pb::v1 as pb;
use figures::{Slice, median};
use load::{Load, Target};
use servers::Card;

mod figures;
mod load;
#[expect(dead_code, reason = "serves in another way")]
mod process;
mod servers;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 7;
const SLICE: Duration = Duration::from_millis(900);
const FIND: &str = "/contactd.v1.ContactService/FindContact";

/// How many users ask in the case of many keys.
const USERS: usize = 1_000;

/// The argument that makes this program the process under load.
const SERVE: &str = "--serve";

const BARE: &str = "bare";
const SPREAD: &str = "bare, threads";
const FLAT: &str = "bare, flat";
const HIT: &str = "hit";
const BARE_ALONE: &str = "bare, 1 x 1";
const HIT_ALONE: &str = "hit, 1 x 1";

/// What a hit should be, compared with a bare method in the same round.
struct Goal {
    what: &'static str,
    hit: &'static str,
    bare: &'static str,
    figure: fn(&Slice) -> f64,
    at_least: f64,
    at_most: f64,
}

const GOALS: [Goal; 5] = [
    rate(HIT, BARE, 1.3),
    rate(HIT, SPREAD, 1.08),
    cpu(HIT, BARE, 0.8),
    cpu(HIT, SPREAD, 0.95),
    rate(HIT_ALONE, BARE_ALONE, 1.0),
];

const fn rate(hit: &'static str, bare: &'static str, at_least: f64) -> Goal {
    Goal {
        what: "req/s",
        hit,
        bare,
        figure: |slice| slice.rate,
        at_least,
        at_most: f64::MAX,
    }
}

const fn cpu(hit: &'static str, bare: &'static str, at_most: f64) -> Goal {
    Goal {
        what: "CPU",
        hit,
        bare,
        figure: |slice| slice.cpu,
        at_least: 0.0,
        at_most,
    }
}

impl Goal {
    fn report(&self, cases: &[Case]) {
        let named = |name| cases.iter().find(|case| case.name == name);
        let (Some(hit), Some(bare)) = (named(self.hit), named(self.bare)) else {
            return;
        };
        let is = ratio(hit, bare, self.figure);
        let verdict = if (self.at_least..=self.at_most).contains(&is) {
            "met"
        } else {
            "missed"
        };
        let goal = if self.at_least > 0.0 {
            format!("at least {}", self.at_least)
        } else {
            format!("at most {}", self.at_most)
        };
        println!(
            "{} of {:?} is {is:.3} of {:?}; goal {goal}: {verdict}",
            self.what, self.hit, self.bare
        );
    }
}

/// One thing to measure.
struct Case {
    name: &'static str,
    target: Target,
    /// Contacts in a right answer; `None` where it is no `FindContactResponse`.
    contacts: Option<usize>,
    slices: Vec<Slice>,
}

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|arg| arg == SERVE) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        return runtime.block_on(servers::serve(|number| question(0, number)));
    }
    let mut server = Command::new(std::env::current_exe()?)
        .arg(SERVE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    report(&runtime.block_on(measure(&mut server))?);
    // Without a SIGTERM, a daemon reports its end as a fault.
    server.kill()?;
    server.wait()?;
    Ok(())
}

async fn measure(server: &mut Child) -> anyhow::Result<Vec<Case>> {
    let mut line = String::new();
    BufReader::new(server.stdout.take().context("the server's output")?).read_line(&mut line)?;
    let mut cases = cases(&Card::parse(&line)?).await?;
    for round in 0..ROUNDS {
        for at in 0..cases.len() {
            // Another case goes first in each round, so that no place in the row is an advantage.
            let at = (at + round) % cases.len();
            let case = &mut cases[at];
            let slice = slice(case, server.id()).await.with_context(|| case.name)?;
            case.slices.push(slice);
        }
    }
    Ok(cases)
}

/// The cases, each answered once for every request in it, so that all later answers come from
/// memory.
async fn cases(card: &Card) -> anyhow::Result<Vec<Case>> {
    let one = vec![load::frame(&question(0, &card.present))];
    let many: Vec<_> = (0..USERS)
        .map(|user| load::frame(&question(user, &card.present)))
        .collect();
    let spelled = vec![load::frame(&question(0, &spelled(&card.present)))];
    let absent = vec![load::frame(&question(0, &card.absent))];
    let mut cases = Vec::new();
    let (bare, spread, daemon) = (card.bare, card.spread, card.daemon);
    let (alone, many_calls) = (Load::ONE, Load::MANY);
    for (name, (addr, path), load, requests, contacts) in [
        (BARE, (bare, servers::TYPED), many_calls, &one, Some(1)),
        (SPREAD, (spread, servers::TYPED), many_calls, &one, Some(1)),
        (FLAT, (spread, servers::FLAT), many_calls, &one, None),
        (HIT, (daemon, FIND), many_calls, &one, Some(1)),
        (
            "hit, 1,000 keys",
            (daemon, FIND),
            many_calls,
            &many,
            Some(1),
        ),
        (
            "hit, spelled",
            (daemon, FIND),
            many_calls,
            &spelled,
            Some(1),
        ),
        (
            "hit, not found",
            (daemon, FIND),
            many_calls,
            &absent,
            Some(0),
        ),
        (BARE_ALONE, (bare, servers::TYPED), alone, &one, Some(1)),
        (HIT_ALONE, (daemon, FIND), alone, &one, Some(1)),
    ] {
        let mut target = Target {
            addr,
            path,
            requests: Vec::new(),
            answer_len: 0..usize::MAX,
            load,
        };
        let mut len = 0;
        for request in requests {
            target.requests = vec![request.clone()];
            load::ask(&target).await?;
            len = load::ask(&target).await?.len();
        }
        // The age of an answer takes up to 11 bytes of it.
        (target.requests, target.answer_len) = (requests.clone(), len.saturating_sub(11)..len + 12);
        cases.push(Case {
            name,
            target,
            contacts,
            slices: Vec::new(),
        });
    }
    Ok(cases)
}

/// One call pop, with a credential as long as a signed token.
fn question(user: usize, number: &str) -> pb::FindContactRequest {
    let id = format!("agent-{user:04}");
    pb::FindContactRequest {
        user: Some(pb::User {
            id,
            platform: "example".into(),
            account_id: "4711".into(),
            region: "US".into(),
            ..Default::default()
        }),
        auth_header: format!("Bearer demo{}", "x".repeat(789)),
        phone_number: number.to_owned(),
        trigger: pb::Trigger::IncomingCall.into(),
        ..Default::default()
    }
}

/// A number of the Example CRM as people write it in its country, which is North American.
fn spelled(e164: &str) -> String {
    let national = e164.trim_start_matches("+1");
    national
        .split_at_checked(6)
        .map_or_else(String::new, |(start, end)| {
            let (area, exchange) = start.split_at(3);
            format!("({area}) {exchange}-{end}")
        })
}

async fn slice(case: &Case, server: u32) -> anyhow::Result<Slice> {
    let before = process::cpu_time(server)?;
    let mut measured = load::drive(&case.target, SLICE).await?;
    let cpu = process::cpu_time(server)?.saturating_sub(before);
    for answer in measured.answers.drain(..) {
        if let Some(contacts) = case.contacts {
            figures::check(answer, contacts)?;
        }
    }
    Ok(Slice::of(&mut measured, cpu))
}

fn report(cases: &[Case]) {
    println!(
        "{:<16} {:>8} {:>8} {:>8} {:>8}  of bare: {:>6} {:>6}",
        "", "req/s", "p50 ms", "p99 ms", "CPU us", "req/s", "CPU"
    );
    for case in cases {
        let of = |figure: fn(&Slice) -> f64| median(case.slices.iter().map(figure));
        let ratio = |figure: fn(&Slice) -> f64| ratio(case, &cases[0], figure);
        println!(
            "{:<16} {:>8.0} {:>8.2} {:>8.2} {:>8.2}  {:>15.3} {:>6.3}",
            case.name,
            of(|s| s.rate),
            of(|s| s.p50),
            of(|s| s.p99),
            of(|s| s.cpu),
            ratio(|s| s.rate),
            ratio(|s| s.cpu)
        );
    }
    for goal in &GOALS {
        goal.report(cases);
    }
}

/// The median of one case's figure as a part of another's, round by round.
fn ratio(case: &Case, to: &Case, figure: fn(&Slice) -> f64) -> f64 {
    median(
        case.slices
            .iter()
            .zip(&to.slices)
            .map(|(a, b)| figure(a) / figure(b)),
    )
}
