//! Renders requests: the place of a value decides how it is encoded.
//!
//! Path segments and parameters are encoded when the session builds the URL, a JSON body is built as
//! a value, and a literal of a query language is complete. So no value leaves its place. If a slot
//! is empty there is no request.

use http::header::HeaderValue;
use serde_json::{Map, Value};

use super::fill::{SlotScope, scalar};
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
        let text = |template: &Template| scope.request_text(template, self.language);
        // The path is encoded within its segment, whatever the value has in it.
        let path: Option<Vec<String>> = self
            .segments()
            .iter()
            .map(|segment| segment_text(scope, segment))
            .collect();
        let query = pairs(scope, &self.query, self.language)?;
        let body = match &self.body {
            None => None,
            Some(BodyPlan::Json(node)) => {
                Some(RequestBody::Json(json(scope, node, self.language)?))
            }
            Some(BodyPlan::Form(fields)) => {
                Some(RequestBody::Form(pairs(scope, fields, self.language)?))
            }
        };
        let mut request = Request::of(self.method, path?, query, body);
        if self.ends_with_slash() {
            request = request.with_final_slash();
        }
        for (name, value) in &self.headers {
            let value = HeaderValue::from_str(&text(value)?).ok()?;
            request = request.with_header(name.clone(), value);
        }
        Some(request)
    }
}

impl RequestPlan {
    /// The values of the longest list in the request.
    pub(super) fn most_values(&self, scope: &SlotScope<'_>) -> usize {
        let slots = self.slots().into_iter().filter(|slot| slot.name.is_list());
        let counts = slots.map(|slot| {
            match scope.value(&TemplateSlot {
                each: false,
                ..slot.clone()
            }) {
                Value::Array(items) => items.len(),
                _ => 1,
            }
        });
        counts.max().unwrap_or(0)
    }
}

/// A segment of the path. It is one segment, whatever the values are.
fn segment_text(scope: &SlotScope<'_>, template: &Template) -> Option<String> {
    use super::slot::TemplatePiece;
    let mut joined = String::new();
    for piece in &template.0 {
        match piece {
            TemplatePiece::Text(text) => joined.push_str(text),
            TemplatePiece::Slot(slot) => {
                let text = scalar(&scope.value(slot));
                if text.is_empty() || text.contains(char::is_control) {
                    return None;
                }
                joined.push_str(&text);
            }
        }
    }
    Some(joined)
}

fn pairs(
    scope: &SlotScope<'_>,
    arguments: &[(String, Argument)],
    language: Option<Language>,
) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::with_capacity(arguments.len());
    for (name, argument) in arguments {
        let templates = match argument {
            Argument::One(template) => std::slice::from_ref(template),
            Argument::Many(templates) => templates,
        };
        for template in templates {
            match template.whole().map(|slot| scope.value(slot)) {
                // A list in a whole slot is a repeated parameter.
                Some(Value::Array(items)) if !has_pattern(template) => {
                    pairs.extend(items.iter().map(|item| (name.clone(), scalar(item))));
                }
                _ => pairs.push((name.clone(), scope.request_text(template, language)?)),
            }
        }
    }
    Some(pairs)
}

fn has_pattern(template: &Template) -> bool {
    template.whole().is_some_and(|slot| slot.pattern.is_some())
}

fn json(scope: &SlotScope<'_>, node: &BodyNode, language: Option<Language>) -> Option<Value> {
    Some(match node {
        BodyNode::Literal(value) => value.clone(),
        BodyNode::Text(template) => match template.whole() {
            Some(slot) if slot.pattern.is_none() => {
                Some(scope.value(slot)).filter(|value| !value.is_null())?
            }
            _ => scope.request_text(template, language)?.into(),
        },
        BodyNode::List(items) => {
            let items: Option<Vec<Value>> = items
                .iter()
                .map(|item| json(scope, item, language))
                .collect();
            items?.into()
        }
        BodyNode::Each(item) => each(scope, item, language)?,
        BodyNode::Object(members) => {
            let member = |(name, node): &(String, BodyNode)| {
                Some((name.clone(), json(scope, node, language)?))
            };
            Value::Object(members.iter().map(member).collect::<Option<Map<_, _>>>()?)
        }
    })
}

/// The element for each value of its `each` slot.
fn each(scope: &SlotScope<'_>, item: &BodyNode, language: Option<Language>) -> Option<Value> {
    let slot = each_slot(item)?;
    let values = match scope.value(slot) {
        Value::Null => return None,
        Value::Array(values) => values,
        value => vec![value],
    };
    let element = |value: &Value| {
        let scope = SlotScope {
            element: Some(value),
            ..*scope
        };
        json(&scope, item, language)
    };
    values
        .iter()
        .map(element)
        .collect::<Option<Vec<_>>>()
        .map(Value::Array)
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
