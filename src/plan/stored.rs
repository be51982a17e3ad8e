//! A stored answer in a replay: what its age and its size depend on, without its contacts.

use std::time::Duration;

use super::terms::Terms;
use crate::cache::weight;
use crate::domain::entry::EntryParts;
use crate::domain::{
    AgePolicy, Contact, E164, Entry, Freshness, MatchQuality, Party, SharedTime, judge,
};
use crate::resolver::StoredFacts;

/// What a replay keeps of an answer. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// When the CRM was asked.
    pub(super) asked: u64,
    /// Its hard end.
    pub(super) ends: u64,
    pub(super) is_found: bool,
    absences: u8,
    jitter: u8,
}

#[cfg(test)]
impl Kept {
    /// An answer for the tests of tiers.
    pub(super) fn example(asked: u64, ends: u64) -> Self {
        Self {
            asked,
            ends,
            is_found: true,
            absences: 0,
            jitter: 0,
        }
    }
}

/// Makes answers, and judges them by the rules of the daemon.
#[derive(Debug)]
pub(super) struct Answers {
    ages: AgePolicy,
    found: Entry,
    nobody: Entry,
    found_bytes: usize,
}

impl Answers {
    pub(super) fn new(terms: &Terms) -> Self {
        let party = sample_party();
        let entry = |contacts: &[Contact]| Entry::new(&party, contacts, true, SharedTime(0));
        Self {
            ages: terms.ages,
            // Only its count matters, and its bytes are those of the terms.
            found: entry(&[sample_contact()]),
            nobody: entry(&[]),
            found_bytes: terms.answer_bytes,
        }
    }

    /// The answer of a load that began at `asked`, as the successor of `before`.
    pub(super) fn loaded(
        &self,
        is_found: bool,
        (asked, jitter): (u64, u8),
        before: Option<&Kept>,
    ) -> Kept {
        let base = if is_found { &self.found } else { &self.nobody };
        let before = before.map(|before| self.entry(before));
        let entry = base.clone().after(before.as_ref()).with_jitter(jitter);
        let life = self.ages.ages(&entry).stale;
        Kept {
            asked,
            ends: asked.saturating_add(millis(life)),
            is_found,
            absences: entry.parts().absences,
            jitter,
        }
    }

    /// How fresh it is; `None` if it may not be served any more.
    pub(super) fn judged(&self, kept: &Kept, now: u64) -> Option<StoredFacts> {
        let age = Duration::from_millis(now.saturating_sub(kept.asked));
        let freshness = judge(&self.entry(kept), age, &self.ages);
        (freshness != Freshness::Expired).then_some(StoredFacts {
            freshness,
            is_nobody: !kept.is_found,
        })
    }

    /// Its bytes in memory, as the daemon counts them.
    pub(super) fn weight(&self, kept: &Kept) -> u64 {
        weight(Entry::allocation(self.bytes(kept))) as u64
    }

    /// Its encoded bytes.
    pub(super) fn bytes(&self, kept: &Kept) -> usize {
        if kept.is_found {
            self.found_bytes
        } else {
            self.nobody.encoded().len()
        }
    }

    fn entry(&self, kept: &Kept) -> Entry {
        let base = if kept.is_found {
            &self.found
        } else {
            &self.nobody
        };
        Entry::from_parts(&EntryParts {
            absences: kept.absences,
            jitter: kept.jitter,
            ..base.parts()
        })
    }
}

/// The encoded bytes of an answer with one contact of usual length.
#[must_use]
pub(crate) fn usual_answer_bytes() -> usize {
    let contacts = [sample_contact()];
    let entry = Entry::new(&sample_party(), &contacts, true, SharedTime(0));
    entry.encoded().len()
}

#[expect(clippy::expect_used, reason = "this text is a number")]
fn sample_party() -> Party {
    Party::Number(E164::parse("+14155550123", None).expect("a number"))
}

pub(super) fn sample_contact() -> Contact {
    let deal = |n: u32| serde_json::json!({"const": n.to_string(), "title": format!("Renewal of contract {n}")});
    let mut additional_info = serde_json::Map::new();
    additional_info.insert("deals".to_owned(), vec![deal(1001), deal(1002)].into());
    Contact {
        id: "100200300".to_owned(),
        name: "Katherine Johnson".to_owned(),
        kind: "person".to_owned(),
        title: "Head of Procurement".to_owned(),
        company: "Summit Manufacturing Inc.".to_owned(),
        email: "katherine.johnson@example.com".to_owned(),
        created: "2024-02-29T08:15:00Z".to_owned(),
        last_activity: "2025-06-30T16:45:00Z".to_owned(),
        additional_info,
        quality: MatchQuality::Exact,
        kept: Vec::new(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
