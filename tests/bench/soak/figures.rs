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
use crate::support::program::Program;

/// Memory may be so much larger in the last quarter than in the second one.
const GROWTH: f64 = 1.05;
const SLACK_MIB: f64 = 4.0;
const MORE_FILES: f64 = 32.0;
/// A shorter run says nothing about memory: it is still warming up.
const JUDGED_FROM: Duration = Duration::from_secs(480);

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
    pub(super) resident_mib: f64,
    pub(super) files: f64,
    pub(super) threads: f64,
    pub(super) entries: f64,
    pub(super) jobs: f64,
    pub(super) lost_lines: f64,
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
pub(super) async fn watch(
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
        let mut now = Vec::new();
        for replica in &soak.replicas {
            now.push(sample(replica).await?);
        }
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

pub(super) async fn sample(replica: &Program) -> anyhow::Result<Sample> {
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
        resident_mib: figure(&status, "VmRSS")? / 1024.0,
        files: f64::from(u32::try_from(fs::read_dir(format!("{proc}/fd"))?.count())?),
        threads: figure(&status, "Threads")?,
        entries: figure(&metrics, "contactd_cache_entries ")?,
        jobs: figure(&metrics, "contactd_prefetch_jobs{platform=\"example\"} ")?,
        lost_lines: figure(&metrics, "contactd_log_lines_dropped_total ")?,
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

/// Compares the medians of the second and the last quarter.
pub(super) fn judge(samples: &[Vec<Sample>], minutes: Duration) -> anyhow::Result<()> {
    let quarter = samples.len() / 4;
    for replica in 0..samples.first().map_or(0, Vec::len) {
        let median = |from: usize, figure: fn(&Sample) -> f64| {
            let mut all: Vec<_> = samples[from..from + quarter]
                .iter()
                .map(|now| figure(&now[replica]))
                .collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let both = |figure| {
            (
                median(quarter, figure),
                median(samples.len() - quarter, figure),
            )
        };
        let ((resident, resident_then), (files, files_then)) = (
            both(|sample| sample.resident_mib),
            both(|sample| sample.files),
        );
        println!(
            "replica {replica}: median RSS {resident:.1} -> {resident_then:.1} MiB, files {files} -> {files_then}"
        );
        if minutes >= JUDGED_FROM {
            ensure!(
                resident_then <= resident * GROWTH + SLACK_MIB,
                "memory grows"
            );
            ensure!(files_then <= files + MORE_FILES, "open files grow");
        }
    }
    Ok(())
}
