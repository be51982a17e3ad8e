//! Templates of App Connect: text with `{{ a.b }}`, rendered from one tree of variables.
//!
//! A string that is one slot keeps the type of its value. In other strings a missing value is
//! empty. A value is rendered once: what was rendered is never parsed again.

use serde_json::Value;

use crate::connector::path::Path;
use crate::domain::json::text;

/// Literal text and slots, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::connector::file) struct ProxyTemplate(pub(in crate::connector::file) Vec<ProxyPiece>);

#[derive(Debug, Clone, PartialEq)]
pub(in crate::connector::file) enum ProxyPiece {
    Text(String),
    /// A path in the tree of variables.
    Slot(Path),
}

/// A JSON value with templates as its texts.
#[derive(Debug, Clone)]
pub(in crate::connector::file) enum ProxyNode {
    Literal(Value),
    Text(ProxyTemplate),
    List(Vec<ProxyNode>),
    Object(Vec<(String, ProxyNode)>),
}

impl ProxyTemplate {
    /// Parses a text. Braces that are no slot are literal text.
    pub(in crate::connector::file) fn parse(source: &str) -> Self {
        let (mut pieces, mut rest) = (Vec::new(), source);
        while let Some((before, path, after)) = next_slot(rest) {
            if !before.is_empty() {
                pieces.push(ProxyPiece::Text(before.to_owned()));
            }
            pieces.push(ProxyPiece::Slot(Path::dotted(path)));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(ProxyPiece::Text(rest.to_owned()));
        }
        Self(pieces)
    }

    /// The text, if there is no slot.
    pub(in crate::connector::file) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [ProxyPiece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The literal text at its beginning.
    pub(in crate::connector::file) fn first_text(&self) -> &str {
        match self.0.first() {
            Some(ProxyPiece::Text(text)) => text,
            _ => "",
        }
    }

    /// The paths of the slots.
    pub(in crate::connector::file) fn slots(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|piece| match piece {
            ProxyPiece::Slot(path) => Some(path),
            ProxyPiece::Text(_) => None,
        })
    }

    /// The value; `None` if it is one slot that is missing.
    pub(super) fn value(&self, variables: &Value) -> Option<Value> {
        match self.0.as_slice() {
            [ProxyPiece::Slot(path)] => path.get(variables).cloned(),
            _ => Some(self.text(variables).into()),
        }
    }

    /// The value as text. What is missing is empty.
    pub(super) fn text(&self, variables: &Value) -> String {
        self.0.iter().map(|piece| piece.text(variables)).collect()
    }
}

impl ProxyPiece {
    fn text(&self, variables: &Value) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Slot(path) => path.get(variables).map_or_else(String::new, script_text),
        }
    }
}

/// The text before the first slot, its path, and the text after it.
fn next_slot(source: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(found) = source.get(from..)?.find("{{") {
        let open = from + found;
        let inner = source.get(open + 2..)?;
        let end = inner.find('}')?;
        let path = inner.get(..end)?;
        if !path.is_empty() && inner.get(end..)?.starts_with("}}") {
            return Some((source.get(..open)?, path.trim(), inner.get(end + 2..)?));
        }
        from = open + 1;
    }
    None
}

/// A value as JavaScript writes it into a text.
pub(super) fn script_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(on) => on.to_string(),
        Value::Array(items) => items.iter().map(script_text).collect::<Vec<_>>().join(","),
        Value::Object(_) => "[object Object]".to_owned(),
        value => text(Some(value)),
    }
}

impl ProxyNode {
    /// The value with its texts rendered, at any depth. `None` if it is a slot that is
    /// missing. Keys are not rendered.
    pub(super) fn value(&self, variables: &Value) -> Option<Value> {
        match self {
            Self::Literal(value) => Some(value.clone()),
            Self::Text(template) => template.value(variables),
            Self::List(items) => {
                let items = items.iter();
                let items = items.map(|item| item.value(variables).unwrap_or_default());
                Some(items.collect())
            }
            Self::Object(members) => {
                let member =
                    |(key, node): &(String, Self)| Some((key.clone(), node.value(variables)?));
                Some(members.iter().filter_map(member).collect())
            }
        }
    }

    /// The templates in it.
    pub(in crate::connector::file) fn templates(&self) -> Vec<&ProxyTemplate> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Text(template) => vec![template],
            Self::List(items) => items.iter().flat_map(Self::templates).collect(),
            Self::Object(members) => members
                .iter()
                .flat_map(|(_, node)| node.templates())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(value: &Value) -> ProxyNode {
        match value {
            Value::String(text) => ProxyNode::Text(ProxyTemplate::parse(text)),
            Value::Array(items) => ProxyNode::List(items.iter().map(node).collect()),
            Value::Object(members) => {
                let member = |(key, value): (&String, &Value)| (key.clone(), node(value));
                ProxyNode::Object(members.iter().map(member).collect())
            }
            value => ProxyNode::Literal(value.clone()),
        }
    }

    #[test]
    fn values_keep_their_type_where_they_stand_alone_and_are_texts_elsewhere() {
        let variables = json!({
            "text": "a\"b{{n}}", "n": 7, "yes": true, "none": null, "list": [1, "x", null],
            "object": {"k": 1, "0": "zero"}, "odd.key": 1, "deep": [{"a": "b"}],
        });
        for (template, expected) in [
            (json!("{{n}}"), json!(7)),
            (json!("{{ n }}"), json!(7)),
            (json!("{{\tyes\n}}"), json!(true)),
            (json!("{{object}}"), json!({"k": 1, "0": "zero"})),
            (json!("{{object.0}}"), json!("zero")),
            (json!("{{deep.0.a}}"), json!("b")),
            (json!("{{list.1}}"), json!("x")),
            (json!("{{none}}"), json!(null)),
            (json!(" {{n}}"), json!(" 7")),
            (json!("{{n}}{{n}}"), json!("77")),
            (
                json!("{{missing}}-{{none}}-{{n.x}}-{{text.y.z}}"),
                json!("---"),
            ),
            (json!("{{odd.key}}!"), json!("!")),
            (
                json!("{{list}} {{object}} {{yes}}"),
                json!("1,x, [object Object] true"),
            ),
            // What was rendered is not rendered again.
            (json!("<{{text}}>"), json!("<a\"b{{n}}>")),
            // No slots.
            (
                json!("{{}} {n} {{n} n}} {{{{n"),
                json!("{{}} {n} {{n} n}} {{{{n"),
            ),
            (json!("{{ n } }}{{n}}"), json!("{{ n } }}7")),
            (
                json!({"{{n}}": ["{{n}}", "{{missing}}", {"a": "{{yes}}", "b": "{{missing}}"}], "c": null, "d": 1.5}),
                json!({"{{n}}": [7, null, {"a": true}], "c": null, "d": 1.5}),
            ),
        ] {
            assert_eq!(
                node(&template).value(&variables),
                Some(expected),
                "{template}"
            );
        }
        assert_eq!(node(&json!("{{missing}}")).value(&variables), None);
    }
}
