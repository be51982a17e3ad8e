//! A number of places, taken and given back without waiting and without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Places for calls. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<AtomicUsize>);

/// One place, given back on drop.
#[derive(Debug)]
pub(crate) struct RoomPlace(Room);

impl Room {
    /// A room with `most` places.
    #[must_use]
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(most)))
    }

    /// Returns whether all places are taken.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// A place, or `None` if all are taken.
    #[must_use]
    pub(crate) fn enter(&self) -> Option<RoomPlace> {
        let one_less = |free: usize| free.checked_sub(1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .ok()
            .map(|_| RoomPlace(self.clone()))
    }
}

impl Drop for RoomPlace {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let room = Room::new(2);
        let (first, second) = (room.enter(), room.enter());
        assert!(first.is_some() && second.is_some() && room.is_full());
        assert!(room.enter().is_none());
        drop(first);
        assert!(!room.is_full() && room.enter().is_some());
        assert!(Room::new(0).enter().is_none());
    }

    #[test]
    fn threads_never_share_a_place() {
        let room = Room::new(3);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    for _ in 0..10_000 {
                        let place = room.enter();
                        assert!(room.0.load(Ordering::Relaxed) <= 3);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(room.0.load(Ordering::Relaxed), 3);
    }
}
