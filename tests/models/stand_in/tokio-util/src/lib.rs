//! The parts of tokio-util that the modelled rooms use.

/// As `tokio_util::task`.
pub mod task {
    use std::cell::Cell;
    use std::future::{Future, poll_fn};
    use std::panic::AssertUnwindSafe;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use futures_util::FutureExt as _;
    use shuttle::rand::Rng as _;
    use tokio::runtime::Handle;
    use tokio::sync::Notify;

    thread_local! {
        static CANCEL_ONE_IN: Cell<u32> = const { Cell::new(0) };
    }

    /// From now on the runtime drops one in so many tasks at some await, as when it shuts down; none
    /// if zero.
    pub fn cancel_one_in(many: u32) {
        CANCEL_ONE_IN.set(many);
    }

    /// Counts tasks. A panic ends its task only, as tokio has it.
    #[derive(Debug, Clone, Default)]
    pub struct TaskTracker(Arc<Tracked>);

    #[derive(Debug, Default)]
    struct Tracked {
        running: AtomicUsize,
        ended: Notify,
    }

    struct Running(Arc<Tracked>);

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.running.fetch_sub(1, Ordering::SeqCst);
            self.0.ended.notify_waiters();
        }
    }

    impl TaskTracker {
        pub fn new() -> Self {
            Self::default()
        }

        pub fn spawn<F>(&self, task: F)
        where
            F: Future<Output: Send> + Send + 'static,
        {
            self.0.running.fetch_add(1, Ordering::SeqCst);
            let running = Running(Arc::clone(&self.0));
            let polls = lifetime();
            // Nobody waits for the task itself.
            drop(shuttle::future::spawn(async move {
                let _running = running;
                let _ = AssertUnwindSafe(at_most(polls, task)).catch_unwind().await;
            }));
        }

        pub fn spawn_on<F>(&self, task: F, _: &Handle)
        where
            F: Future<Output: Send> + Send + 'static,
        {
            self.spawn(task);
        }

        /// Waits until no task runs.
        pub async fn wait(&self) {
            loop {
                let ended = self.0.ended.notified();
                if self.0.running.load(Ordering::SeqCst) == 0 {
                    return;
                }
                ended.await;
            }
        }
    }

    fn lifetime() -> Option<u32> {
        let many = CANCEL_ONE_IN.get();
        let mut random = shuttle::rand::thread_rng();
        let is_cancelled = many > 0 && random.gen_range(0..many) == 0;
        is_cancelled.then(|| random.gen_range(0..4))
    }

    /// Runs the task, or drops it after so many polls.
    async fn at_most<F: Future>(mut polls: Option<u32>, task: F) {
        let mut task = pin!(task);
        poll_fn(|context| {
            match &mut polls {
                Some(0) => return Poll::Ready(()),
                Some(left) => *left -= 1,
                None => {}
            }
            let poll = task.as_mut().poll(context).map(drop);
            // Polled once more, to be dropped.
            if polls == Some(0) {
                context.waker().wake_by_ref();
            }
            poll
        })
        .await;
    }
}
