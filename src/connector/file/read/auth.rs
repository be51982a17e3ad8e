//! Reads `[auth]`: how a credential is put into headers, and how a token is fetched.

use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, HeaderName};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::super::keys;
use super::super::name::{Name, Site};
use super::super::slot::{Piece, Slot, Template};
use super::super::tree::{Entry, Faults, Node};
use super::connection::is_own;
use super::crm::keys_of;
use super::table::{Table, parsed, template};
use crate::connector::base::fixed_address;
use crate::connector::credential::{CredentialForm, CredentialPiece, HeaderForm};
use crate::connector::token::TokenRequest;

/// The secrets of the settings, by the names that a file uses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Secrets<'a> {
    /// Those of the settings.
    Given(&'a BTreeMap<String, SecretString>),
    /// Any name will do: the file is only checked.
    Any,
}

impl Secrets<'_> {
    pub(super) fn get(self, name: &str) -> Option<SecretString> {
        match self {
            Self::Given(secrets) => secrets.get(name).cloned(),
            Self::Any => Some(SecretString::from("secret")),
        }
    }
}

/// Reads `[auth]`. Without it the caller's header goes out as it came.
pub(super) fn auth(
    table: Option<Table<'_>>,
    secrets: Secrets<'_>,
    faults: &Faults,
) -> Option<CredentialForm> {
    let Some(table) = table else {
        return Some(CredentialForm::authorization());
    };
    let reader = AuthReader {
        base64: table.word("encode", &[("base64", ())]).is_some(),
        has_token: table.has("token"),
        scheme: table
            .text("scheme")
            .map_or_else(String::new, |scheme| format!("{scheme} ")),
        secrets,
        faults,
    };
    if let Some(node) = table.get("value") {
        let form = reader.form(node)?;
        return Some(CredentialForm::of_forms(vec![(AUTHORIZATION, form)]));
    }
    let Some(node) = table.get("headers") else {
        table.fault("needs value or headers");
        return None;
    };
    let header = |entry: &Entry| {
        let name = HeaderName::from_bytes(entry.key.as_bytes());
        let may_be = |name: &HeaderName| *name == AUTHORIZATION || !is_own(name.as_str());
        let Some(name) = name.ok().filter(may_be) else {
            faults.add(&entry.place, "is not a header that a credential may be in");
            return None;
        };
        Some((name, reader.form(&entry.node)?))
    };
    let headers = Table::open(node, faults)?;
    let headers: Vec<_> = headers.entries().iter().filter_map(header).collect();
    Some(CredentialForm::of_forms(headers))
}

struct AuthReader<'a> {
    base64: bool,
    has_token: bool,
    scheme: String,
    secrets: Secrets<'a>,
    faults: &'a Faults,
}

impl AuthReader<'_> {
    fn form(&self, node: &Node) -> Option<HeaderForm> {
        let template = template(node, Site::Auth, self.faults)?;
        let pieces = template.0.iter().map(|piece| self.piece(piece, node));
        Some(HeaderForm {
            prefix: self.scheme.clone(),
            base64: self.base64,
            pieces: pieces.collect::<Option<_>>()?,
        })
    }

    fn piece(&self, piece: &Piece, node: &Node) -> Option<CredentialPiece> {
        let slot = match piece {
            Piece::Text(text) => return Some(CredentialPiece::Text(text.clone())),
            Piece::Slot(slot) => slot,
        };
        if !slot.filters.is_empty() || slot.pattern.is_some() {
            self.faults.add(&node.place, "must not have filters");
            return None;
        }
        match &slot.name {
            Name::Secret(name) => {
                let secret = self.secrets.get(name);
                if secret.is_none() {
                    self.faults.add(&node.place, missing_secret(name));
                }
                secret.map(CredentialPiece::Configured)
            }
            Name::Info(name, below) => {
                let keys = keys_of(below);
                if keys.is_none() {
                    self.faults
                        .add(&node.place, "may only have keys in the path of info");
                }
                Some(CredentialPiece::Info(name.clone(), keys?))
            }
            Name::Host => Some(CredentialPiece::Host),
            Name::Token if self.has_token && !self.base64 => Some(CredentialPiece::Fetched),
            Name::Token => {
                let message = "needs [auth.token], and no encode";
                self.faults.add(&node.place, message);
                None
            }
            Name::Credential => Some(CredentialPiece::Secret),
            Name::Header => Some(CredentialPiece::Header),
            _ => None,
        }
    }
}

/// Reads `[auth.token]`.
pub(super) fn token(
    auth: Option<&Table<'_>>,
    secrets: Secrets<'_>,
    faults: &Faults,
) -> Option<TokenRequest> {
    let table = auth?.table("token", &[keys::TOKEN])?;
    let url = table.text("post").map(fixed_address);
    let (Some(url), Some(form)) = (url, table.get("form")) else {
        table.fault("needs post, the address that gives tokens, and form");
        return None;
    };
    let url = parsed(url, table.get("post")?, faults)?;
    let form = Table::open(form, faults)?;
    let field = |entry: &Entry| Some((entry.key.clone(), secret_text(entry, secrets, faults)?));
    Some(TokenRequest {
        url,
        form: form.entries().iter().filter_map(field).collect(),
    })
}

/// A text with secrets in it.
fn secret_text(entry: &Entry, secrets: Secrets<'_>, faults: &Faults) -> Option<SecretString> {
    let template = template(&entry.node, Site::Auth, faults)?;
    let mut joined = Zeroizing::new(String::new());
    for piece in &template.0 {
        match piece {
            Piece::Text(text) => joined.push_str(text),
            Piece::Slot(slot) => match &slot.name {
                Name::Secret(name) => match secrets.get(name) {
                    Some(secret) => joined.push_str(secret.expose_secret()),
                    None => faults.add(&entry.node.place, missing_secret(name)),
                },
                _ => faults.add(&entry.node.place, "may only have secret.NAME in its slots"),
            },
        }
    }
    Some(SecretString::from(joined.as_str()))
}

fn missing_secret(name: &str) -> String {
    format!("needs the setting secrets.{name} of this connector")
}

/// The info fields that a credential reads.
pub(super) fn auth_slots(table: Option<&Table<'_>>, faults: &Faults) -> Vec<Slot> {
    let Some(table) = table else {
        return Vec::new();
    };
    let mut nodes: Vec<&Node> = table.get("value").into_iter().collect();
    let token = table
        .get("token")
        .and_then(|node| Table::open(node, faults));
    let form = token.and_then(|token| Table::open(token.get("form")?, faults));
    nodes.extend(
        form.iter()
            .flat_map(|form| form.entries().iter().map(|entry| &entry.node)),
    );
    let headers = table
        .get("headers")
        .and_then(|node| Table::open(node, faults));
    nodes.extend(
        headers
            .iter()
            .flat_map(|table| table.entries().iter().map(|entry| &entry.node)),
    );
    let quiet = Faults::default();
    let templates = nodes
        .into_iter()
        .filter_map(|node| template(node, Site::Auth, &quiet));
    templates
        .flat_map(|template: Template| template.slots().cloned().collect::<Vec<_>>())
        .collect()
}
