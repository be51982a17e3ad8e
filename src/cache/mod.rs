//! Stored answers.
//!
//! A look-up passes the tiers from the fastest to the slowest: memory (this process), Redis (shared
//! by replicas), then the CRM. What the tiers hold is an [`Entry`](crate::domain::Entry): an
//! answer, possibly "nobody", never an error. Whether an entry may be served is decided by
//! [`judge`](crate::domain::judge) from the entry's own time; a tier only bounds how much is kept,
//! and for how long at most.
//!
//! The key must hold every input that can change the answer
//! ([`ContactKey`](crate::domain::ContactKey)): a forgotten input shows one user's contact to
//! another, or yesterday's setting to everybody.

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
pub(crate) use load_ticket::{Fetched, LoadTicket};
pub use log::{Event, InvalidationLog, LogReader, PollResult};
pub use memory::{MemoryCache, MemoryConfig};
pub(crate) use tiered::Stored;
pub use tiered::{SharedTier, TieredCache};
