//! Decides whether a record is the party: one verdict for each record, dropped ones included.
//!
//! CRM search is fuzzy, and a wrong name on the screen is worse than none. Every record gets a
//! verdict with its reason, in the CRM's order. No verdict contains a number or a name.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::bounds;
use super::cpu_share::CpuShare;
use super::record::{List, Record};
use crate::domain::MatchQuality;
use crate::domain::contact::extension_list;
use crate::domain::phone::{Certainty, Match, Sought};

/// A record, and whether it is the party.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) record: Record,
    pub(super) verdict: RecordVerdict,
    /// The extensions of the number, as [`extension_list`] formats them.
    pub(super) extensions: String,
}

/// Whether a record is the party. Fields are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordVerdict {
    /// This phone field is certainly the number.
    Exact { field: usize },
    /// This phone field is very probably the number.
    Likely { field: usize },
    /// The CRM shows no phone field of the record.
    Unverified,
    /// The record is not served.
    Dropped(DropReason),
}

/// Why a record is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// It has no id that can be used again.
    NoUsableId,
    /// All its phone fields are other numbers.
    OtherNumbers,
    /// It duplicates an earlier record.
    SameRecord,
    /// The answer already has as many records as are allowed, all better or earlier.
    OverTheLimit,
}

impl RecordVerdict {
    /// The quality of a record that is served; `None` if it is dropped.
    pub(crate) fn quality(self) -> Option<MatchQuality> {
        match self {
            Self::Exact { .. } => Some(MatchQuality::Exact),
            Self::Likely { .. } => Some(MatchQuality::Likely),
            Self::Unverified => Some(MatchQuality::Unverified),
            Self::Dropped(_) => None,
        }
    }

    /// The word of the public contract for this verdict: the quality of the match, or "dropped".
    pub(crate) fn label(self) -> &'static str {
        self.quality().map_or("dropped", MatchQuality::label)
    }

    /// Returns whether the answer is incomplete without the record.
    fn is_loss(self) -> bool {
        matches!(
            self,
            Self::Dropped(DropReason::NoUsableId | DropReason::OverTheLimit)
        )
    }
}

/// A sentence without a value of the record. Fields are counted from 1.
impl fmt::Display for RecordVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact { field } => write!(f, "its phone field {} is this number", field + 1),
            Self::Likely { field } => write!(
                f,
                "its phone field {} is probably this number, but can be read in another way",
                field + 1
            ),
            Self::Unverified => f.write_str("the CRM shows no phone field of it to compare"),
            Self::Dropped(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoUsableId => "it has no usable id",
            Self::OtherNumbers => "its phone fields are other numbers",
            Self::SameRecord => "the same record was found before",
            Self::OverTheLimit => "the answer already has as many contacts as it may have",
        })
    }
}

/// What phone fields are compared with.
pub(super) enum SearchedParty<'a> {
    /// A number.
    Number(&'a Sought<'a>),
    /// An extension. The CRM compares it itself, so every field counts as a match.
    Extension,
}

impl SearchedParty<'_> {
    fn find_in(&self, phone: &str) -> Option<Match> {
        match self {
            Self::Number(sought) => sought.find_in(phone),
            Self::Extension => Some(Match {
                certainty: Certainty::Certain,
                extensions: Vec::new(),
            }),
        }
    }
}

/// Judges the records of one find.
pub(super) struct Judge<'a> {
    party: SearchedParty<'a>,
    /// The most records of each quality that are served.
    most: usize,
    known: HashSet<(String, String)>,
    kept: BTreeMap<MatchQuality, usize>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(party: SearchedParty<'a>, most: usize) -> Self {
        Self {
            party,
            most,
            known: HashSet::new(),
            kept: BTreeMap::new(),
        }
    }

    /// Judges the records of a list, and limits their content. A hostile page of many records with
    /// many phone fields takes seconds. So other tasks run in between, and the look-up's time limit
    /// can stop it.
    pub(super) async fn all(&mut self, records: List<Record>) -> List<Judged> {
        let (mut share, mut complete) = (CpuShare::begin(), records.complete);
        let mut items = Vec::with_capacity(records.items.len());
        for record in records.items {
            share.yield_if_used().await;
            let judged = self.one(record, &mut share).await;
            complete &= !judged.verdict.is_loss();
            items.push(judged);
        }
        List {
            items,
            complete,
            ..List::default()
        }
    }

    async fn one(&mut self, mut record: Record, share: &mut CpuShare) -> Judged {
        let is_usable = bounds::record(&mut record);
        let (mut verdict, extensions) = self.compare(&record.phones, share).await;
        // Somebody else's record is no loss, whatever it lacks.
        if verdict.quality().is_some() && !is_usable {
            verdict = RecordVerdict::Dropped(DropReason::NoUsableId);
        }
        if let Some(quality) = verdict.quality() {
            record.contact.quality = quality;
            if let Err(reason) = self.take(&record, quality) {
                verdict = RecordVerdict::Dropped(reason);
            }
        }
        Judged {
            record,
            verdict,
            extensions,
        }
    }

    async fn compare(&self, phones: &[String], share: &mut CpuShare) -> (RecordVerdict, String) {
        // "N/A", "-" and the like are no number. Asterisks hide one.
        let is_number = |phone: &String| phone.contains(|c: char| c.is_numeric() || c == '*');
        if !phones.iter().any(is_number) {
            return (RecordVerdict::Unverified, String::new());
        }
        let mut matches = Vec::new();
        for (field, phone) in phones.iter().enumerate() {
            share.yield_if_used().await;
            matches.extend(self.party.find_in(phone).map(|found| (field, found)));
        }
        verdict_of(matches)
    }

    /// Accepts a record of this quality, once and up to the limit.
    fn take(&mut self, record: &Record, quality: MatchQuality) -> Result<(), DropReason> {
        let name = (record.contact.kind.clone(), record.contact.id.clone());
        let kept = self.kept.entry(quality).or_default();
        if self.known.contains(&name) {
            return Err(DropReason::SameRecord);
        }
        if *kept >= self.most {
            return Err(DropReason::OverTheLimit);
        }
        *kept += 1;
        self.known.insert(name);
        Ok(())
    }
}

/// The verdict of the best matching field, and the extensions of all fields that match equally
/// well.
fn verdict_of(matches: Vec<(usize, Match)>) -> (RecordVerdict, String) {
    let surest = matches.iter().min_by_key(|(_, found)| found.certainty);
    let Some((field, certainty)) = surest.map(|(field, found)| (*field, found.certainty)) else {
        let verdict = RecordVerdict::Dropped(DropReason::OtherNumbers);
        return (verdict, String::new());
    };
    let verdict = match certainty {
        Certainty::Certain => RecordVerdict::Exact { field },
        Certainty::Likely => RecordVerdict::Likely { field },
    };
    let as_sure = matches
        .into_iter()
        .filter(|(_, found)| found.certainty == certainty);
    let extensions: Vec<_> = as_sure.flat_map(|(_, found)| found.extensions).collect();
    (verdict, extension_list(&extensions))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;
    use crate::connector::example;
    use crate::domain::{E164, Region};

    const NUMBER: &str = "+16505551234";

    fn record(id: &str, phones: &[&str]) -> Record {
        let phones: Vec<Value> = phones
            .iter()
            .map(|phone| json!({"number": phone}))
            .collect();
        example::record(
            &json!({"id": id, "name": "Ada Lovelace", "kind": "contact", "phones": phones}),
        )
    }

    async fn judged(records: Vec<Record>, most: usize) -> List<Judged> {
        let regions = [Region::parse("US").unwrap()];
        let number = E164::parse(NUMBER, None).unwrap();
        let sought = Sought::new(number, &regions);
        let party = SearchedParty::Number(&sought);
        let list = List {
            items: records,
            ..List::default()
        };
        Judge::new(party, most).all(list).await
    }

    #[tokio::test]
    async fn every_record_has_a_verdict_with_its_reason() {
        let judged = judged(
            vec![
                record("1", &["+49 30 1234567", "650-555-1234"]),
                record("2", &[" ", "N/A", "-", "call the office"]),
                record("3", &["+1 650 555 9999"]),
                record("", &[NUMBER]),
                record("1", &[NUMBER]),
                record("4", &[NUMBER]),
                record("5", &[NUMBER]),
                record("1", &[NUMBER]),
            ],
            2,
        )
        .await;
        let verdicts: Vec<_> = judged.items.iter().map(|judged| judged.verdict).collect();
        assert_eq!(
            verdicts,
            [
                RecordVerdict::Exact { field: 1 },
                RecordVerdict::Unverified,
                RecordVerdict::Dropped(DropReason::OtherNumbers),
                RecordVerdict::Dropped(DropReason::NoUsableId),
                RecordVerdict::Dropped(DropReason::SameRecord),
                RecordVerdict::Exact { field: 0 },
                RecordVerdict::Dropped(DropReason::OverTheLimit),
                RecordVerdict::Dropped(DropReason::SameRecord),
            ]
        );
        assert!(!judged.complete);
        let shown = format!("{:?}", judged.items);
        assert!(!shown.contains("555") && !shown.contains("Ada"), "{shown}");
    }

    #[tokio::test]
    async fn an_answer_lacks_what_is_unusable_or_over_the_limit_only() {
        for (records, complete) in [
            (vec![record("1", &[NUMBER]), record("1", &[NUMBER])], true),
            (vec![record("1", &["+1 650 555 9999"])], true),
            (vec![record(" ", &[NUMBER])], false),
            (vec![record("1", &[NUMBER]), record("2", &[NUMBER])], false),
        ] {
            let shown = format!("{records:?}");
            assert_eq!(judged(records, 1).await.complete, complete, "{shown}");
        }
    }
}
