//! What to do about the numbers of a batch, and in which order, depending on whether its credential
//! is verified. Pure values.

use std::collections::VecDeque;

use crate::domain::{LookupError, Party};
use crate::resolver::trouble;

/// Whether the CRM accepts the credential of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// One search has to show it before anything stored is reported.
    ToVerify,
    /// The CRM has accepted it: what is stored may be reported.
    Verified,
    /// The search has failed: nothing stored is reported.
    Refused,
}

impl Proof {
    /// What the result of a search shows. Temporary trouble shows nothing.
    pub(super) fn shown_by<T>(result: &Result<T, LookupError>) -> Self {
        match result {
            Ok(_) => Self::Verified,
            Err(failure) if trouble::is_trouble(failure) => Self::ToVerify,
            Err(_) => Self::Refused,
        }
    }
}

/// The numbers of a batch, each in one of two lists, in the batch's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BatchPlan {
    /// Those with a fresh answer, with the number of its contacts.
    cached: VecDeque<(Party, u32)>,
    missing: VecDeque<Party>,
}

impl BatchPlan {
    /// `found` holds the number of contacts of each party's fresh answer, if there is one.
    pub(super) fn new(parties: &[Party], found: impl IntoIterator<Item = Option<u32>>) -> Self {
        let (mut cached, mut missing) = (VecDeque::new(), VecDeque::new());
        for (party, contacts) in parties.iter().zip(found) {
            match contacts {
                Some(contacts) => cached.push_back((*party, contacts)),
                None => missing.push_back(*party),
            }
        }
        Self { cached, missing }
    }

    pub(super) fn cached(&self) -> usize {
        self.cached.len()
    }

    /// Removes the party whose search shows whether the credential is good: a missing one if
    /// possible, because that has to be searched anyway.
    pub(super) fn take_first(&mut self) -> Option<Party> {
        let missing = self.missing.pop_front();
        missing.or_else(|| self.cached.pop_front().map(|(party, _)| party))
    }

    /// Applies the result of the search for `first`, which [`Self::take_first`] removed. If the
    /// credential is not verified, nothing stored is reported, and all other `parties` count as
    /// missing. If it still has to be verified, `first` is searched again.
    pub(super) fn shown(&mut self, proof: Proof, first: Party, parties: &[Party]) {
        if proof != Proof::Verified {
            self.cached.clear();
            let others = parties.iter().filter(|party| **party != first);
            self.missing = others.copied().collect();
        }
        if proof == Proof::ToVerify {
            self.missing.push_front(first);
        }
    }

    /// The parties with a fresh answer, and those to load.
    pub(super) fn into_parts(self) -> (VecDeque<(Party, u32)>, VecDeque<Party>) {
        (self.cached, self.missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Extension;
    use crate::domain::error::Unavailable;

    fn parties<const N: usize>(numbers: [u32; N]) -> [Party; N] {
        numbers.map(|n| Party::Extension(Extension::parse(&n.to_string()).unwrap()))
    }

    /// The parties 1 to 4; 1 and 3 are cached.
    fn plan() -> (BatchPlan, [Party; 4]) {
        let parties = parties([1, 2, 3, 4]);
        let plan = BatchPlan::new(&parties, [Some(1), None, Some(3), None]);
        (plan, parties)
    }

    #[test]
    fn the_credential_is_tried_with_a_number_that_is_missing_anyway() {
        let (mut plan, all) = plan();
        let taken: Vec<_> = std::iter::from_fn(|| plan.take_first()).collect();
        assert_eq!(taken, [all[1], all[3], all[0], all[2]]);
    }

    #[test]
    fn what_is_stored_is_shown_to_a_verified_credential_only() {
        for (proof, cached, missing) in [
            (Proof::Verified, 2, vec![4]),
            (Proof::Refused, 0, vec![1, 3, 4]),
            (Proof::ToVerify, 0, vec![2, 1, 3, 4]),
        ] {
            let (mut plan, all) = plan();
            let first = plan.take_first().unwrap();
            plan.shown(proof, first, &all);
            let (stored, to_ask) = plan.into_parts();
            let missing: Vec<_> = missing.into_iter().map(|n| all[n - 1]).collect();
            assert_eq!(
                (stored.len(), Vec::from(to_ask)),
                (cached, missing),
                "{proof:?}"
            );
        }
    }

    #[test]
    fn a_search_verifies_the_credential_unless_it_fails_and_trouble_shows_nothing() {
        let passing = LookupError::CrmUnavailable(Unavailable::Timeout);
        for (result, proof) in [
            (Ok(()), Proof::Verified),
            (Err(passing), Proof::ToVerify),
            (Err(LookupError::CrmUnauthenticated), Proof::Refused),
        ] {
            assert_eq!(Proof::shown_by(&result), proof, "{result:?}");
        }
    }
}
