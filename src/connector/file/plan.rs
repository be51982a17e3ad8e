//! A connector file as it is carried out: everything is parsed, every name exists.

use std::sync::Arc;

use http::header::HeaderName;
use serde_json::Value;

use super::literal::Language;
use super::proxy::ProxyRequest;
use super::slot::{Template, TemplateSlot};
use crate::connector::pages::Pager;
use crate::connector::path::Path;
use crate::connector::request::ReadMethod;
use crate::connector::sheet::About;
use crate::connector::success::ListForm;

/// The requests of a file, and how their replies are mapped.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    pub(super) about: About,
    pub(super) searches: Vec<SearchRequest>,
    pub(super) details: Vec<DetailsRequest>,
    pub(super) whoami: Option<WhoAmIRequest>,
    /// The raw values of a record that details use.
    pub(super) kept: Vec<Path>,
}

/// One request, and where its list is.
#[derive(Debug, Clone)]
pub(super) struct RequestPlan {
    /// The request in App Connect's form, which then replaces the method, path, query, headers and
    /// body below.
    pub(super) proxy: Option<Arc<ProxyRequest>>,
    pub(super) method: ReadMethod,
    /// The path's segments.
    pub(super) path: Vec<Template>,
    pub(super) query: Vec<(String, Argument)>,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) body: Option<BodyPlan>,
    pub(super) language: Option<Language>,
    pub(super) list: ListForm,
    pub(super) pager: Option<Pager>,
    /// The request is made once for each of these values.
    pub(super) each: Option<EachValue>,
    /// Requests whose results this one uses.
    pub(super) before: Vec<BeforeRequest>,
}

impl RequestPlan {
    /// The form of the request's paths: `None` is a segment with a slot.
    pub(super) fn path_form(&self) -> Vec<Option<String>> {
        match &self.proxy {
            Some(proxy) => proxy.url.form(),
            None => self.segments().iter().map(Template::fixed).collect(),
        }
    }

    /// Which segments of the request's paths have no slot.
    pub(super) fn fixed_segments(&self) -> Vec<bool> {
        self.path_form().iter().map(Option::is_some).collect()
    }
}

/// The values of a `for`.
#[derive(Debug, Clone)]
pub(super) struct EachValue {
    pub(super) name: String,
    pub(super) values: Vec<Template>,
}

/// A parameter of a query or a form.
#[derive(Debug, Clone)]
pub(super) enum Argument {
    One(Template),
    /// A repeated parameter.
    Many(Vec<Template>),
}

impl Argument {
    pub(super) fn templates(&self) -> &[Template] {
        match self {
            Self::One(template) => std::slice::from_ref(template),
            Self::Many(templates) => templates,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum BodyPlan {
    Json(BodyNode),
    Form(Vec<(String, Argument)>),
}

/// A JSON body.
#[derive(Debug, Clone)]
pub(super) enum BodyNode {
    Literal(Value),
    Text(Template),
    List(Vec<BodyNode>),
    /// A list whose only element is repeated for each value of its `each` slot.
    Each(Box<BodyNode>),
    Object(Vec<(String, BodyNode)>),
}

/// A request before another one.
#[derive(Debug, Clone)]
pub(super) struct BeforeRequest {
    pub(super) request: RequestPlan,
    /// Names, and where their values are in the reply.
    pub(super) take: Vec<(String, Path)>,
}

/// A search.
#[derive(Debug, Clone)]
pub(super) struct SearchRequest {
    pub(super) request: RequestPlan,
    /// Where a record's phone numbers are; `None` if the CRM shows none.
    pub(super) phones: Option<Vec<Path>>,
    /// Whether a record with other numbers is kept, as one that is not verified.
    pub(super) keeps_others: bool,
    pub(super) record: RecordPlan,
    /// Runs only if earlier searches found no record that may be the party.
    pub(super) only_if_empty: bool,
    /// The name under which a refusal for good is remembered, if the search may be refused.
    pub(super) optional: Option<String>,
    /// Runs only if this user setting has this word in its list, or chooses nothing.
    pub(super) if_among: Option<(String, String)>,
    /// Whether the CRM compares numbers exactly.
    pub(super) is_exact: bool,
    pub(super) batch: Option<BatchLimits>,
    /// What the request depends on.
    pub(super) depends: NumberUse,
}

impl SearchRequest {
    /// Whether one request is about all spellings.
    pub(super) fn asks_once(&self) -> bool {
        self.depends <= NumberUse::Lists
    }
}

/// Which part of a number a request speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NumberUse {
    /// None: it lists everybody.
    Nothing,
    /// All spellings of all numbers at once.
    Lists,
    /// One number.
    Number,
    /// One spelling.
    Text,
}

/// The most that one request may ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    pub(super) values: usize,
    /// Characters of the longest rendered text.
    pub(super) text: usize,
}

/// How a record is mapped.
#[derive(Debug, Clone, Default)]
pub(super) struct RecordPlan {
    pub(super) id: TextField,
    pub(super) kind: TextField,
    pub(super) name: TextField,
    pub(super) title: TextField,
    pub(super) company: TextField,
    pub(super) email: TextField,
    pub(super) created: TextField,
    pub(super) last_activity: TextField,
    /// Further values for `additional_info`.
    pub(super) info: Vec<(String, ValueField)>,
    /// Where a whole object for `additional_info` is.
    pub(super) info_at: Option<Path>,
}

/// Alternatives of a text; the first that is not empty counts.
#[derive(Debug, Clone, Default)]
pub(super) struct TextField(pub(super) Vec<Template>);

/// Alternatives of a value.
#[derive(Debug, Clone, Default)]
pub(super) struct ValueField(pub(super) Vec<ValueTemplate>);

#[derive(Debug, Clone)]
pub(super) enum ValueTemplate {
    Literal(Value),
    Text(Template),
}

/// A part of the details.
#[derive(Debug, Clone)]
pub(super) struct DetailsRequest {
    /// The key in `additional_info`.
    pub(super) name: String,
    /// The name under which a refusal for good is remembered.
    pub(super) part: String,
    pub(super) source: DetailsSource,
    /// The user's setting that must be on.
    pub(super) if_setting: Option<String>,
}

/// Where the choices of a part come from.
#[derive(Debug, Clone)]
pub(super) enum DetailsSource {
    /// The same for every contact.
    Fixed(Vec<Value>),
    Request(Box<DetailsList>),
}

impl DetailsSource {
    /// The request, if it is one.
    pub(super) fn list(&self) -> Option<&DetailsList> {
        match self {
            Self::Request(list) => Some(list),
            Self::Fixed(_) => None,
        }
    }

    /// Whether the number of contacts does not change the number of calls.
    pub(super) fn serves_several(&self) -> bool {
        self.list().is_none_or(DetailsList::serves_several)
    }
}

/// A request for choices.
#[derive(Debug, Clone)]
pub(super) struct DetailsList {
    pub(super) request: RequestPlan,
    pub(super) choice: Vec<(String, ValueField)>,
    pub(super) drop: Option<DropRule>,
    /// Where a row names its record. Rows of other records are left out.
    pub(super) owner: Option<RowOwner>,
    /// One request whose choices all contacts get.
    pub(super) per_answer: bool,
}

/// Whose a row is.
#[derive(Debug, Clone)]
pub(super) struct RowOwner {
    /// The value in the row.
    pub(super) of: Path,
    /// The value of the record.
    pub(super) record: Path,
    /// Whether one request serves all contacts.
    pub(super) is_shared: bool,
}

impl RequestPlan {
    /// The path's segments, without the empty one after a slash at its end.
    pub(super) fn segments(&self) -> &[Template] {
        match self.path.split_last() {
            Some((_, segments)) if self.ends_with_slash() => segments,
            _ => &self.path,
        }
    }

    /// Whether the path ends with a slash: to some CRMs that is another path.
    pub(super) fn ends_with_slash(&self) -> bool {
        self.path
            .last()
            .is_some_and(|last| last.literal() == Some(""))
    }

    /// Method and path, with slots as in the file.
    pub(super) fn title(&self) -> String {
        let own = || self.path.iter().map(ToString::to_string).collect();
        let form = |proxy: &Arc<ProxyRequest>| {
            let segments = proxy.url.form().into_iter();
            segments
                .map(|segment| segment.unwrap_or_else(|| "{{…}}".to_owned()))
                .collect()
        };
        let segments: Vec<String> = self.proxy.as_ref().map_or_else(own, form);
        let path = segments.join("/");
        format!("{} /{path}", self.method.name())
    }
}

impl DetailsList {
    /// Whether one request names all contacts.
    pub(super) fn is_shared(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.is_shared)
    }

    /// Whether one request serves all contacts.
    pub(super) fn serves_several(&self) -> bool {
        self.is_shared() || self.per_answer
    }
}

/// Rows that are left out.
#[derive(Debug, Clone)]
pub(super) struct DropRule {
    pub(super) at: Path,
    pub(super) values: Vec<Value>,
    pub(super) unless_setting: Option<String>,
}

/// The request that asks whose credential it is.
#[derive(Debug, Clone)]
pub(super) struct WhoAmIRequest {
    pub(super) request: RequestPlan,
    pub(super) user: Path,
    pub(super) account: Option<Path>,
}

impl RecordPlan {
    pub(super) fn slots(&self) -> impl Iterator<Item = &TemplateSlot> {
        let texts = self.texts().into_iter().flat_map(TextField::slots);
        texts.chain(self.info.iter().flat_map(|(_, field)| field.slots()))
    }

    fn texts(&self) -> [&TextField; 8] {
        [
            &self.id,
            &self.kind,
            &self.name,
            &self.title,
            &self.company,
            &self.email,
            &self.created,
            &self.last_activity,
        ]
    }
}

impl TextField {
    fn slots(&self) -> impl Iterator<Item = &TemplateSlot> {
        self.0.iter().flat_map(Template::slots)
    }
}

impl ValueField {
    pub(super) fn slots(&self) -> impl Iterator<Item = &TemplateSlot> {
        let templates = self.0.iter().filter_map(ValueTemplate::template);
        templates.flat_map(Template::slots)
    }
}

impl ValueTemplate {
    fn template(&self) -> Option<&Template> {
        match self {
            Self::Text(template) => Some(template),
            Self::Literal(_) => None,
        }
    }
}
