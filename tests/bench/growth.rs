//! What a hit costs as stored answers, users and connections grow.
//!
//! Run with `cargo bench --profile dist --bench growth` on an idle Linux machine; it takes about
//! four minutes. It prints a table and writes the plot `tests/bench/growth.svg`.
//!
//! One axis at a time grows in powers of ten. For each point a fresh process serves the real
//! daemon. Prefetches fill it from a CRM that replies at once, with a contact for each of the 250
//! numbers of a call. The last column shows how long that takes: about a minute and a half for a
//! million answers. Then this process asks for the entries in random order, in two ways:
//!
//! * as fast as it can, with 160 calls in flight, or one on each connection if there are more of
//!   these: calls per second, and the daemon's CPU time per call;
//! * 10,000 calls a second, in turns: latencies.
//!
//! Printed are medians over the rounds, and the most resident memory of the daemon under load.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to a person")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use contactd::clock::{self, Stopwatch};
use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1 as pb;
use contactd::pb::v1::prefetch_contacts_response::Event;
use crm::BenchCrm;
use figures::{Slice, median};
use load::{Load, Target};
use process::Daemon;
use tokio::runtime::Builder;
use tonic::transport::{Channel, Endpoint};

#[expect(dead_code, reason = "calls are counted by another benchmark")]
mod crm;
mod figures;
mod growth_plot;
mod load;
mod process;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FIND: &str = "/contactd.v1.ContactService/FindContact";
const ROUNDS: usize = 5;
const SLICE: Duration = Duration::from_millis(800);
/// Calls in flight if callers call as fast as they can.
const IN_FLIGHT: usize = Load::MANY.connections * Load::MANY.in_flight;
/// Callers that take turns, so that ten of them call in each millisecond.
const IN_TURNS: usize = 10;
const CALLS_A_SECOND: u32 = 10_000;
/// Numbers of one prefetch.
const BATCH: usize = 10_000;
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/growth.svg");

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Entries,
    Users,
    Connections,
}

impl Axis {
    const ALL: [Self; 3] = [Self::Entries, Self::Users, Self::Connections];

    fn name(self) -> &'static str {
        match self {
            Self::Entries => "stored answers",
            Self::Users => "users",
            Self::Connections => "connections",
        }
    }

    fn sizes(self) -> impl Iterator<Item = usize> {
        let powers = match self {
            Self::Entries => 6,
            Self::Users => 4,
            Self::Connections => 3,
        };
        (0..=powers).map(|power| 10_usize.pow(power))
    }

    /// The other two stay as they are.
    fn point(self, size: usize) -> Point {
        let usual = Point {
            entries: 10_000,
            users: 1,
            connections: Load::MANY.connections,
        };
        match self {
            Self::Entries => Point {
                entries: size,
                ..usual
            },
            Self::Users => Point {
                users: size,
                ..usual
            },
            Self::Connections => Point {
                connections: size,
                ..usual
            },
        }
    }
}

/// What a daemon holds, and how it is called.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// Of all users together.
    entries: usize,
    users: usize,
    connections: usize,
}

/// What was measured at one point.
#[derive(Debug, Clone, Copy)]
struct Figures {
    size: usize,
    /// Calls a second, as fast as they can.
    rate: f64,
    /// Microseconds a call, as fast as they can.
    cpu: f64,
    /// Milliseconds, at an even pace.
    p50: f64,
    p99: f64,
    /// MiB.
    resident: f64,
}

fn main() -> anyhow::Result<()> {
    if process::serve_if_asked()? {
        return Ok(());
    }
    let most = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let crm = BenchCrm::start(Duration::ZERO)?;
    let mut rows = Vec::new();
    for axis in Axis::ALL {
        println!(
            "{:<15} {:>9} {:>8} {:>8} {:>8} {:>9} {:>8}",
            axis.name(),
            "calls/s",
            "CPU us",
            "p50 ms",
            "p99 ms",
            "memory",
            "filled"
        );
        let mut row = Vec::new();
        for size in axis
            .sizes()
            .filter(|size| most.is_none_or(|most| *size <= most))
        {
            let point = axis.point(size);
            let (figures, filled) = runtime
                .block_on(measure(&crm, size, point))
                .with_context(|| format!("{point:?}"))?;
            println!(
                "{size:<15} {:>9.0} {:>8.2} {:>8.3} {:>8.3} {:>5.0} MiB {:>6.1} s",
                figures.rate,
                figures.cpu,
                figures.p50,
                figures.p99,
                figures.resident,
                filled.as_secs_f64()
            );
            row.push(figures);
        }
        rows.push((axis, row));
    }
    std::fs::write(PLOT, growth_plot::draw(&rows))?;
    println!("{PLOT}");
    Ok(())
}

/// Fills a daemon, and asks it for everything that it has.
async fn measure(crm: &BenchCrm, size: usize, point: Point) -> anyhow::Result<(Figures, Duration)> {
    let settings = format!(
        "cache.memory = '4GiB'\ncache.found = {{ fresh = '1h', stale = '2h' }}\n{}",
        crm.settings()
    );
    let daemon = Daemon::start(&settings)?;
    let stopwatch = Stopwatch::start();
    fill(&daemon, point).await?;
    let filled = stopwatch.elapsed();
    let mut target = Target {
        addr: daemon.addr,
        path: FIND,
        requests: requests(point),
        answer_len: 0..usize::MAX,
        load: Load::ONE,
    };
    let len = load::ask(&target).await?.len();
    // Digits of ids and ages.
    target.answer_len = len.saturating_sub(40)..len + 40;
    let (mut busy, mut even, mut resident) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..ROUNDS {
        for (load, slices) in [(point.busy(), &mut busy), (point.even(), &mut even)] {
            target.load = load;
            let (slice, most) = slice(&daemon, &target).await?;
            slices.push(slice);
            resident = resident.max(most);
            // Callers start evenly spaced. Now they start where none of them has been.
            let part = target.requests.len() / IN_FLIGHT * 3 / 8;
            target.requests.rotate_left(part);
        }
    }
    let middle = |slices: &[Slice], figure: fn(&Slice) -> f64| median(slices.iter().map(figure));
    let figures = Figures {
        size,
        rate: middle(&busy, |slice| slice.rate),
        cpu: middle(&busy, |slice| slice.cpu),
        p50: middle(&even, |slice| slice.p50),
        p99: middle(&even, |slice| slice.p99),
        resident,
    };
    Ok((figures, filled))
}

impl Point {
    fn busy(self) -> Load {
        Load {
            connections: self.connections,
            in_flight: IN_FLIGHT.div_ceil(self.connections),
            calls_a_second: None,
        }
    }

    fn even(self) -> Load {
        Load {
            connections: self.connections,
            in_flight: IN_TURNS.div_ceil(self.connections),
            calls_a_second: Some(CALLS_A_SECOND),
        }
    }

    /// A search for many numbers waits until it has enough of them. If each user has only a few,
    /// that wait is not worth it.
    fn platform(self) -> &'static str {
        if self.entries / self.users < 100 {
            "single"
        } else {
            "bench"
        }
    }

    /// The numbers of each user, who have equal parts of the entries.
    fn numbers(self) -> impl Iterator<Item = String> {
        let each = self.entries.div_ceil(self.users);
        (0..each).map(|n| format!("+1650{}", 2_000_000 + n))
    }
}

/// One slice, with the most memory that the daemon had in it.
async fn slice(daemon: &Daemon, target: &Target) -> anyhow::Result<(Slice, f64)> {
    let before = daemon.cpu()?;
    let stopwatch = Stopwatch::start();
    let mut resident = 0.0_f64;
    let watch = async {
        while stopwatch.elapsed() < SLICE * 9 / 10 {
            clock::sleep(SLICE / 5).await;
            resident = resident.max(daemon.resident()?);
        }
        anyhow::Ok(())
    };
    let (mut measured, ()) = tokio::try_join!(load::drive(target, SLICE), watch)?;
    let cpu = daemon.cpu()?.saturating_sub(before);
    for answer in measured.answers.drain(..) {
        figures::check(answer, 1)?;
    }
    Ok((Slice::of(&mut measured, cpu), resident))
}

/// Prefetches every entry, four batches at a time.
async fn fill(daemon: &Daemon, point: Point) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{}", daemon.addr))?
        .connect()
        .await?;
    let batches = (0..point.users).flat_map(|user| {
        let numbers: Vec<String> = point.numbers().collect();
        let batches: Vec<Vec<String>> = numbers.chunks(BATCH).map(<[String]>::to_vec).collect();
        batches.into_iter().map(move |batch| (user, batch))
    });
    let (mut batches, mut running) = (batches.fuse(), tokio::task::JoinSet::new());
    loop {
        while running.len() < 4 {
            let Some((user, batch)) = batches.next() else {
                break;
            };
            running.spawn(prefetch(channel.clone(), (user, point.platform()), batch));
        }
        match running.join_next().await {
            Some(ended) => ended??,
            None => return Ok(()),
        }
    }
}

async fn prefetch(
    channel: Channel,
    (user, platform): (usize, &'static str),
    phone_numbers: Vec<String>,
) -> anyhow::Result<()> {
    let numbers = phone_numbers.len();
    let request = pb::PrefetchContactsRequest {
        user: Some(user_of(user, platform)),
        auth_header: credential(),
        phone_numbers,
        ..Default::default()
    };
    let mut client = ContactServiceClient::new(channel);
    let mut events = client.prefetch_contacts(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        if let Some(Event::Finished(finished)) = event.event {
            let stored = finished.found + finished.already_cached;
            ensure!(stored as usize == numbers, "{finished:?}");
            return Ok(());
        }
    }
    anyhow::bail!("the batch broke off")
}

/// One call pop for each entry, in random order.
fn requests(point: Point) -> Vec<Bytes> {
    let mut requests: Vec<Bytes> = (0..point.users)
        .flat_map(|user| {
            point.numbers().map(move |number| {
                load::frame(&pb::FindContactRequest {
                    user: Some(user_of(user, point.platform())),
                    auth_header: credential(),
                    phone_number: number,
                    trigger: pb::Trigger::IncomingCall.into(),
                    ..Default::default()
                })
            })
        })
        .collect();
    fastrand::Rng::with_seed(1).shuffle(&mut requests);
    requests
}

fn user_of(n: usize, platform: &str) -> pb::User {
    pb::User {
        id: format!("agent-{n:05}"),
        platform: platform.into(),
        account_id: "4711".into(),
        region: "US".into(),
        ..Default::default()
    }
}

/// As long as a signed token.
fn credential() -> String {
    format!("Bearer demo{}", "x".repeat(789))
}
