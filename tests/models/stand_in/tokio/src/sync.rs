//! As `tokio::sync`.

use std::ops::Deref;

use crate::step;

pub use real::sync::oneshot;

/// As `tokio::sync::futures`.
pub mod futures {
    pub use real::sync::futures::Notified;
}

/// See [`real::sync::Notify`].
#[derive(Debug, Default)]
pub struct Notify(real::sync::Notify);

impl Notify {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn notified(&self) -> futures::Notified<'_> {
        step();
        self.0.notified()
    }

    pub fn notify_one(&self) {
        step();
        self.0.notify_one();
    }

    pub fn notify_waiters(&self) {
        step();
        self.0.notify_waiters();
    }
}

/// As `tokio::sync::watch`.
pub mod watch {
    use super::{Deref, step};
    pub use real::sync::watch::error;

    /// See [`real::sync::watch::Sender`].
    #[derive(Debug)]
    pub struct Sender<T>(real::sync::watch::Sender<T>);

    /// See [`real::sync::watch::Receiver`].
    #[derive(Debug)]
    pub struct Receiver<T>(real::sync::watch::Receiver<T>);

    /// A value that was received.
    #[derive(Debug)]
    pub struct Ref<'a, T>(real::sync::watch::Ref<'a, T>);

    pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = real::sync::watch::channel(value);
        (Sender(sender), Receiver(receiver))
    }

    impl<T> Sender<T> {
        pub fn new(value: T) -> Self {
            Self(real::sync::watch::Sender::new(value))
        }

        pub fn send_replace(&self, value: T) -> T {
            step();
            self.0.send_replace(value)
        }

        pub fn subscribe(&self) -> Receiver<T> {
            step();
            Receiver(self.0.subscribe())
        }

        pub fn receiver_count(&self) -> usize {
            step();
            self.0.receiver_count()
        }

        pub async fn closed(&self) {
            step();
            self.0.closed().await;
        }
    }

    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Self {
            step();
            Self(self.0.clone())
        }
    }

    impl<T> Receiver<T> {
        /// Waits for a value. Nobody may wait while it holds the value.
        pub async fn wait_for(
            &mut self,
            wanted: impl FnMut(&T) -> bool,
        ) -> Result<Ref<'_, T>, error::RecvError> {
            step();
            self.0.wait_for(wanted).await.map(Ref)
        }
    }

    impl<T> Deref for Ref<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }
}
