//! Pure values and rules: no I/O, no clock, no async. Every value here was parsed and can be
//! trusted.

mod auth_tag;
pub(crate) mod contact;
pub(crate) mod entry;
pub(crate) mod error;
pub(crate) mod format;
pub(crate) mod identity;
pub mod json;
pub(crate) mod key;
pub(crate) mod lane;
pub mod phone;
pub mod user;

pub use auth_tag::AuthTag;
pub use contact::{Contact, MatchQuality};
pub use entry::{AgePolicy, Ages, Entry, SharedTime, Source, Timestamp};
pub(crate) use entry::{Freshness, judge};
pub(crate) use error::LookupError;
pub use format::NumberFormat;
pub use format::{Spelling, Variant, Variants};
pub use identity::Identity;
pub use key::{AskedInput, ContactKey, Crm, CrmPlace, KeyMaker, QuestionPrefix, UserTag};
pub(crate) use key::{GroupTag, ScopeTag};
pub use key::{QuestionKey, SlotKey};
pub use lane::Lane;
pub use phone::{E164, Extension, Party, Region};
pub use user::User;
pub(crate) use user::{AuthHeader, Host, WhoAmI};
