//! Pure values and rules: no I/O, no clock, no async. Everything here is made by a parser and can be trusted after.

pub mod caller;
pub mod contact;
pub mod entry;
pub mod error;
pub mod format;
pub mod identity;
pub mod json;
pub mod key;
pub mod lane;
pub mod phone;

pub use caller::{AuthHeader, Host, User, WhoAmI};
pub use contact::{Contact, MatchQuality};
pub use entry::{AgePolicy, Ages, Entry, Freshness, SharedTime, Source, Timestamp, judge};
pub use error::LookupError;
pub use format::{NumberFormat, Spelling, Variants};
pub use identity::{Identity, IdentityTag};
pub use key::{AuthTag, ContactKey, Crm, KeyMaker, QuestionKey, ScopeTag, SlotKey, UserTag};
pub use lane::Lane;
pub use phone::{E164, Extension, Party, Region};
