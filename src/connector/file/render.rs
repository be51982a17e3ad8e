//! Renders requests: the place of a value decides how it is encoded.
//!
//! Path segments and parameters are encoded when the session builds the URL, a JSON body is built as
//! a value, and a literal of a query language is complete. So no value leaves its place. If a slot
//! is empty there is no request.

use http::header::HeaderValue;
use serde_json::Value;

use super::fill::{SlotScope, one_or_more, scalar};
use super::literal::Language;
use super::plan::{Argument, BatchLimits, BodyNode, BodyPlan, RequestPlan};
use super::slot::{Template, TemplateSlot};
use crate::connector::request::{Request, RequestBody};

impl RequestPlan {
    /// The request for these values. `None` if a slot is empty.
    pub(super) fn render(&self, scope: &SlotScope<'_>) -> Option<Request> {
        if let Some(proxy) = &self.proxy {
            return Some(proxy.render(scope));
        }
        // The path is encoded within its segment, whatever the value has in it.
        let segments = self.segments().iter();
        let path = segments.map(|segment| scope.segment_text(segment));
        let path: Vec<String> = path.collect::<Option<_>>()?;
        let query = pairs(scope, &self.query, self.language)?;
        let body = match &self.body {
            None => None,
            Some(body) => Some(self.body_of(body, scope)?),
        };
        let mut request = Request::of(self.method, path, query, body);
        if self.ends_with_slash() {
            request = request.with_final_slash();
        }
        self.with_headers(request, scope)
    }

    fn body_of(&self, body: &BodyPlan, scope: &SlotScope<'_>) -> Option<RequestBody> {
        Some(match body {
            BodyPlan::Json(node) => RequestBody::Json(json(scope, node, self.language)?),
            BodyPlan::Form(fields) => RequestBody::Form(pairs(scope, fields, self.language)?),
        })
    }

    fn with_headers(&self, mut request: Request, scope: &SlotScope<'_>) -> Option<Request> {
        for (name, value) in &self.headers {
            let text = scope.request_text(value, self.language)?;
            let value = HeaderValue::from_str(&text).ok()?;
            request = request.with_header(name.clone(), value);
        }
        Some(request)
    }
}

impl RequestPlan {
    /// The values of the longest list in the request.
    pub(super) fn most_values(&self, scope: &SlotScope<'_>) -> usize {
        let slots = self.slots().into_iter();
        let lists = slots.filter(|slot| slot.name.is_list());
        let counts = lists.map(|slot| count_of(&scope.value(slot)));
        counts.max().unwrap_or(0)
    }
}

fn count_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        _ => 1,
    }
}

/// Names and values of the arguments, repeated ones each on their own.
fn pairs(
    scope: &SlotScope<'_>,
    arguments: &[(String, Argument)],
    language: Option<Language>,
) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::with_capacity(arguments.len());
    for (name, argument) in arguments {
        for template in argument.templates() {
            let values = argument_texts(scope, template, language)?;
            pairs.extend(values.into_iter().map(|value| (name.clone(), value)));
        }
    }
    Some(pairs)
}

/// The texts of an argument. A list in a whole slot is a repeated parameter.
fn argument_texts(
    scope: &SlotScope<'_>,
    template: &Template,
    language: Option<Language>,
) -> Option<Vec<String>> {
    let plain = template.whole().filter(|slot| slot.pattern.is_none());
    if let Some(Value::Array(items)) = plain.map(|slot| scope.value(slot)) {
        return Some(items.iter().map(scalar).collect());
    }
    let text = scope.request_text(template, language)?;
    Some(vec![text])
}

fn json(scope: &SlotScope<'_>, node: &BodyNode, language: Option<Language>) -> Option<Value> {
    let below = |node: &BodyNode| json(scope, node, language);
    match node {
        BodyNode::Literal(value) => Some(value.clone()),
        BodyNode::Text(template) => json_text(scope, template, language),
        BodyNode::List(items) => items.iter().map(below).collect(),
        BodyNode::Each(item) => each(scope, item, language),
        BodyNode::Object(members) => {
            let member = |(name, node): &(String, BodyNode)| Some((name.clone(), below(node)?));
            members.iter().map(member).collect()
        }
    }
}

/// A value that is one slot keeps its type.
fn json_text(
    scope: &SlotScope<'_>,
    template: &Template,
    language: Option<Language>,
) -> Option<Value> {
    match template.whole() {
        Some(slot) if slot.pattern.is_none() => {
            Some(scope.value(slot)).filter(|value| !value.is_null())
        }
        _ => scope.request_text(template, language).map(Value::from),
    }
}

/// The element for each value of its `each` slot.
fn each(scope: &SlotScope<'_>, item: &BodyNode, language: Option<Language>) -> Option<Value> {
    let value = scope.value(each_slot(item)?);
    if value.is_null() {
        return None;
    }
    let element = |value: &Value| {
        let scope = SlotScope {
            element: Some(value),
            ..*scope
        };
        json(&scope, item, language)
    };
    one_or_more(&value).iter().map(element).collect()
}

/// The first `each` slot of a body, without those of lists that already repeat their element.
pub(super) fn each_slot(node: &BodyNode) -> Option<&TemplateSlot> {
    match node {
        BodyNode::Literal(_) | BodyNode::Each(_) => None,
        BodyNode::Text(template) => template.slots().find(|slot| slot.each),
        BodyNode::List(items) => items.iter().find_map(each_slot),
        BodyNode::Object(members) => members.iter().find_map(|(_, node)| each_slot(node)),
    }
}

impl BatchLimits {
    /// Whether a request stays within the limits, by its longest text.
    pub(super) fn fit(self, request: &Request) -> bool {
        let query = request
            .query()
            .iter()
            .map(|(_, value)| value.chars().count());
        let body = request.json().map_or(0, longest_text);
        query.max().unwrap_or(0).max(body) <= self.text
    }
}

fn longest_text(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.iter().map(longest_text).max().unwrap_or(0),
        Value::Object(members) => members.values().map(longest_text).max().unwrap_or(0),
        _ => 0,
    }
}
