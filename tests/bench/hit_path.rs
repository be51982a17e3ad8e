//! What a hit costs beside a tonic method that does nothing.
//!
//! Run with `cargo bench --profile dist --bench hit_path` on an idle Linux machine; it takes about
//! 40 seconds.
//!
//! A second process serves the real daemon, warmed, and two bare methods that read the same request
//! and answer a constant message of the same length: `bare` a `FindContactResponse`, `bare, flat` a
//! single bytes field, which is the least that prost can do. `hit` asks for one E.164 number over
//! and over, `hit, spelled` for the same number in its national spelling. This process drives them
//! one after the other, round by round, with the same closed loop over the same HTTP/2 client.
//!
//! Printed are medians over the rounds: requests a second, latencies, CPU of the server process per
//! request, and ratios to the bare method of the same round. The goal is a hit at 0.95 of the bare
//! method's requests a second or more. The client's own CPU is in the requests a second, so a
//! difference in the server shows larger in its CPU.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to a person")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use contactd::pb::v1 as pb;
use load::Target;
use prost::Message as _;
use servers::Card;

mod load;
mod servers;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 7;
const SLICE: Duration = Duration::from_millis(900);
const GOAL: f64 = 0.95;
const FIND: &str = "/contactd.v1.ContactService/FindContact";

/// How many users ask in the case of many keys.
const USERS: usize = 1_000;

/// Says to be the process under load.
const SERVE: &str = "--serve";

/// One thing to measure.
struct Case {
    name: &'static str,
    target: Target,
    /// Contacts in a right answer; `None` where it is no `FindContactResponse`.
    contacts: Option<usize>,
    slices: Vec<Slice>,
}

/// The figures of one case in one round.
struct Slice {
    rate: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
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
    drop(server.stdin.take());
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
    for (name, addr, path, requests, contacts) in [
        ("bare", card.bare, servers::TYPED, one.clone(), Some(1)),
        ("bare, flat", card.bare, servers::FLAT, one.clone(), None),
        ("hit", card.daemon, FIND, one, Some(1)),
        ("hit, 1,000 keys", card.daemon, FIND, many, Some(1)),
        ("hit, spelled", card.daemon, FIND, spelled, Some(1)),
        ("hit, not found", card.daemon, FIND, absent, Some(0)),
    ] {
        let mut target = Target {
            addr,
            path,
            requests: Vec::new(),
            answer_len: 0..usize::MAX,
        };
        let mut len = 0;
        for request in &requests {
            target.requests = vec![request.clone()];
            load::ask(&target).await?;
            len = load::ask(&target).await?.len();
        }
        // The age of an answer takes up to 11 bytes of it.
        (target.requests, target.answer_len) = (requests, len.saturating_sub(11)..len + 12);
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
    let before = cpu_time(server)?;
    let mut measured = load::drive(&case.target, SLICE).await?;
    let cpu = cpu_time(server)?.saturating_sub(before);
    for answer in measured.answers {
        check(case, answer)?;
    }
    measured.latencies.sort_unstable();
    let count = measured.latencies.len();
    let quantile =
        |percent: usize| f64::from(measured.latencies[(count - 1) * percent / 100]) / 1e6;
    #[expect(clippy::cast_precision_loss, reason = "far fewer requests than 2^52")]
    let requests = count as f64;
    Ok(Slice {
        rate: requests / measured.elapsed.as_secs_f64(),
        p50: quantile(50),
        p99: quantile(99),
        cpu: cpu.as_secs_f64() * 1e6 / requests,
    })
}

fn check(case: &Case, answer: bytes::Bytes) -> anyhow::Result<()> {
    let Some(contacts) = case.contacts else {
        return Ok(());
    };
    let answer = pb::FindContactResponse::decode(answer)?;
    let lookup = answer.lookup.unwrap_or_default();
    ensure!(
        lookup.source() == pb::Source::Memory && lookup.freshness() == pb::Freshness::Fresh,
        "{lookup:?}"
    );
    let real = answer
        .matched_contact_info
        .iter()
        .filter(|contact| !contact.is_new_contact && !contact.name.is_empty());
    ensure!(
        real.count() == contacts && lookup.complete,
        "not {contacts} contacts"
    );
    Ok(())
}

/// CPU time of all threads of a process.
fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
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
    let (to_bare, to_flat) = (
        ratio(&cases[2], &cases[0], |s| s.rate),
        ratio(&cases[2], &cases[1], |s| s.rate),
    );
    let verdict = if to_bare >= GOAL { "met" } else { "missed" };
    println!("a hit is {to_bare:.3} of bare ({to_flat:.3} of bare, flat); goal {GOAL}: {verdict}");
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

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
