//! Reads the request of `findContact`: method, parameters, headers and body.

use http::header::{CONTENT_TYPE, HeaderName};
use serde_json::Value;

use super::super::super::plan::NumberUse;
use super::super::super::proxy::template::{ProxyNode, ProxyTemplate};
use super::super::super::proxy::variables::Variable;
use super::super::super::proxy::{CredentialVariable, ProxyRequest, ProxyUrl, Reads};
use super::super::super::tree::{Faults, Node, NodeValue};
use super::super::table::Table;
use super::ProxyFile;
use super::headers::{headers, is_credential};
use crate::connector::request::Method;

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
    let object = |key| match find.said(key) {
        Some(node) => is_object(node, file.faults).then(|| proxy_node(node)),
        None => Some(ProxyNode::Object(Vec::new())),
    };
    let (query, body, method) = (object("query"), object("body"), method(find, file.faults));
    let headers = own_headers(file);
    let mut proxy = ProxyRequest {
        method: method?,
        url,
        query: query?,
        is_form: headers.iter().any(is_form),
        headers: headers
            .into_iter()
            .map(|(name, node)| (name, proxy_node(node)))
            .collect(),
        body: body?,
        reads: Reads::default(),
    };
    if proxy.body.is_mutation() {
        find.fault("sends a GraphQL mutation in its body, which is not a read");
    }
    let mut reader = Reader {
        file,
        find,
        reads: Reads::default(),
        depends: NumberUse::Nothing,
        reads_extension: false,
    };
    for part in &proxy.url.path {
        reader.read(part);
    }
    let in_path = reader.reads.info.clone();
    for part in proxy.templates() {
        reader.read(part);
    }
    proxy.reads = reader.reads;
    Some(FindRequest {
        proxy,
        depends: reader.depends,
        in_path,
        reads_extension: reader.reads_extension,
    })
}

/// The headers without those of the credential. Later ones win.
fn own_headers<'n>(file: &ProxyFile<'n>) -> Vec<(HeaderName, &'n Node)> {
    let mut own: Vec<(HeaderName, &Node)> = Vec::new();
    for (name, entry) in headers(file) {
        own.retain(|(known, _)| *known != name);
        if !is_credential(&entry.node) {
            own.push((name, &entry.node));
        }
    }
    own
}

/// Whether a header says that the body is a form.
fn is_form((name, node): &(HeaderName, &Node)) -> bool {
    let is_form = |text: &String| text.contains("x-www-form-urlencoded");
    *name == CONTENT_TYPE && matches!(&node.value, NodeValue::Text(text) if is_form(text))
}

/// The method. A POST is taken as a search, because the operation is one.
fn method(find: &Table<'_>, faults: &Faults) -> Option<Method> {
    let Some(node) = find.said("method") else {
        return Some(Method::Get);
    };
    let text = super::super::table::text(node, faults)?;
    match text.to_ascii_uppercase().as_str() {
        "GET" => Some(Method::Get),
        "POST" => Some(Method::ReadByPost),
        _ => {
            faults.add(&node.place, "must be GET or POST: a look-up only reads");
            None
        }
    }
}

fn is_object(node: &Node, faults: &Faults) -> bool {
    let is_object = matches!(node.value, NodeValue::Table(_));
    if !is_object {
        faults.add(&node.place, "must be an object");
    }
    is_object
}

fn proxy_node(node: &Node) -> ProxyNode {
    match &node.value {
        NodeValue::Null => ProxyNode::Literal(Value::Null),
        NodeValue::Bool(on) => ProxyNode::Literal((*on).into()),
        NodeValue::Number(number) => ProxyNode::Literal(number.clone().into()),
        NodeValue::Text(text) => ProxyNode::Text(ProxyTemplate::parse(text)),
        NodeValue::List(items) => ProxyNode::List(items.iter().map(proxy_node).collect()),
        NodeValue::Table(entries) => {
            let members = entries.iter();
            let members = members.map(|entry| (entry.key.clone(), proxy_node(&entry.node)));
            ProxyNode::Object(members.collect())
        }
    }
}

impl ProxyNode {
    fn is_mutation(&self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Text(template) => {
                let text = template.first_text().trim_start();
                text.starts_with("mutation")
            }
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
struct Reader<'a> {
    file: &'a ProxyFile<'a>,
    find: &'a Table<'a>,
    reads: Reads,
    depends: NumberUse,
    reads_extension: bool,
}

impl Reader<'_> {
    fn read(&mut self, template: &ProxyTemplate) {
        for path in template.slots() {
            match Variable::of(path) {
                Ok(Variable::Spelled) => self.depends = NumberUse::Text,
                Ok(Variable::Parsed) => self.depends = self.depends.max(NumberUse::Number),
                Ok(Variable::Key) => self.show(CredentialVariable::Key),
                Ok(Variable::Header) => self.show(CredentialVariable::Header),
                Ok(Variable::Secret) => {
                    self.reads.secret = self.file.secret.get(self.find.place, self.file.faults);
                }
                Ok(Variable::Info(name, _)) if !self.reads.info.contains(&name) => {
                    self.reads.info.push(name);
                }
                Ok(Variable::Host) => self.reads.host = true,
                Ok(Variable::IsExtension) => self.reads_extension = true,
                Ok(_) => {}
                Err(error) => self
                    .find
                    .fault(format!("has {{{{{path}}}}}, which {error}")),
            }
        }
    }

    fn show(&mut self, part: CredentialVariable) {
        if !self.reads.credential.contains(&part) {
            self.reads.credential.push(part);
        }
    }
}
