//! Renders requests: the place of a value decides how it is encoded.
//!
//! Path segments and parameters are encoded when the session builds the URL, a JSON body is built
//! as a value, and a literal of a query language is complete. So no value leaves its place. If a
//! slot is empty there is no request.

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
            return Some(proxy.render(scope).showing(self.fixed_segments()));
        }
        let writer = Writer {
            scope,
            language: self.language,
        };
        let path = writer.path(self.segments())?;
        let query = writer.pairs(&self.query)?;
        let body = match &self.body {
            None => None,
            Some(body) => Some(writer.body(body)?),
        };
        let mut request = Request::of(self.method, path, query, body);
        if self.ends_with_slash() {
            request = request.with_final_slash();
        }
        for (name, value) in &self.headers {
            request = request.with_header(name.clone(), writer.header(value)?);
        }
        Some(request.showing(self.fixed_segments()))
    }

    /// The values of the longest list in the request.
    pub(super) fn most_values(&self, scope: &SlotScope<'_>) -> usize {
        let slots = self.slots().into_iter();
        let lists = slots.filter(|slot| slot.name.is_list());
        let counts = lists.map(|slot| one_or_more(&scope.value(slot)).len());
        counts.max().unwrap_or(0)
    }
}

/// Writes the parts of a request in its language. Nothing is written if a slot is empty.
#[derive(Clone, Copy)]
struct Writer<'s> {
    scope: &'s SlotScope<'s>,
    language: Option<Language>,
}

impl Writer<'_> {
    fn text(self, template: &Template) -> Option<String> {
        self.scope.request_text(template, self.language)
    }

    /// The path is encoded within its segments, whatever the values have in them.
    fn path(self, segments: &[Template]) -> Option<Vec<String>> {
        let segments = segments.iter();
        let texts = segments.map(|segment| self.scope.segment_text(segment));
        texts.collect()
    }

    fn header(self, value: &Template) -> Option<HeaderValue> {
        // A control character would end the header.
        let text = self.text(value)?.replace(char::is_control, " ");
        HeaderValue::from_bytes(text.as_bytes()).ok()
    }

    fn body(self, body: &BodyPlan) -> Option<RequestBody> {
        match body {
            BodyPlan::Json(node) => self.json(node).map(RequestBody::Json),
            BodyPlan::Form(fields) => self.pairs(fields).map(RequestBody::Form),
        }
    }

    /// Names and values of the arguments, repeated ones each on their own.
    fn pairs(self, arguments: &[(String, Argument)]) -> Option<Vec<(String, String)>> {
        let mut pairs = Vec::with_capacity(arguments.len());
        for (name, argument) in arguments {
            for template in argument.templates() {
                let values = self.values(template)?.into_iter();
                pairs.extend(values.map(|value| (name.clone(), value)));
            }
        }
        Some(pairs)
    }

    /// The values of an argument. A list in a whole slot is a repeated parameter.
    fn values(self, template: &Template) -> Option<Vec<String>> {
        let plain = template.plain_slot().map(|slot| self.scope.value(slot));
        match plain {
            Some(Value::Array(items)) => Some(items.iter().map(scalar).collect()),
            _ => Some(vec![self.text(template)?]),
        }
    }

    fn json(self, node: &BodyNode) -> Option<Value> {
        match node {
            BodyNode::Literal(value) => Some(value.clone()),
            BodyNode::Text(template) => self.json_text(template),
            BodyNode::List(items) => items.iter().map(|item| self.json(item)).collect(),
            BodyNode::Each(item) => self.each(item),
            BodyNode::Object(members) => members.iter().map(|it| self.member(it)).collect(),
        }
    }

    fn member(self, (name, node): &(String, BodyNode)) -> Option<(String, Value)> {
        Some((name.clone(), self.json(node)?))
    }

    /// A value that is one slot keeps its type.
    fn json_text(self, template: &Template) -> Option<Value> {
        match template.plain_slot() {
            Some(slot) => not_null(self.scope.value(slot)),
            None => self.text(template).map(Value::from),
        }
    }

    /// The element for each value of its `each` slot.
    fn each(self, item: &BodyNode) -> Option<Value> {
        let values = not_null(self.scope.value(each_slot(item)?))?;
        let values = one_or_more(&values).iter();
        values.map(|value| self.element(item, value)).collect()
    }

    fn element(self, item: &BodyNode, value: &Value) -> Option<Value> {
        let scope = SlotScope {
            element: Some(value),
            ..*self.scope
        };
        let writer = Writer {
            scope: &scope,
            language: self.language,
        };
        writer.json(item)
    }
}

fn not_null(value: Value) -> Option<Value> {
    Some(value).filter(|value| !value.is_null())
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
        let query = request.query().iter();
        let lengths = query.map(|(_, value)| value.chars().count());
        let body = request.json().map_or(0, longest_text);
        lengths.max().unwrap_or(0).max(body) <= self.text
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
