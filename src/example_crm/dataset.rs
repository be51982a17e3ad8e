//! The data set: contacts with phones and deals, and the fuzzy search that the Example CRM offers
//! over them.
//!
//! It never changes after it is made, and equal arguments make equal data sets.

use std::collections::HashMap;

use fastrand::Rng;

use super::generate;
use super::numbers::Number;
use super::records::{SampleContact, Samples};

/// How many trailing digits two numbers share if the search treats them as the same.
const COMPARED_DIGITS: usize = 7;

/// Generated contacts, indexed for the search.
#[derive(Debug)]
pub struct DataSet {
    contacts: Vec<SampleContact>,
    samples: Samples,
    /// By the last digits of a phone: positions in `contacts`, ascending.
    by_tail: HashMap<u32, Vec<usize>>,
    by_extension: HashMap<String, usize>,
}

impl DataSet {
    /// A data set of `contacts` contacts, or of [`generate::MIN_CONTACTS`] if that is more. Equal
    /// arguments make equal data sets. Takes some microseconds per contact.
    #[must_use]
    pub(crate) fn generate(seed: u64, contacts: usize) -> Self {
        let (contacts, samples) = generate::population(seed, contacts);
        let mut by_tail: HashMap<u32, Vec<usize>> = HashMap::with_capacity(contacts.len());
        let mut by_extension = HashMap::new();
        for (at, contact) in contacts.iter().enumerate() {
            for tail in contact
                .phones
                .iter()
                .filter_map(|phone| tail(&phone.number))
            {
                let found = by_tail.entry(tail).or_default();
                // Both phones of one contact may end alike.
                if found.last() != Some(&at) {
                    found.push(at);
                }
            }
            if let Some(extension) = &contact.extension {
                by_extension.insert(extension.clone(), at);
            }
        }
        Self {
            contacts,
            samples,
            by_tail,
            by_extension,
        }
    }

    /// How many contacts there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.contacts.len()
    }

    /// Numbers to try.
    #[must_use]
    pub fn samples(&self) -> Samples {
        self.samples.clone()
    }

    /// `count` E.164 numbers as in a call log: most are a contact's, some are unknown, and about
    /// one in five called before. Equal arguments make equal logs.
    #[must_use]
    pub fn recent_calls(&self, count: usize, seed: u64) -> Vec<String> {
        let mut rng = Rng::with_seed(seed);
        let mut calls: Vec<String> = Vec::new();
        for _ in 0..count {
            let known = match rng.u8(..100) {
                0..20 => rng.choice(&calls).cloned(),
                20..85 => self.some_number(&mut rng),
                _ => None,
            };
            calls.push(known.unwrap_or_else(|| self.unknown_number(&mut rng)));
        }
        calls
    }

    /// The contacts that have a phone whose last seven digits are those of `text`, in order of
    /// their ids. None if `text` has fewer digits. Some may not be the caller: real CRMs search
    /// like this, too.
    pub(super) fn search(&self, text: &str) -> Vec<&SampleContact> {
        let found = tail(text).and_then(|tail| self.by_tail.get(&tail));
        found
            .into_iter()
            .flatten()
            .map(|&at| &self.contacts[at])
            .collect()
    }

    /// The contact with exactly this internal extension.
    pub(super) fn search_extension(&self, extension: &str) -> Option<&SampleContact> {
        self.by_extension
            .get(extension)
            .map(|&at| &self.contacts[at])
    }

    /// The contact with this id.
    pub(super) fn contact(&self, id: usize) -> Option<&SampleContact> {
        self.contacts.get(id.checked_sub(1)?)
    }

    /// A random contact's number; `None` if that contact has no number.
    fn some_number(&self, rng: &mut Rng) -> Option<String> {
        let contact = rng.choice(&self.contacts)?;
        Some(rng.choice(&contact.phones)?.e164.clone())
    }

    fn unknown_number(&self, rng: &mut Rng) -> String {
        loop {
            let number = Number::any(rng).e164();
            if !self.search(&number).iter().any(|it| it.has(&number)) {
                return number;
            }
        }
    }
}

/// The last seven digits of `text` as a number, or nothing if it has fewer.
fn tail(text: &str) -> Option<u32> {
    let mut last = text.chars().rev().filter_map(|c| c.to_digit(10));
    let (mut tail, mut unit) = (0, 1);
    for _ in 0..COMPARED_DIGITS {
        tail += last.next()? * unit;
        unit *= 10;
    }
    Some(tail)
}

#[cfg(test)]
mod tests;
