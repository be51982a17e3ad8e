//! Learns which spelling of a number finds contacts in an account, and asks for that one first.
//!
//! A CRM that compares texts is asked for one spelling after the other, and most accounts store
//! their numbers in one way. The order only decides which spelling is asked for first. It affects
//! neither whether a record is the party, nor whether nobody has the number.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use crate::domain::{NumberFormat, ScopeTag, Variants};

/// Accounts in one of the two generations, about 100 bytes each.
const ACCOUNTS: usize = 5_000;

/// Spellings that are counted for one account.
const SPELLINGS: usize = 16;

/// At this count all counts are halved, so that an account may change its habits.
const MOST: u8 = 64;

/// Whose spellings are counted: those of a CRM's account, or of its user if the CRM counts calls by
/// user, and of one list of spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct OrderKey {
    scope: ScopeTag,
    formats: u64,
}

impl OrderKey {
    pub(super) fn new(scope: ScopeTag, formats: &[NumberFormat]) -> Self {
        let mut hasher = SipHasher13::new();
        formats.hash(&mut hasher);
        Self {
            scope,
            formats: hasher.finish(),
        }
    }
}

/// How often each spelling found contacts, by account.
#[derive(Default)]
pub(super) struct SpellingOrder(Mutex<Generations>);

/// Successes by the position of the spelling in its list.
type Counts = [u8; SPELLINGS];

/// Two generations of accounts: those that found a contact recently, and those that did before. If
/// the young generation is full, it becomes the old one, and the old one is forgotten.
#[derive(Default)]
struct Generations {
    young: HashMap<OrderKey, Counts>,
    old: HashMap<OrderKey, Counts>,
}

impl Generations {
    fn get(&self, key: OrderKey) -> Option<Counts> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn set(&mut self, key: OrderKey, counts: Counts) {
        if self.young.len() >= ACCOUNTS && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, counts);
    }
}

impl fmt::Debug for SpellingOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generations = self.0.lock();
        f.debug_struct("SpellingOrder")
            .field("young", &generations.young.len())
            .field("old", &generations.old.len())
            .finish()
    }
}

impl SpellingOrder {
    /// The positions of the spellings, the most successful first. Equal ones stay in their order.
    pub(super) fn of(&self, key: OrderKey, variants: &Variants) -> Vec<usize> {
        let counts = self.0.lock().get(key);
        let mut order: Vec<usize> = (0..variants.all().len()).collect();
        if let Some(counts) = counts {
            let count = |at: &usize| {
                let rule = variants.all()[*at].rule;
                counts.get(rule).copied().unwrap_or(0)
            };
            order.sort_by_key(|at| std::cmp::Reverse(count(at)));
        }
        order
    }

    /// A spelling has found a contact.
    pub(super) fn found(&self, key: OrderKey, variants: &Variants, at: usize) {
        let Some(rule) = variants.all().get(at).map(|variant| variant.rule) else {
            return;
        };
        let mut generations = self.0.lock();
        let mut counts = generations.get(key).unwrap_or_default();
        let Some(count) = counts.get_mut(rule) else {
            return;
        };
        *count += 1;
        if *count >= MOST {
            for count in &mut counts {
                *count /= 2;
            }
        }
        generations.set(key, counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{E164, KeyMaker, Spelling};

    fn key(account: &[u8], formats: &[NumberFormat]) -> OrderKey {
        let scope = KeyMaker::new([7; 16]).scope(&[account]);
        OrderKey::new(scope, formats)
    }

    #[test]
    fn the_spelling_that_found_contacts_most_often_comes_first_in_its_account_only() {
        let number = E164::parse("+16505551234", None).unwrap();
        let formats: Vec<_> = ["(###) ###-####", "###.###.####"]
            .into_iter()
            .filter_map(NumberFormat::parse)
            .collect();
        let spellings = [Spelling::E164, Spelling::Formats];
        let variants = Variants::new(&number, &spellings, &formats);
        let (order, here) = (SpellingOrder::default(), key(b"a", &formats));
        assert_eq!(order.of(here, &variants), [0, 1, 2]);
        order.found(here, &variants, 2);
        assert_eq!(order.of(here, &variants), [2, 0, 1]);
        order.found(here, &variants, 1);
        order.found(here, &variants, 1);
        assert_eq!(order.of(here, &variants), [1, 2, 0]);
        for other in [key(b"b", &formats), key(b"a", &formats[..1])] {
            assert_eq!(order.of(other, &variants), [0, 1, 2]);
        }
    }

    #[test]
    fn an_account_that_changes_its_habits_is_followed() {
        let number = E164::parse("+16505551234", None).unwrap();
        let spellings = [Spelling::E164, Spelling::National];
        let variants = Variants::new(&number, &spellings, &[]);
        let (order, here) = (SpellingOrder::default(), key(b"a", &[]));
        for _ in 0..1_000 {
            order.found(here, &variants, 0);
        }
        for _ in 0..usize::from(MOST) {
            order.found(here, &variants, 1);
        }
        assert_eq!(order.of(here, &variants), [1, 0]);
    }

    #[test]
    fn accounts_that_are_not_used_are_forgotten() {
        let number = E164::parse("+16505551234", None).unwrap();
        let variants = Variants::new(&number, &[Spelling::E164, Spelling::National], &[]);
        let order = SpellingOrder::default();
        let used = key(b"used", &[]);
        for n in 0..3 * ACCOUNTS as u64 {
            order.found(key(&n.to_be_bytes(), &[]), &variants, 1);
            order.found(used, &variants, 1);
        }
        assert_eq!(order.of(used, &variants), [1, 0]);
        assert_eq!(order.of(key(&0_u64.to_be_bytes(), &[]), &variants), [0, 1]);
        let generations = order.0.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * ACCOUNTS);
    }
}
