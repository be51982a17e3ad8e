//! Reads the parts of one request: its method and path, parameters, headers and body.

use http::header::HeaderName;

use super::super::literal::Language;
use super::super::name::Site;
use super::super::plan::{Argument, BodyNode, BodyPlan, RequestPlan};
use super::super::render::each_slot;
use super::super::slot::{Template, TemplateSlot};
use super::super::slot_error::SlotError;
use super::super::tree::NodeValue;
use super::connection::{is_own, overrides_method};
use super::field::{Field, TableEntry};
use super::table::Table;
use crate::connector::request::ReadMethod;
use crate::connector::success::ListForm;

/// Reads requests with these names and in this language.
pub(super) struct RequestReader<'a> {
    pub(super) site: Site<'a>,
    pub(super) language: Option<Language>,
}

impl RequestReader<'_> {
    /// A request whose reply is one object. `headers` are all that it has.
    pub(super) fn request(
        &self,
        table: &Table<'_>,
        headers: &[TableEntry<'_>],
    ) -> Option<RequestPlan> {
        let (method, path) = method_and_path(table)?;
        let headers = headers.iter().filter_map(|entry| self.header(entry));
        Some(RequestPlan {
            proxy: None,
            method,
            path: self.path(path)?,
            query: self.arguments(table, "query"),
            headers: headers.collect(),
            body: self.body(table),
            language: self.language,
            list: ListForm::objects(&[]),
            pager: None,
            each: None,
            before: Vec::new(),
        })
    }

    fn path(&self, field: Field<'_>) -> Option<Vec<Template>> {
        let source = field.text()?;
        let template = field.parsed(Template::parse(source, self.site))?;
        if let Some(message) = single_braces(&template) {
            field.fault(message);
        }
        if !source.starts_with('/') {
            return field.reject("must begin with a slash");
        }
        let segments = template.segments();
        match path_fault(&segments) {
            Some(message) => field.reject(message),
            None => Some(segments),
        }
    }

    fn header(&self, entry: &TableEntry<'_>) -> Option<(HeaderName, Template)> {
        let name = HeaderName::from_bytes(entry.key.as_bytes()).ok();
        let Some(name) = name.filter(|name| !is_own(name.as_str())) else {
            let message = "is not a header that a file may set: a credential belongs in [auth]";
            return entry.reject(message);
        };
        let template = self.template(entry.value)?;
        if overrides_method(&name)
            && !template
                .literal()
                .is_some_and(|text| text.eq_ignore_ascii_case("GET"))
        {
            return entry.reject("may only be GET, because a look-up only reads");
        }
        Some((name, template))
    }

    fn arguments(&self, table: &Table<'_>, key: &str) -> Vec<(String, Argument)> {
        let entries = table.entries_of(key).into_iter();
        let arguments = entries.filter_map(|entry| self.named_argument(entry));
        arguments.collect()
    }

    fn named_argument(&self, entry: TableEntry<'_>) -> Option<(String, Argument)> {
        let argument = self.argument(entry.value)?;
        if let Some(message) = argument.templates().iter().find_map(single_braces) {
            entry.value.fault(message);
        }
        Some((entry.key.to_owned(), argument))
    }

    fn argument(&self, field: Field<'_>) -> Option<Argument> {
        match field.items() {
            Some(items) => Some(Argument::Many(self.templates(items))),
            None => self.template(field).map(Argument::One),
        }
    }

    fn templates(&self, fields: Vec<Field<'_>>) -> Vec<Template> {
        let fields = fields.into_iter();
        fields.filter_map(|field| self.template(field)).collect()
    }

    fn body(&self, table: &Table<'_>) -> Option<BodyPlan> {
        match (table.get("body"), table.get("form")) {
            (Some(body), None) => self.node(body, false).map(BodyPlan::Json),
            (None, Some(_)) => Some(BodyPlan::Form(self.arguments(table, "form"))),
            (None, None) => None,
            (Some(_), Some(form)) => form.reject("cannot be set together with body"),
        }
    }

    /// A value of a JSON body. `may_repeat` if it is in a list of one element.
    fn node(&self, field: Field<'_>, may_repeat: bool) -> Option<BodyNode> {
        match field.value() {
            NodeValue::Text(_) => self.text_node(field, may_repeat),
            NodeValue::List(_) => self.list_node(field),
            NodeValue::Table(_) => self.object_node(field, may_repeat),
            scalar => scalar.scalar().map(BodyNode::Literal),
        }
    }

    fn text_node(&self, field: Field<'_>, may_repeat: bool) -> Option<BodyNode> {
        let template = self.template_of_each(field, may_repeat)?;
        Some(match template.literal() {
            Some(text) => BodyNode::Literal(text.into()),
            None => BodyNode::Text(template),
        })
    }

    fn list_node(&self, field: Field<'_>) -> Option<BodyNode> {
        let items = field.items()?;
        let is_one = items.len() == 1;
        let nodes = items.into_iter().map(|item| self.node(item, is_one));
        let mut nodes: Vec<BodyNode> = nodes.collect::<Option<_>>()?;
        Some(match nodes.as_slice() {
            [item] if each_slot(item).is_some() => BodyNode::Each(Box::new(nodes.remove(0))),
            _ => BodyNode::List(nodes),
        })
    }

    fn object_node(&self, field: Field<'_>, may_repeat: bool) -> Option<BodyNode> {
        let members = field.open()?.entries();
        let members = members.map(|entry| self.member(entry, may_repeat));
        Some(BodyNode::Object(members.collect::<Option<_>>()?))
    }

    fn member(&self, entry: TableEntry<'_>, may_repeat: bool) -> Option<(String, BodyNode)> {
        let node = self.node(entry.value, may_repeat)?;
        Some((entry.key.to_owned(), node))
    }

    fn template(&self, field: Field<'_>) -> Option<Template> {
        self.template_of_each(field, false)
    }

    /// A template whose slots fit their place.
    fn template_of_each(&self, field: Field<'_>, may_repeat: bool) -> Option<Template> {
        let template = field.template(self.site)?;
        let is_whole = template.whole().is_some();
        for slot in template.slots() {
            if slot.each && !(may_repeat && is_whole) {
                field.fault(SlotError::Each.to_string());
            }
            if let Some(message) = self.misfit(slot, is_whole) {
                field.fault(message);
            }
        }
        let is_quoted = |language: Language| template.has_quoted_slot(language.outer_quote());
        if self.language.is_some_and(is_quoted) {
            field.fault(
                "has a slot inside quotation marks; remove the quotation marks, because the slot adds \
                 its own",
            );
        }
        Some(template)
    }

    /// Why the request's language cannot write a slot.
    fn misfit(&self, slot: &TemplateSlot, is_whole: bool) -> Option<&'static str> {
        let is_list = slot.is_list() && !is_whole;
        match (self.language, slot.pattern.is_some()) {
            (None, true) => Some("has a pattern, which needs the request's language"),
            (None, false) if is_list => Some(
                "has a list among other words, which needs the request's language or the filter join",
            ),
            (Some(language), true) if !language.has_patterns() => {
                Some("has a pattern, and this language has none")
            }
            (Some(language), _) if is_list && !language.has_lists() => {
                Some("has a list, and this language has none")
            }
            _ => None,
        }
    }
}

/// The fault of a text without a slot that seems to contain a misspelt one: "{text}", "${text}",
/// "text}}". Bodies are not checked, because queries in them have braces of their own.
fn single_braces(template: &Template) -> Option<String> {
    const NAMES: [&str; 7] = [
        "text", "texts", "number", "numbers", "record", "info", "setting",
    ];
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '{' | '}');
    let is_slot = |word: &&str| {
        let is_closed = word.starts_with('{') && word.ends_with('}') || word.ends_with("}}");
        let name = word.trim_matches(['{', '}']).split('.').next();
        is_closed && name.is_some_and(|name| NAMES.contains(&name))
    };
    let slot = template
        .literal()?
        .split(|c| !is_of_word(c))
        .find(is_slot)?;
    let inner = slot.trim_matches(['{', '}']);
    Some(format!(
        "has {slot:?}, which would be sent as it is; a slot is {{{{{inner}}}}}"
    ))
}

fn method_and_path<'n>(table: &Table<'n>) -> Option<(ReadMethod, Field<'n>)> {
    match (table.get("get"), table.get("read_by_post")) {
        (Some(path), None) => Some((ReadMethod::Get, path)),
        (None, Some(path)) => Some((ReadMethod::ReadByPost, path)),
        _ => table.reject("needs either get or read_by_post"),
    }
}

/// Why these segments are not the path of a request. The last one may be empty.
fn path_fault(segments: &[Template]) -> Option<&'static str> {
    let (_, inner) = segments.split_last()?;
    let is_empty = |segment: &Template| segment.literal() == Some("");
    let has_pattern = |segment: &Template| segment.slots().any(|slot| slot.pattern.is_some());
    if segments.iter().any(is_odd_segment) {
        Some("must be a plain path: parameters belong in query")
    } else if inner.iter().any(is_empty) {
        Some("has an empty segment")
    } else if segments.iter().any(has_pattern) {
        Some("must not have patterns")
    } else {
        None
    }
}

fn is_odd_segment(segment: &Template) -> bool {
    let is_odd = |text: &str| matches!(text, "." | "..") || text.contains(['?', '#']);
    segment.literal().is_some_and(is_odd)
}
