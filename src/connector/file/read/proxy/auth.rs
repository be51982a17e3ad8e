//! Reads how the credential is sent: `auth`, and headers that contain the caller's secret.
//!
//! All of it becomes the form of the credential, so that it is marked as sensitive, and part of the
//! tag by which stored answers are kept apart.

use http::header::{AUTHORIZATION, HeaderName};
use secrecy::SecretString;

use super::super::super::proxy::CredentialVariable;
use super::super::super::proxy::template::{ProxyPiece, ProxyTemplate};
use super::super::super::proxy::variables::Variable;
use super::super::super::tree::{Faults, Node, NodeValue, Place};
use super::super::auth::Secrets;
use super::super::table::Table;
use super::ProxyFile;
use super::headers::{headers, is_connection_header, is_credential};
use crate::connector::credential::{CredentialForm, CredentialPiece, HeaderForm};

/// The name of the configuration's secret, also in the settings.
const SECRET_KEY: &str = "secretKey";

/// The configuration's secret. The settings win over the file.
pub(super) struct SecretKey {
    value: Option<SecretString>,
    is_used: bool,
}

impl SecretKey {
    pub(super) fn of(root: &Table<'_>, secrets: Secrets<'_>) -> Self {
        let own = root.text_said(SECRET_KEY);
        let given = match secrets {
            Secrets::Any if own.is_some() => None,
            secrets => secrets.get(SECRET_KEY),
        };
        Self {
            value: given.or_else(|| own.map(SecretString::from)),
            is_used: root.mentions(SECRET_KEY),
        }
    }

    /// The secrets that the settings may have.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.is_used.then(|| SECRET_KEY.to_owned());
        names.into_iter().collect()
    }

    /// The secret, for a template.
    pub(super) fn get(&self, place: &Place, faults: &Faults) -> Option<SecretString> {
        if self.value.is_none() {
            let message = "needs the setting secrets.secretKey of this connector";
            faults.add(place, message);
        }
        self.value.clone()
    }
}

impl Table<'_> {
    /// Whether a template of the configuration names this.
    fn mentions(&self, word: &str) -> bool {
        fn is_in(node: &Node, word: &str) -> bool {
            match &node.value {
                NodeValue::Text(text) => text.contains("{{") && text.contains(word),
                NodeValue::List(items) => items.iter().any(|item| is_in(item, word)),
                NodeValue::Table(entries) => entries.iter().any(|entry| is_in(&entry.node, word)),
                _ => false,
            }
        }
        self.entries().iter().any(|entry| is_in(&entry.node, word))
    }
}

/// The credential, and what it reads.
pub(super) struct AuthParts {
    pub(super) form: CredentialForm,
    pub(super) info: Vec<String>,
}

impl AuthParts {
    /// Reads the credential. The operation's `auth` replaces the common one. Later headers win over
    /// earlier ones of the same name.
    pub(super) fn read(file: &ProxyFile<'_>) -> Option<Self> {
        let own = file.find.as_ref().and_then(|find| find.open_said("auth"));
        let auth = own.or_else(|| file.root.open_said("auth"));
        let mut forms: Vec<(HeaderName, HeaderForm)> = Vec::new();
        for (name, entry) in headers(file) {
            forms.retain(|(known, _)| *known != name);
            if !is_credential(&entry.node) {
                continue;
            }
            forms.push((
                name,
                HeaderForm {
                    pieces: pieces(file, &entry.node)?,
                    ..HeaderForm::default()
                },
            ));
        }
        let (name, form) = header(file, auth.as_ref())?;
        forms.retain(|(known, _)| *known != name);
        forms.push((name, form));
        let info = forms.iter().flat_map(|(_, form)| &form.pieces);
        let info = info.filter_map(|piece| match piece {
            CredentialPiece::Info(name, _) => Some(name.clone()),
            _ => None,
        });
        Some(Self {
            info: info.collect(),
            form: CredentialForm::of_forms(forms),
        })
    }
}

/// The header of `auth`: a rendered template, or the caller's header as it came.
fn header(file: &ProxyFile<'_>, auth: Option<&Table<'_>>) -> Option<(HeaderName, HeaderForm)> {
    let name = match auth.and_then(|auth| auth.said("headerName")) {
        Some(node) => header_name(node, file.faults)?,
        None => AUTHORIZATION,
    };
    let Some(node) = auth.and_then(|auth| auth.said("credentialTemplate")) else {
        let form = HeaderForm {
            pieces: vec![CredentialPiece::Header],
            ..HeaderForm::default()
        };
        return Some((name, form));
    };
    let text = |key| auth.and_then(|auth| auth.text_said(key));
    let form = HeaderForm {
        prefix: text("scheme").map_or_else(String::new, |scheme| format!("{scheme} ")),
        base64: text("encode") != Some("none"),
        pieces: pieces(file, node)?,
    };
    Some((name, form))
}

fn header_name(node: &Node, faults: &Faults) -> Option<HeaderName> {
    let text = super::super::table::text(node, faults)?;
    let name = HeaderName::from_bytes(text.as_bytes()).ok();
    let name = name.filter(|name| !is_connection_header(name));
    if name.is_none() {
        faults.add(&node.place, "is not the name of a header for a credential");
    }
    name
}

/// The pieces of a credential. Values that do not exist here are left out.
fn pieces(file: &ProxyFile<'_>, node: &Node) -> Option<Vec<CredentialPiece>> {
    let text = super::super::table::text(node, file.faults)?;
    let fault = |message: &str| {
        file.faults.add(&node.place, message);
        None
    };
    let mut pieces = Vec::new();
    for piece in ProxyTemplate::parse(text).0 {
        let path = match piece {
            ProxyPiece::Text(text) => {
                pieces.push(CredentialPiece::Text(text));
                continue;
            }
            ProxyPiece::Slot(path) => path,
        };
        pieces.push(match Variable::of(&path) {
            Ok(Variable::Key) => CredentialPiece::Key,
            Ok(Variable::Header) => CredentialPiece::Header,
            Ok(Variable::Secret) => {
                CredentialPiece::Configured(file.secret.get(&node.place, file.faults)?)
            }
            Ok(Variable::Host) => CredentialPiece::Host,
            Ok(Variable::UserId) => CredentialPiece::UserId,
            Ok(Variable::Info(name, below)) => CredentialPiece::Info(name, below),
            Ok(Variable::Missing) => continue,
            Ok(_) => return fault("is a credential, which cannot depend on the call"),
            Err(error) => return fault(&error.to_string()),
        });
    }
    if pieces.is_empty() {
        return fault("names nothing that is known here, so it would be empty");
    }
    Some(pieces)
}

/// How the session shows parts of the credential to requests.
pub(super) fn shown_pieces(shown: &[CredentialVariable]) -> Vec<CredentialPiece> {
    let piece = |part: &CredentialVariable| match part {
        CredentialVariable::Key => CredentialPiece::Key,
        CredentialVariable::Header => CredentialPiece::Header,
    };
    shown.iter().map(piece).collect()
}
