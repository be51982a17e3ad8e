//! Carries out the requests of a file: what comes before, paging, and one request for each value of
//! a `for`.

use serde_json::Value;

use super::fill::{SlotScope, one_or_more, scalar};
use super::plan::{BeforeRequest, EachValue, RequestPlan};
use super::slot::Template;
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
pub(super) fn scope_of(crm: &CrmSession) -> SlotScope<'_> {
    SlotScope {
        host: crm.host(),
        user_id: crm.user_id(),
        platform: crm.platform(),
        credential: crm.shown_credential(),
        settings: Some(crm.settings()),
        info: Some(crm.info()),
        ..SlotScope::default()
    }
}

impl EachValue {
    /// The values of `for`, each once. There may be one more than requests are made for. It shows
    /// the caller that values were left out.
    pub(super) fn texts(&self, scope: &SlotScope<'_>) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for text in self
            .values
            .iter()
            .flat_map(|value| each_texts(value, scope))
        {
            if !text.is_empty() && !texts.contains(&text) && texts.len() <= MOST_EACH {
                texts.push(text);
            }
        }
        texts
    }
}

fn each_texts(template: &Template, scope: &SlotScope<'_>) -> Vec<String> {
    let value = each_value(template, scope);
    one_or_more(&value).iter().map(scalar).collect()
}

fn each_value(template: &Template, scope: &SlotScope<'_>) -> Value {
    match template.whole() {
        Some(slot) => scope.value(slot),
        None if template.is_literal() => template.fixed().into(),
        None => scope.request_text(template, None).into(),
    }
}

impl RequestPlan {
    /// The rounds in which the request is made: one for each value of its `for`, or a single one
    /// without a value.
    pub(super) fn rounds(&self, scope: &SlotScope<'_>) -> Vec<Option<String>> {
        match &self.each {
            Some(each) => each.texts(scope).into_iter().map(Some).collect(),
            None => vec![None],
        }
    }

    /// The scope of one round.
    pub(super) fn in_round<'a>(
        &'a self,
        scope: &SlotScope<'a>,
        round: Option<&'a String>,
    ) -> SlotScope<'a> {
        let name = self.each.as_ref().map(|each| each.name.as_str());
        SlotScope {
            each: name.zip(round.map(String::as_str)),
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
        scope: &SlotScope<'_>,
    ) -> Result<List<Value>, LookupError> {
        let mut lists = Vec::new();
        let (pages, complete) = match self.taken_before(calls, scope).await? {
            List {
                items, complete, ..
            } if !items.is_empty() => (items, complete),
            nothing => return Ok(nothing.with(Vec::new())),
        };
        for page in &pages {
            let scope = SlotScope {
                before: page,
                ..*scope
            };
            lists.push(self.list_with(calls, &scope).await?);
        }
        let mut list = joined(lists);
        list.complete &= complete;
        Ok(list)
    }

    /// The list of one round, with the values of one page of the last `before` request.
    async fn list_with(
        &self,
        calls: Calls<'_>,
        scope: &SlotScope<'_>,
    ) -> Result<List<Value>, LookupError> {
        let Some(request) = self.render(scope) else {
            calls.show(|| self.not_asked(scope));
            return Ok(List::unasked());
        };
        calls.list(request, &self.list, self.pager.as_ref()).await
    }

    /// The values that the `before` requests return, for each page of the last one. If there is no
    /// page, no request follows.
    async fn taken_before(
        &self,
        calls: Calls<'_>,
        scope: &SlotScope<'_>,
    ) -> Result<List<Taken>, LookupError> {
        let mut pages = List {
            items: vec![Vec::new()],
            ..List::default()
        };
        for before in &self.before {
            // Only the last one may have several pages.
            let earlier = pages.items.pop().unwrap_or_default();
            let so_far = SlotScope {
                before: &earlier,
                ..*scope
            };
            let taken = before.run(calls, &so_far).await?;
            if taken.items.is_empty() {
                return Ok(taken);
            }
            pages.complete &= taken.complete;
            let with_earlier = |page| [earlier.clone(), page].concat();
            pages.items = taken.items.into_iter().map(with_earlier).collect();
        }
        Ok(pages)
    }
}

impl RequestPlan {
    /// The event that reports that the request is not made for these values.
    fn not_asked<'e>(&self, scope: &SlotScope<'_>) -> Event<'e> {
        Event::NotAsked {
            request: self.title(),
            empty: self.empty_slots(scope),
        }
    }

    fn empty_slots(&self, scope: &SlotScope<'_>) -> Vec<String> {
        let slots = self.slots().into_iter();
        let empty = slots.filter(|slot| scope.value(slot).is_null());
        let mut names: Vec<String> = empty.map(|slot| slot.name.to_string()).collect();
        names.dedup();
        names
    }
}

/// What one page of a `before` request returned, by name.
type Taken = Vec<(String, Value)>;

impl BeforeRequest {
    /// The values that it takes from each page of its reply. Without any there is nothing to ask.
    async fn run(
        &self,
        calls: Calls<'_>,
        scope: &SlotScope<'_>,
    ) -> Result<List<Taken>, LookupError> {
        let Some(request) = self.request.render(scope) else {
            calls.show(|| self.request.not_asked(scope));
            return Ok(List::unasked());
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

    /// The values of one page. Names without a value are left out.
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
    if !is_place_there(body, path) {
        return Err(SHAPE);
    }
    let values = path.all(body, &NoNames);
    let values: Vec<Value> = values.into_iter().cloned().collect();
    Ok(Some(values).filter(|values| !values.is_empty()).into())
}

/// Whether a reply has the list of this path. For a path without a list: whether it has the object
/// in which the value would be.
fn is_place_there(body: &Value, path: &Path) -> bool {
    let (list, below) = path.split_at_each();
    if below.is_some() {
        return matches!(list.strict(body), Ok(Some(Value::Array(_))));
    }
    matches!(list.parent().strict(body), Ok(Some(_)))
}
