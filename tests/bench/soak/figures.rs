//! What was counted and measured, a row a minute, and whether memory and files stay flat.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use contactd::clock;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Soak;
use crate::memory;
use crate::support::program::Program;

/// So many more files may be open under load in the last quarter than in the second one.
const MORE_FILES: f64 = 32.0;
/// A shorter run says nothing about files: it is still warming up.
const FILES_JUDGED_FROM: Duration = Duration::from_secs(360);

#[derive(Debug, Default)]
struct Minute {
    answers: usize,
    /// Microseconds.
    hits: Vec<u32>,
    events: BTreeMap<String, usize>,
}

/// One replica at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    /// Without the program's own pages, which the system drops and reads again as it likes.
    pub(super) resident_mib: f64,
    pub(super) files: f64,
    pub(super) threads: f64,
    pub(super) entries: f64,
    pub(super) jobs: f64,
    pub(super) lost_lines: f64,
    /// Credentials that it may remember.
    pub(super) credentials: usize,
}

impl Sample {
    fn at_rest(&self) -> memory::AtRest {
        memory::AtRest {
            resident_mib: self.resident_mib,
            credentials: self.credentials,
        }
    }
}

/// What was read of all replicas.
#[derive(Debug)]
pub(super) struct Readings {
    /// Each ten seconds.
    pub(super) under_load: Vec<Vec<Sample>>,
    /// After a quarter of the time.
    pub(super) first_rest: Vec<Sample>,
}

#[derive(Debug, Default)]
pub(super) struct LiveStats(Mutex<Minute>);

impl LiveStats {
    pub(super) fn answered(&self, hit: Option<Duration>) {
        let mut minute = self.0.lock();
        minute.answers += 1;
        minute
            .hits
            .extend(hit.map(|took| u32::try_from(took.as_micros()).unwrap_or(u32::MAX)));
    }

    pub(super) fn count(&self, what: &str) {
        *self.0.lock().events.entry(what.to_owned()).or_default() += 1;
    }

    /// The row of the time since the last one; the answers in it.
    fn row(&self, time: Duration, samples: &[Sample], faults: usize) -> usize {
        let mut minute = std::mem::take(&mut *self.0.lock());
        minute.hits.sort_unstable();
        let hit = |percent: usize| {
            let at = minute.hits.len().saturating_sub(1) * percent / 100;
            f64::from(minute.hits.get(at).copied().unwrap_or_default()) / 1e3
        };
        let all = |figure: fn(&Sample) -> f64| {
            samples
                .iter()
                .map(|sample| format!("{:.0}", figure(sample)))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let events: Vec<_> = minute
            .events
            .iter()
            .map(|(what, times)| format!("{what} {times}"))
            .collect();
        println!(
            "{:>6.1} {:>8} {:>8} {:>7.2} {:>7.2} {:>12} {:>12} {:>10} {:>18} {:>6}  {}",
            time.as_secs_f64() / 60.0,
            minute.answers,
            minute.hits.len(),
            hit(50),
            hit(99),
            all(|sample| sample.resident_mib),
            all(|sample| sample.files),
            all(|sample| sample.threads),
            all(|sample| sample.entries),
            faults,
            events.join(", "),
        );
        minute.answers
    }
}

/// Samples all replicas until the end: each ten seconds, with a row each minute. All samples, and
/// the answers.
pub(super) async fn watch_over(
    soak: &Soak,
    minutes: Duration,
) -> anyhow::Result<(Vec<Vec<Sample>>, usize)> {
    println!(
        "minute  answers     hits  p50 ms  p99 ms      RSS MiB        files    threads            entries faults  events"
    );
    let every = Duration::from_secs(10).min(minutes / 40);
    let (mut samples, mut answers, mut next) =
        (Vec::new(), 0, Duration::from_secs(60).min(minutes / 4));
    let each = next;
    loop {
        let goes_on = soak.goes_on_after(every).await;
        let now = soak.read().await?;
        if !goes_on || soak.began.elapsed() >= next {
            answers += soak
                .figures
                .row(soak.began.elapsed(), &now, soak.world.faults());
            next += each;
        }
        samples.push(now);
        if !goes_on {
            return Ok((samples, answers));
        }
    }
}

pub(super) async fn sample(replica: &Program, credentials: usize) -> anyhow::Result<Sample> {
    let proc = format!("/proc/{}", replica.pid());
    let status = fs::read_to_string(format!("{proc}/status"))?;
    let figure = |text: &str, name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .context("a line of that name")?;
        anyhow::Ok(
            line.trim_matches([':', ' ', '\t', 'k', 'B'])
                .parse::<f64>()?,
        )
    };
    let metrics = page(&replica.ops, "/metrics").await?;
    Ok(Sample {
        resident_mib: figure(&status, "RssAnon")? / 1024.0,
        files: f64::from(u32::try_from(fs::read_dir(format!("{proc}/fd"))?.count())?),
        threads: figure(&status, "Threads")?,
        entries: figure(&metrics, "contactd_cache_entries ")?,
        jobs: figure(&metrics, "contactd_prefetch_jobs{platform=\"example\"} ")?,
        lost_lines: figure(&metrics, "contactd_log_lines_dropped_total ")?,
        credentials,
    })
}

/// A page of an operations port.
pub(super) async fn page(ops: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(ops.trim_start_matches("http://")).await?;
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await?;
    let mut text = String::new();
    clock::timeout(Duration::from_secs(10), stream.read_to_string(&mut text))
        .await
        .context("no page in time")??;
    ensure!(
        text.starts_with("HTTP/1.1 200"),
        "{path}: {}",
        text.lines().next().unwrap_or_default()
    );
    Ok(text)
}

/// Compares memory at the two rests, and the medians of open files in the second and the last
/// quarter. A run that is too short is not judged.
pub(super) fn judge(
    readings: &Readings,
    last_rest: &[Sample],
    minutes: Duration,
) -> anyhow::Result<()> {
    let (mut grown, samples) = (Vec::new(), &readings.under_load);
    for (replica, (first, last)) in readings.first_rest.iter().zip(last_rest).enumerate() {
        let quarter = samples.len() / 4;
        let files = |from| median(&samples[from..from + quarter], replica, |now| now.files);
        let (files, files_then) = (files(quarter), files(samples.len() - quarter));
        let (first, last) = (first.at_rest(), last.at_rest());
        println!(
            "replica {replica}: RSS at rest {:.1} -> {:.1} MiB, at most {:.1}; credentials {} -> {}; files {files} -> {files_then}",
            first.resident_mib,
            last.resident_mib,
            first.allowed_mib(last),
            first.credentials,
            last.credentials,
        );
        let is_long = minutes >= memory::JUDGED_FROM;
        grown.extend((is_long && first.grows_until(last)).then_some("memory grows"));
        let is_long = minutes >= FILES_JUDGED_FROM;
        grown.extend((is_long && files_then > files + MORE_FILES).then_some("open files grow"));
    }
    ensure!(grown.is_empty(), grown.join(", "));
    Ok(())
}

fn median(samples: &[Vec<Sample>], replica: usize, figure: fn(&Sample) -> f64) -> f64 {
    let mut all: Vec<_> = samples.iter().map(|now| figure(&now[replica])).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
