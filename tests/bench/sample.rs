//! The contact that benchmarks keep.

use contactd::domain::{Contact, MatchQuality};
use serde_json::{Map, Value};

/// A contact of usual length, number `n`, with these choices.
pub(super) fn contact(n: u32, additional_info: Map<String, Value>) -> Contact {
    Contact {
        id: n.to_string(),
        name: format!("Katherine Johnson {n}"),
        kind: "person".to_owned(),
        title: "Head of Procurement".to_owned(),
        company: "Summit Manufacturing Inc.".to_owned(),
        email: format!("katherine.johnson.{n}@example.com"),
        created: "2024-02-29T08:15:00Z".to_owned(),
        last_activity: "2025-06-30T16:45:00Z".to_owned(),
        additional_info,
        quality: MatchQuality::Exact,
        kept: Vec::new(),
    }
}
