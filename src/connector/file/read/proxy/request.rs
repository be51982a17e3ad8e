//! Reads the request of `findContact`: method, parameters, headers and body.

use http::header::{CONTENT_TYPE, HeaderName};

use super::super::super::plan::NumberUse;
use super::super::super::proxy::template::{ProxyNode, ProxyTemplate};
use super::super::super::proxy::variables::Variable;
use super::super::super::proxy::{CredentialVariable, ProxyReads, ProxyRequest, ProxyUrl};
use super::super::super::tree::{KeyValue, Node, NodeValue};
use super::super::field::Field;
use super::super::table::Table;
use super::ProxyFile;
use super::auth::SecretKey;
use super::headers::{headers, is_credential, replace};
use crate::connector::request::ReadMethod;

/// A request, and what the rest of the file has to know of it.
pub(super) struct FindRequest {
    pub(super) proxy: ProxyRequest,
    pub(super) depends: NumberUse,
    /// The fields of the additional info that the path is made of.
    pub(super) in_path: Vec<String>,
    pub(super) reads_extension: bool,
}

/// Reads the request.
pub(super) fn request(
    file: &ProxyFile<'_>,
    find: &Table<'_>,
    url: ProxyUrl,
) -> Option<FindRequest> {
    let (query, body) = (object(find, "query"), object(find, "body"));
    let method = method(find);
    let headers = own_headers(file);
    let mut proxy = ProxyRequest {
        method: method?,
        url,
        query: query?,
        is_form: headers.iter().any(is_form),
        headers: headers.into_iter().map(rendered).collect(),
        body: body?,
        reads: ProxyReads::default(),
    };
    if proxy.body.is_mutation() {
        find.fault("sends a GraphQL mutation in its body, which is not a read");
    }
    let mut reader = TemplateReader::new(file, find);
    proxy.url.path.iter().for_each(|part| reader.read(part));
    let in_path = reader.reads.info.clone();
    let templates = proxy.templates().into_iter();
    templates.for_each(|template| reader.read(template));
    proxy.reads = reader.reads;
    Some(FindRequest {
        proxy,
        depends: reader.depends,
        in_path,
        reads_extension: reader.reads_extension,
    })
}

/// An object of values; empty if the key is not set.
fn object(find: &Table<'_>, key: &str) -> Option<ProxyNode> {
    let Some(field) = find.said(key) else {
        return Some(ProxyNode::Object(Vec::new()));
    };
    match field.value() {
        NodeValue::Table(_) => Some(field.node().into()),
        _ => field.reject("must be an object"),
    }
}

/// The headers without those of the credential. Later ones win.
fn own_headers<'n>(file: &'n ProxyFile<'_>) -> Vec<(HeaderName, Field<'n>)> {
    let mut own: Vec<(HeaderName, Field<'n>)> = Vec::new();
    for (name, entry) in headers(file) {
        let is_own = !is_credential(entry.value);
        replace(&mut own, name, is_own.then_some(entry.value));
    }
    own
}

fn rendered((name, field): (HeaderName, Field<'_>)) -> (HeaderName, ProxyNode) {
    (name, field.node().into())
}

/// Whether a header says that the body is a form.
fn is_form((name, field): &(HeaderName, Field<'_>)) -> bool {
    let text = field.value().text().unwrap_or_default();
    *name == CONTENT_TYPE && text.contains("x-www-form-urlencoded")
}

/// The method. A POST is accepted as a read, because `findContact` is a search.
fn method(find: &Table<'_>) -> Option<ReadMethod> {
    let Some(field) = find.said("method") else {
        return Some(ReadMethod::Get);
    };
    match field.text()?.to_ascii_uppercase().as_str() {
        "GET" => Some(ReadMethod::Get),
        "POST" => Some(ReadMethod::ReadByPost),
        _ => field.reject("must be GET or POST: a look-up only reads"),
    }
}

impl From<&Node> for ProxyNode {
    fn from(node: &Node) -> Self {
        match &node.value {
            NodeValue::Text(text) => Self::Text(ProxyTemplate::parse(text)),
            NodeValue::List(items) => Self::List(items.iter().map(Self::from).collect()),
            NodeValue::Table(entries) => {
                let member = |entry: &KeyValue| (entry.key.clone(), Self::from(&entry.node));
                Self::Object(entries.iter().map(member).collect())
            }
            scalar => Self::Literal(scalar.scalar().unwrap_or_default()),
        }
    }
}

impl ProxyTemplate {
    /// Whether it is a request of GraphQL that changes something.
    fn begins_mutation(&self) -> bool {
        self.first_text().trim_start().starts_with("mutation")
    }
}

impl ProxyNode {
    fn is_mutation(&self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Text(template) => template.begins_mutation(),
            Self::List(items) => items.iter().any(Self::is_mutation),
            Self::Object(members) => members.iter().any(|(_, node)| node.is_mutation()),
        }
    }
}

impl ProxyRequest {
    /// The templates outside of the path.
    fn templates(&self) -> Vec<&ProxyTemplate> {
        let mut templates = self.query.templates();
        templates.extend(self.body.templates());
        for (_, node) in &self.headers {
            templates.extend(node.templates());
        }
        for (name, value) in &self.url.query {
            templates.extend([name, value]);
        }
        templates
    }
}

/// Finds out what templates read.
struct TemplateReader<'a> {
    secret: &'a SecretKey,
    find: &'a Table<'a>,
    reads: ProxyReads,
    depends: NumberUse,
    reads_extension: bool,
}

impl<'a> TemplateReader<'a> {
    fn new(file: &'a ProxyFile<'_>, find: &'a Table<'a>) -> Self {
        Self {
            secret: &file.secret,
            find,
            reads: ProxyReads::default(),
            depends: NumberUse::Nothing,
            reads_extension: false,
        }
    }

    fn read(&mut self, template: &ProxyTemplate) {
        for path in template.slots() {
            match Variable::of(path) {
                Ok(variable) => self.add(variable),
                Err(error) => {
                    let message = format!("has {{{{{path}}}}}, which {error}");
                    self.find.fault(message);
                }
            }
        }
    }

    fn add(&mut self, variable: Variable) {
        match variable {
            Variable::Spelled => self.depends = NumberUse::Text,
            Variable::Parsed => self.depends = self.depends.max(NumberUse::Number),
            Variable::Key => self.show(CredentialVariable::Key),
            Variable::Header => self.show(CredentialVariable::Header),
            Variable::Secret => self.reads.secret = self.find.parsed(self.secret.get()),
            Variable::Info(name, _) if !self.reads.info.contains(&name) => {
                self.reads.info.push(name);
            }
            Variable::Host => self.reads.host = true,
            Variable::IsExtension => self.reads_extension = true,
            _ => {}
        }
    }

    fn show(&mut self, part: CredentialVariable) {
        if !self.reads.credential.contains(&part) {
            self.reads.credential.push(part);
        }
    }
}
