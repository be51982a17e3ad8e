//! Stored answers.
//!
//! A look-up goes through the tiers from the fastest to the slowest: memory (this process), Redis
//! (shared by replicas), then the CRM. A tier stores each answer as an
//! [`Entry`](crate::domain::Entry): possibly "nobody", never an error.
//! [`judge`](crate::domain::judge) decides from the entry's own time whether it may be served. A
//! tier only limits how much is kept, and for how long.
//!
//! The key must contain every input that can change the answer
//! ([`ContactKey`](crate::domain::ContactKey)). If an input is forgotten, one user's contact is
//! shown to another, or yesterday's setting to everybody.

pub mod codec;
mod counts;
mod invalidations;
mod keys;
mod layout;
mod load_ticket;
mod log;
mod memory;
mod redis;
mod replaced;
mod tiered;
mod token_cache;

pub use self::redis::{Begun, NumberToken, RedisTier, StoreOutcome};
pub use keys::{KeyRing, SealContext};
#[cfg(any(test, fuzzing))]
pub(crate) use layout::layout_is_sound;
pub(crate) use load_ticket::Fetched;
pub use load_ticket::LoadTicket;
#[cfg(any(test, fuzzing))]
pub(crate) use log::event_is_sound;
pub use log::{InvalidationLog, LogReader, PollResult, ReplicaEvent};
pub(crate) use memory::weight;
pub use memory::{MemoryCache, MemoryConfig};
pub use tiered::{SharedTier, TieredCache};
pub(crate) use tiered::{Stored, TierAnswer};
