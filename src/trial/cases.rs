//! Runs recorded cases: a directory with recordings and `expect.toml`, in a directory named as the
//! connector.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::compare::Differences;
use super::expect::{Expectations, ExpectedBatch, ExpectedLookUp};
use super::nearest::indented;
use super::phones::PhonesSeen;
use super::recording::read_recordings;
use super::replay::Replay;
use super::run::{LookUp, OtherEnd, Trial, TrialError};
use super::subject::Subject;

/// The file that makes a directory a case.
const EXPECT: &str = "expect.toml";

/// What became of a case.
pub(crate) struct CaseReport {
    pub(crate) directory: PathBuf,
    pub(crate) outcome: Outcome,
    pub(crate) phones: PhonesSeen,
}

/// What became of a case.
pub(crate) enum Outcome {
    Passed {
        /// Recordings that nobody asked for.
        unused: Vec<String>,
    },
    /// Differences and requests without a recording, for a person.
    Failed(Vec<String>),
    /// It could not run.
    Broken(String),
}

/// The directories of cases in a directory, itself included, in order.
///
/// # Errors
/// If a directory cannot be read, or if there is no case.
pub(crate) fn case_directories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    if directory.join(EXPECT).is_file() {
        return Ok(vec![directory.to_owned()]);
    }
    let mut cases = Vec::new();
    for directory in directories_in(directory)? {
        cases.extend(case_directories(&directory)?);
    }
    Ok(cases)
}

fn directories_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}

/// Runs a case with a connector, or with that of the case's directory: a file beside it, or else
/// the built-in one of that name.
pub(crate) async fn run_case(directory: &Path, connector: Option<&str>) -> CaseReport {
    let mut phones = PhonesSeen::default();
    let outcome = match Case::open(directory, connector).await {
        Ok(case) => {
            phones = case.phones(directory);
            case.run(&mut phones.has_records).await
        }
        Err(why) => Err(why),
    };
    CaseReport {
        directory: directory.to_owned(),
        outcome: outcome.unwrap_or_else(Outcome::Broken),
        phones,
    }
}

struct Case {
    expected: Expectations,
    trial: Trial,
    replay: Replay,
}

impl Case {
    async fn open(directory: &Path, connector: Option<&str>) -> Result<Self, String> {
        let file = directory.join(EXPECT);
        let in_file = |why: String| format!("{}: {why}", file.display());
        let text = fs::read_to_string(&file).map_err(|error| in_file(error.to_string()))?;
        let expected = Expectations::parse(&text).map_err(in_file)?;
        let caller = expected.caller().map_err(in_file)?;
        let replay = replay_of(directory).await?;
        let name = connector.map_or_else(|| connector_of(directory), str::to_owned);
        let subject = Subject::load(&name, Some(&expected.secrets())).map_err(to_words)?;
        let other_end = OtherEnd::Replay(replay.origin().clone());
        let trial = Trial::new(subject, caller, other_end);
        let trial = trial.map_err(|error| in_file(error.to_string()))?;
        // Without an address every look-up is refused.
        if let Ok(crm) = trial.address() {
            replay.stand_for(crm);
        }
        Ok(Self {
            expected,
            trial,
            replay,
        })
    }

    fn phones(&self, directory: &Path) -> PhonesSeen {
        let recordings = read_recordings(directory).unwrap_or_default();
        let replies = recordings.iter();
        let replies =
            replies.filter_map(|recording| serde_json::from_str(&recording.reply.body).ok());
        let replies: Vec<_> = replies.collect();
        PhonesSeen::of(self.trial.subject(), &replies)
    }

    async fn run(self, has_records: &mut bool) -> Result<Outcome, String> {
        let mut failures = Vec::new();
        for expected in &self.expected.look_up {
            failures.extend(self.look_up(expected, has_records).await?);
        }
        for expected in &self.expected.batch {
            failures.extend(self.batch(expected, has_records).await?);
        }
        for expected in &self.expected.whoami {
            let (came, _) = self.trial.whoami().await.map_err(to_words)?;
            failures.extend(self.failure("whoami", expected.compare(&came)));
        }
        if !failures.is_empty() {
            return Ok(Outcome::Failed(failures));
        }
        let unused = self.replay.unused().into_iter().map(str::to_owned);
        Ok(Outcome::Passed {
            unused: unused.collect(),
        })
    }

    async fn look_up(
        &self,
        expected: &ExpectedLookUp,
        has_records: &mut bool,
    ) -> Result<Option<String>, String> {
        let differences = match self.trial.look_up(&expected.number).await {
            Ok(came) => {
                *has_records |= came.has_records();
                expected.compare(&came)
            }
            Err(TrialError::Caller(refusal)) => expected.compare_refusal(&refusal),
            Err(error) => return Err(error.to_string()),
        };
        let what = format!("look-up of {}", expected.number);
        Ok(self.failure(&what, differences))
    }

    async fn batch(
        &self,
        expected: &ExpectedBatch,
        has_records: &mut bool,
    ) -> Result<Option<String>, String> {
        let came = self.trial.look_up_many(&expected.numbers).await;
        let came = came.map_err(to_words)?;
        *has_records |= came.iter().any(LookUp::has_records);
        let differences = expected.compare(&came);
        let what = format!("batch of {} numbers", expected.numbers.len());
        Ok(self.failure(&what, differences))
    }

    /// What is wrong with one part of the case.
    fn failure(&self, what: &str, differences: Differences) -> Option<String> {
        let unmatched = self.replay.take_unmatched();
        if differences.0.is_empty() && unmatched.is_empty() {
            return None;
        }
        let parts = [differences.0, unmatched].concat().join("\n");
        Some(format!("{what}\n{}", indented(&parts)))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
fn to_words(error: impl ToString) -> String {
    error.to_string()
}

/// Recordings that answer instead of the CRM.
async fn replay_of(directory: &Path) -> Result<Replay, String> {
    let recordings = read_recordings(directory).map_err(to_words)?;
    let replay = Replay::start(recordings).await;
    replay.map_err(|error| format!("a port cannot be opened: {error}"))
}

/// The connector of a case: `DIR/NAME.toml` or `DIR/NAME.json` beside `DIR/NAME/CASE`, or else the
/// built-in one called NAME.
fn connector_of(directory: &Path) -> String {
    let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let of_connector = directory.parent().unwrap_or(&directory);
    let beside = ["toml", "json"].map(|ending| of_connector.with_extension(ending));
    if let Some(file) = beside.into_iter().find(|file| file.is_file()) {
        return file.display().to_string();
    }
    name_of(of_connector)
}

fn name_of(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
