//! What was measured: a row a minute, the share of hits, and whether memory and files stay flat.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use contactd::clock::{self, Stopwatch};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::replica::Doors;
use super::{Soak, memory};

/// How many more files may be open under load in the last quarter than in the second one.
const MORE_FILES: f64 = 32.0;
/// A shorter run says nothing about files: it is still warming up.
const FILES_JUDGED_FROM: Duration = Duration::from_secs(360);

/// One replica at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    pub(crate) pid: u32,
    /// Without the program's own pages, which the system drops and reads again as it likes.
    pub(crate) resident_mib: f64,
    pub(crate) files: f64,
    pub(crate) entries: f64,
    pub(crate) jobs: f64,
    /// Credentials that it may remember.
    pub(crate) credentials: usize,
}

impl Sample {
    fn at_rest(&self) -> memory::AtRest {
        memory::AtRest {
            resident_mib: self.resident_mib,
            credentials: self.credentials,
        }
    }
}

/// How many look-ups were answered, and how many of them were hits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answers {
    pub(crate) all: usize,
    pub(crate) hits: usize,
}

impl Answers {
    fn count(&mut self, is_hit: bool) {
        self.all += 1;
        self.hits += usize::from(is_hit);
    }

    /// Hits of a hundred.
    pub(crate) fn percent(self) -> usize {
        self.hits * 100 / self.all.max(1)
    }
}

/// One second.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    answers: Answers,
    /// Of repeats. A refused one is not a hit.
    repeats: Answers,
}

#[derive(Debug)]
pub(crate) struct Figures {
    began: Stopwatch,
    seconds: Mutex<Vec<Second>>,
    /// Microseconds of the hits since the last row.
    took: Mutex<Vec<u32>>,
}

impl Figures {
    pub(crate) fn new() -> Self {
        Self {
            began: Stopwatch::start(),
            seconds: Mutex::default(),
            took: Mutex::default(),
        }
    }

    fn now(&self, count: impl FnOnce(&mut Second)) {
        let second = usize::try_from(self.began.elapsed().as_secs()).unwrap_or_default();
        let mut seconds = self.seconds.lock();
        if seconds.len() <= second {
            seconds.resize(second + 1, Second::default());
        }
        count(&mut seconds[second]);
    }

    pub(crate) fn answered(&self, is_hit: bool, took: Duration) {
        self.now(|second| second.answers.count(is_hit));
        if is_hit {
            let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
            self.took.lock().push(micros);
        }
    }

    /// A look-up that repeats one that was answered a moment ago was answered or refused.
    pub(crate) fn repeated(&self, is_hit: bool) {
        self.now(|second| second.repeats.count(is_hit));
    }

    fn sum(&self, from: Duration, to: Duration, of: fn(&Second) -> Answers) -> Answers {
        let seconds = self.seconds.lock();
        let at = |time: Duration| usize::try_from(time.as_secs()).unwrap_or_default();
        let some = seconds.iter().take(at(to)).skip(at(from)).map(of);
        some.fold(Answers::default(), |sum, second| Answers {
            all: sum.all + second.all,
            hits: sum.hits + second.hits,
        })
    }

    /// The answers from one second to another.
    pub(crate) fn answers(&self, from: Duration, to: Duration) -> Answers {
        self.sum(from, to, |second| second.answers)
    }

    /// The repeats from one second to another.
    pub(crate) fn repeats(&self, from: Duration, to: Duration) -> Answers {
        self.sum(from, to, |second| second.repeats)
    }

    fn row(&self, from: Duration, samples: &[Option<Sample>], wrong: usize) {
        let now = self.began.elapsed();
        let answers = self.answers(from, now);
        let mut took = std::mem::take(&mut *self.took.lock());
        took.sort_unstable();
        let hit = |percent: usize| {
            let at = took.len().saturating_sub(1) * percent / 100;
            f64::from(took.get(at).copied().unwrap_or_default()) / 1e3
        };
        let all = |figure: fn(&Sample) -> f64| {
            let figures = samples.iter().map(|sample| match sample {
                Some(sample) => format!("{:.0}", figure(sample)),
                None => "-".to_owned(),
            });
            figures.collect::<Vec<_>>().join(" ")
        };
        println!(
            "{:>6.1} {:>8} {:>5} {:>7.2} {:>7.2} {:>12} {:>12} {:>15} {wrong:>6}",
            now.as_secs_f64() / 60.0,
            answers.all,
            answers.percent(),
            hit(50),
            hit(99),
            all(|sample| sample.resident_mib),
            all(|sample| sample.files),
            all(|sample| sample.entries),
        );
    }
}

/// Samples all replicas until the end: each ten seconds, with a row each minute.
pub(crate) async fn watch_over(soak: &Soak) -> Vec<Vec<Option<Sample>>> {
    println!(
        "minute  answers hits% p50 ms  p99 ms      RSS MiB        files         entries  wrong"
    );
    let each = Duration::from_secs(60).min(soak.times.length / 4);
    let (mut samples, mut last) = (Vec::new(), Duration::ZERO);
    loop {
        let goes_on = soak
            .goes_on_after(Duration::from_secs(10).min(each / 4))
            .await;
        let (now, time) = (soak.read().await, soak.figures.began.elapsed());
        if !goes_on || time >= last + each {
            soak.figures.row(last, &now, soak.verdicts.contradictions());
            last = time;
        }
        samples.push(now);
        if !goes_on {
            return samples;
        }
    }
}

pub(crate) async fn sample(doors: &Doors, credentials: usize) -> anyhow::Result<Sample> {
    let proc = format!("/proc/{}", doors.pid);
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
    let metrics = page(&doors.ops, "/metrics").await?;
    Ok(Sample {
        pid: doors.pid,
        resident_mib: figure(&status, "RssAnon")? / 1024.0,
        files: f64::from(u32::try_from(fs::read_dir(format!("{proc}/fd"))?.count())?),
        entries: figure(&metrics, "contactd_cache_entries ")?,
        jobs: figure(&metrics, "contactd_prefetch_jobs{platform=\"example\"} ")?,
        credentials,
    })
}

/// A page of an operations port.
pub(crate) async fn page(ops: &str, path: &str) -> anyhow::Result<String> {
    let text = clock::timeout(Duration::from_secs(10), read_page(ops, path)).await;
    let text = text.context("no page in time")??;
    ensure!(
        text.starts_with("HTTP/1.1 200"),
        "{path}: {}",
        text.lines().next().unwrap_or_default()
    );
    Ok(text)
}

async fn read_page(ops: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(ops.trim_start_matches("http://")).await?;
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Compares memory at two rests of the same process, and the medians of open files in the second
/// and the last quarter. Returns what grew; a run that is too short is not judged.
pub(crate) fn judge(
    first_rest: &[Option<Sample>],
    last_rest: &[Option<Sample>],
    under_load: &[Vec<Option<Sample>>],
    length: Duration,
) -> Vec<String> {
    let mut grown = Vec::new();
    for (replica, (first, last)) in first_rest.iter().zip(last_rest).enumerate() {
        let (Some(first), Some(last)) = (first, last) else {
            continue;
        };
        let (before, after) = (first.at_rest(), last.at_rest());
        println!(
            "replica {replica}: RSS at rest {:.1} -> {:.1} MiB, at most {:.1}; credentials {} -> {}{}",
            before.resident_mib,
            after.resident_mib,
            before.allowed_mib(after),
            before.credentials,
            after.credentials,
            if first.pid == last.pid {
                ""
            } else {
                "; not one life, not judged"
            },
        );
        let is_judged = length >= memory::JUDGED_FROM && first.pid == last.pid;
        if is_judged && before.grows_until(after) {
            grown.push(format!("memory of replica {replica}"));
        }
    }
    let quarter = under_load.len() / 4;
    let files = |from: usize| median(&under_load[from..from + quarter]);
    let (files, files_then) = (files(quarter), files(under_load.len() - quarter));
    println!("open files under load: {files} -> {files_then}");
    if length >= FILES_JUDGED_FROM && files_then > files + MORE_FILES {
        grown.push("open files".to_owned());
    }
    grown
}

fn median(samples: &[Vec<Option<Sample>>]) -> f64 {
    let all = samples.iter().flatten().flatten();
    let mut all: Vec<_> = all.map(|sample| sample.files).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
