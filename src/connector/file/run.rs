//! Carries out the requests of a file: what comes before, paging, and one request for each value of
//! a `for`.

use serde_json::Value;

use super::fill::{Scope, scalar};
use super::plan::{BeforeRequest, EachValue, RequestPlan};
use crate::connector::CrmSession;
use crate::connector::Event;
use crate::connector::calls::Calls;
use crate::connector::path::{NoNames, Path};
use crate::connector::record::{List, joined};
use crate::connector::success::{SHAPE, is_failure};
use crate::domain::LookupError;

/// The most values of one `for`.
pub(super) const MOST_EACH: usize = 16;

/// What scopes of one session have in common.
pub(super) fn scope_of(crm: &CrmSession) -> Scope<'_> {
    Scope {
        host: crm.host(),
        user_id: crm.user_id(),
        platform: crm.platform(),
        credential: crm.shown_credential(),
        settings: Some(crm.settings()),
        info: Some(crm.info()),
        ..Scope::default()
    }
}

impl EachValue {
    /// The values of the `for`, each once, and one more than requests are made for.
    pub(super) fn texts(&self, scope: &Scope<'_>) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for template in &self.values {
            let value = match (template.whole(), template.literal()) {
                (Some(slot), _) => scope.value(slot),
                (None, Some(text)) => text.into(),
                (None, None) => scope.request_text(template, None).into(),
            };
            let items = match value {
                Value::Array(items) => items,
                value => vec![value],
            };
            for text in items.iter().map(scalar).filter(|text| !text.is_empty()) {
                if !texts.contains(&text) && texts.len() <= MOST_EACH {
                    texts.push(text);
                }
            }
        }
        texts
    }
}

impl RequestPlan {
    /// The values for which the request is made: those of its `for`, or one without a name.
    pub(super) fn rounds(&self, scope: &Scope<'_>) -> Vec<Option<String>> {
        match &self.each {
            Some(each) => each.texts(scope).into_iter().map(Some).collect(),
            None => vec![None],
        }
    }

    /// The scope of one round.
    pub(super) fn in_round<'a>(
        &'a self,
        scope: &Scope<'a>,
        round: Option<&'a String>,
    ) -> Scope<'a> {
        let each = self.each.as_ref().zip(round);
        Scope {
            each: each.map(|(each, value)| (each.name.as_str(), value.as_str())),
            ..*scope
        }
    }

    /// Whether the `for` has more values than requests are made for.
    pub(super) fn is_cut(&self, rounds: &[Option<String>]) -> bool {
        self.each.is_some() && rounds.len() > MOST_EACH
    }

    /// The list of one round. If a slot is empty nothing is asked.
    pub(super) async fn list(
        &self,
        calls: Calls<'_>,
        scope: &Scope<'_>,
    ) -> Result<List<Value>, LookupError> {
        let (mut pages, mut complete) = (vec![Vec::new()], true);
        for before in &self.before {
            // Only the last one may have several pages.
            let earlier = pages.pop().unwrap_or_default();
            let so_far = Scope {
                before: &earlier,
                ..*scope
            };
            let taken = before.run(calls, &so_far).await?;
            if taken.items.is_empty() {
                return Ok(taken.with(Vec::new()));
            }
            complete &= taken.complete;
            let items = taken.items.into_iter();
            pages = items
                .map(|page| earlier.iter().cloned().chain(page).collect())
                .collect();
        }
        let mut lists = Vec::with_capacity(pages.len());
        for page in &pages {
            let scope = Scope {
                before: page,
                ..*scope
            };
            lists.push(self.list_with(calls, &scope).await?);
        }
        let mut list = joined(lists);
        list.complete &= complete;
        Ok(list)
    }

    /// The list of one round, with the values of one page of the request before.
    async fn list_with(
        &self,
        calls: Calls<'_>,
        scope: &Scope<'_>,
    ) -> Result<List<Value>, LookupError> {
        let Some(request) = self.render(scope) else {
            calls.show(|| self.not_asked(scope));
            return Ok(unasked());
        };
        calls.list(request, &self.list, self.pager.as_ref()).await
    }
}

impl RequestPlan {
    /// That the request is not made for these values.
    fn not_asked<'e>(&self, scope: &Scope<'_>) -> Event<'e> {
        let slots = self.slots().into_iter();
        let empty = slots.filter(|slot| scope.value(slot).is_null());
        let mut empty: Vec<String> = empty.map(|slot| slot.name.to_string()).collect();
        empty.dedup();
        Event::NotAsked {
            request: self.title(),
            empty,
        }
    }
}

/// A list that nobody was asked for.
pub(super) fn unasked<T>() -> List<T> {
    List {
        unasked: true,
        ..List::default()
    }
}

/// What one page of a request before another one brought, by name.
type Taken = Vec<(String, Value)>;

impl BeforeRequest {
    /// The values that it takes from each page of its reply. Without any there is nothing to ask.
    async fn run(&self, calls: Calls<'_>, scope: &Scope<'_>) -> Result<List<Taken>, LookupError> {
        let Some(request) = self.request.render(scope) else {
            calls.show(|| self.request.not_asked(scope));
            return Ok(unasked());
        };
        let mut pages = Vec::new();
        let take = |body: &mut Value| {
            let taken = self.taken(body)?;
            let entries = taken.iter().filter_map(|(_, values)| values.as_array());
            let entries = entries.map(Vec::len).max().unwrap_or(0);
            if taken.len() == self.take.len() {
                pages.push(taken);
            }
            Ok(entries)
        };
        let pager = self.request.pager.as_ref();
        let list = calls.pages(request, pager, take).await?;
        Ok(list.with(pages))
    }

    /// The values of one page, those that there are.
    fn taken(&self, body: &Value) -> Result<Taken, LookupError> {
        if is_failure(body) {
            return Err(SHAPE);
        }
        let mut taken = Vec::with_capacity(self.take.len());
        for (name, path) in &self.take {
            let value = taken_value(body, path)?;
            if !value.is_null() {
                taken.push((name.clone(), value));
            }
        }
        Ok(taken)
    }
}

/// The values at a path as a list; null if there are none.
///
/// # Errors
/// [`SHAPE`] if the list is not there: then it is unknown whether there are any.
fn taken_value(body: &Value, path: &Path) -> Result<Value, LookupError> {
    let (list, below) = path.split_at_each();
    if below.is_some() && !matches!(list.strict(body), Ok(Some(Value::Array(_)))) {
        return Err(SHAPE);
    }
    // Without a list the value's place must be there.
    if below.is_none() && list.parent().strict(body).ok().flatten().is_none() {
        return Err(SHAPE);
    }
    let values = path.all(body, &NoNames);
    let values: Vec<Value> = values.into_iter().cloned().collect();
    Ok(if values.is_empty() {
        Value::Null
    } else {
        values.into()
    })
}
