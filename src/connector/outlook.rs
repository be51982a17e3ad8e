//! What a search would do now: which texts it asks for, and whether the quota has room. Nothing is
//! sent or spent.

use super::platform::Platform;
use super::spelling_order::OrderKey;
use crate::budget::{CallKind, QuotaOutlook, Scopes};
use crate::domain::{Lane, NumberFormat, Party, ScopeTag, Variants};

impl Platform {
    /// The texts that a search for `party` asks for, in the order learned from this scope's
    /// searches.
    #[must_use]
    pub(crate) fn spellings(
        &self,
        scope: ScopeTag,
        party: &Party,
        formats: &[NumberFormat],
    ) -> Vec<String> {
        let number = match party {
            Party::Extension(extension) => return vec![extension.to_string()],
            Party::Number(number) => number,
        };
        let variants = Variants::new(number, &self.profile().spellings, formats);
        let key = OrderKey::new(scope, formats);
        let order = self.client.spelling_order.of(key, &variants);
        let texts = variants.all();
        order.iter().map(|at| texts[*at].text.clone()).collect()
    }

    /// The quota for a search of this lane under a credential that is `verified` or not.
    pub(crate) async fn search_quota(&self, scopes: Scopes, lane: (Lane, bool)) -> QuotaOutlook {
        let budget = &self.client.budget;
        budget.outlook(scopes, CallKind::Search, lane).await
    }
}
