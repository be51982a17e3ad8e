//! Runs a scenario under many schedules.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use shuttle::rand::Rng as _;
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task, TaskId,
};
use shuttle::{Config, MaxSteps, Runner};

use crate::clock::Stopwatch;

/// When time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Once no task can run: a task that is due runs in time.
    WhenIdle,
    /// Sometimes even though tasks can run: they are late.
    Anytime,
}

/// How long each scheduler runs, unless `MODEL_SECONDS` says otherwise.
const SECONDS: u64 = 2;

/// Schedules between two looks at the clock. A scheduler prints its seed if it is stopped early.
const AT_A_TIME: usize = 16;

/// Changes of priority in a schedule.
const CHANGES: usize = 4;

/// More steps than any execution takes that ends.
const MOST_STEPS: usize = 200_000;

/// Runs `scenario` in new executions until the time is up: half of it under random schedules, half
/// under random priorities with a few changes, which finds other bugs. Prints how many there were.
/// `MODEL_SCHEDULE` repeats a schedule that a failure has printed.
///
/// # Panics
/// If the scenario panics, or nobody can run any more. Shuttle prints the schedule.
pub fn explore<F>(name: &str, pace: Pace, scenario: impl Fn() -> F + Copy + Send + Sync + 'static)
where
    F: Future<Output = ()> + 'static,
{
    if let Ok(schedule) = std::env::var("MODEL_SCHEDULE") {
        run(ReplayScheduler::new_from_encoded(&schedule), scenario);
        return;
    }
    let seconds = std::env::var("MODEL_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |seconds| seconds.parse().expect("whole seconds"));
    let (watch, time) = (std::time::Instant::now(), Duration::from_secs(seconds));
    let random = || RandomScheduler::new(AT_A_TIME);
    let by_priority = || PctScheduler::new(CHANGES, AT_A_TIME);
    let runs = until(time, || run(TimeLast::new(random(), pace), scenario))
        + until(time, || run(TimeLast::new(by_priority(), pace), scenario));
    let took = watch.elapsed().as_secs_f64();
    println!("{name}: {runs} schedules in {took:.1} s");
}

fn until(time: Duration, run: impl Fn() -> usize) -> usize {
    let (watch, mut runs) = (std::time::Instant::now(), 0);
    while watch.elapsed() < time {
        runs += run();
    }
    runs
}

fn run<F>(
    scheduler: impl Scheduler + 'static,
    scenario: impl Fn() -> F + Send + Sync + 'static,
) -> usize
where
    F: Future<Output = ()> + 'static,
{
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || {
        tokio::time::reset();
        shuttle::future::block_on(async {
            drop(shuttle::future::spawn(tokio::time::run()));
            scenario().await;
        });
    })
}

/// Lets the task that moves the time run last. It is the first that an execution starts.
struct TimeLast<S> {
    scheduler: S,
    pace: Pace,
    /// A sequence that depends on the seed only.
    chance: u64,
}

impl<S> TimeLast<S> {
    fn new(scheduler: S, pace: Pace) -> Self {
        Self {
            scheduler,
            pace,
            chance: 0,
        }
    }

    fn may_move_time(&mut self) -> bool {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.pace == Pace::Anytime && self.chance >> 59 == 0
    }
}

impl<S: Scheduler> Scheduler for TimeLast<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        let schedule = self.scheduler.new_execution()?;
        self.chance = schedule.seed;
        Some(schedule)
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let is_time = |task: &&Task| usize::from(task.id()) == 1;
        if self.may_move_time() {
            return self.scheduler.next_task(runnable, current, is_yielding);
        }
        let others: Vec<&Task> = runnable
            .iter()
            .copied()
            .filter(|task| !is_time(task))
            .collect();
        let candidates = if others.is_empty() { runnable } else { &others };
        self.scheduler.next_task(candidates, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.scheduler.next_u64()
    }
}

/// A choice of the schedule.
pub fn choose(range: Range<u64>) -> u64 {
    shuttle::rand::thread_rng().gen_range(range)
}

/// Returns true once in `many` calls on average.
pub fn one_in(many: u64) -> bool {
    choose(0..many) == 0
}

/// One of these.
pub fn one_of<T: Copy + Debug>(all: &[T]) -> T {
    all[usize::try_from(choose(0..all.len() as u64)).expect("an index")]
}

/// Runs all tasks to their end.
pub async fn all<T: 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T>
where
    T: Send,
{
    let running: Vec<_> = tasks.into_iter().map(shuttle::future::spawn).collect();
    let mut results = Vec::with_capacity(running.len());
    for task in running {
        results.push(task.await.expect("the task ends"));
    }
    results
}

/// Drops the future at an await, after so many polls. `None` if it was dropped.
pub async fn at_most<F: Future>(polls: u64, future: F) -> Option<F::Output> {
    let (mut left, mut future) = (polls, pin!(future));
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        let poll = future.as_mut().poll(context).map(Some);
        if left == 0 && poll.is_pending() {
            context.waker().wake_by_ref();
        }
        poll
    })
    .await
}
