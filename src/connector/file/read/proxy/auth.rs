//! Reads how the credential is sent: `auth`, and headers that contain the caller's secret.
//!
//! All of it becomes the form of the credential, so that it is marked as sensitive, and part of the
//! tag by which stored answers are kept apart.

use http::header::{AUTHORIZATION, HeaderName};
use secrecy::SecretString;

use super::super::super::proxy::CredentialVariable;
use super::super::super::proxy::template::{ProxyPiece, ProxyTemplate};
use super::super::super::proxy::variables::Variable;
use super::super::super::tree::NodeValue;
use super::super::auth::{Secrets, scheme};
use super::super::field::Field;
use super::super::table::Table;
use super::ProxyFile;
use super::headers::{headers, is_connection_header, is_credential, replace};
use crate::connector::credential::{CredentialForm, CredentialPiece, HeaderForm};
use crate::connector::path::Path;

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
            is_used: root.entries().any(|entry| mentions_secret(entry.value)),
        }
    }

    /// The secrets that the settings may have.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.is_used.then(|| SECRET_KEY.to_owned());
        names.into_iter().collect()
    }

    /// The secret, for a template.
    ///
    /// # Errors
    /// That it is missing.
    pub(super) fn get(&self) -> Result<SecretString, &'static str> {
        let missing = "needs the setting secrets.secretKey of this connector";
        self.value.clone().ok_or(missing)
    }
}

/// Whether a template in it names the secret.
fn mentions_secret(field: Field<'_>) -> bool {
    match field.value() {
        NodeValue::Text(text) => text.contains("{{") && text.contains(SECRET_KEY),
        NodeValue::List(items) => {
            let mut items = items.iter().map(|item| field.instead(item));
            items.any(mentions_secret)
        }
        NodeValue::Table(entries) => {
            let mut values = entries.iter().map(|entry| field.instead(&entry.node));
            values.any(mentions_secret)
        }
        _ => false,
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
            let form = if is_credential(entry.value) {
                Some(header_form(file, entry.value)?)
            } else {
                None
            };
            replace(&mut forms, name, form);
        }
        let (name, form) = header(file, auth.as_ref())?;
        replace(&mut forms, name, Some(form));
        Some(Self {
            info: info_of(&forms),
            form: CredentialForm::of_forms(forms),
        })
    }
}

fn info_of(forms: &[(HeaderName, HeaderForm)]) -> Vec<String> {
    let pieces = forms.iter().flat_map(|(_, form)| &form.pieces);
    let names = pieces.filter_map(CredentialPiece::info_name);
    names.map(str::to_owned).collect()
}

/// A header whose whole value is a template.
fn header_form(file: &ProxyFile<'_>, field: Field<'_>) -> Option<HeaderForm> {
    pieces(file, field).map(HeaderForm::of)
}

/// The header of `auth`: a rendered template, or the caller's header as it came.
fn header(file: &ProxyFile<'_>, auth: Option<&Table<'_>>) -> Option<(HeaderName, HeaderForm)> {
    let name = match auth.and_then(|auth| auth.said("headerName")) {
        Some(field) => header_name(field)?,
        None => AUTHORIZATION,
    };
    let template = auth.and_then(|auth| auth.said("credentialTemplate"));
    let (Some(auth), Some(template)) = (auth, template) else {
        return Some((name, HeaderForm::of(vec![CredentialPiece::Header])));
    };
    let form = HeaderForm {
        prefix: scheme(auth.text_said("scheme")),
        base64: auth.text_said("encode") != Some("none"),
        pieces: pieces(file, template)?,
    };
    Some((name, form))
}

fn header_name(field: Field<'_>) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(field.text()?.as_bytes()).ok();
    let name = name.filter(|name| !is_connection_header(name));
    name.or_else(|| field.reject("is not the name of a header for a credential"))
}

/// The pieces of a credential. Values that do not exist here are left out.
fn pieces(file: &ProxyFile<'_>, field: Field<'_>) -> Option<Vec<CredentialPiece>> {
    let mut pieces = Vec::new();
    for piece in ProxyTemplate::parse(field.text()?).0 {
        match piece {
            ProxyPiece::Text(text) => pieces.push(CredentialPiece::Text(text)),
            ProxyPiece::Slot(path) => {
                let named = piece_named(&path, &file.secret);
                pieces.extend(field.parsed(named)?);
            }
        }
    }
    if pieces.is_empty() {
        return field.reject("names nothing that is known here, so it would be empty");
    }
    Some(pieces)
}

/// The piece that a slot stands for. `None` if there is no such piece here.
fn piece_named(path: &Path, secret: &SecretKey) -> Result<Option<CredentialPiece>, String> {
    Ok(Some(
        match Variable::of(path).map_err(|error| error.to_string())? {
            Variable::Key => CredentialPiece::Key,
            Variable::Header => CredentialPiece::Header,
            Variable::Secret => CredentialPiece::Configured(secret.get()?),
            Variable::Host => CredentialPiece::Host,
            Variable::UserId => CredentialPiece::UserId,
            Variable::Info(name, below) => CredentialPiece::Info(name, below),
            Variable::Missing => return Ok(None),
            _ => return Err("is a credential, which cannot depend on the call".to_owned()),
        },
    ))
}

/// How the session shows parts of the credential to requests.
pub(super) fn shown_pieces(shown: &[CredentialVariable]) -> Vec<CredentialPiece> {
    shown.iter().map(CredentialPiece::from).collect()
}

impl From<&CredentialVariable> for CredentialPiece {
    fn from(part: &CredentialVariable) -> Self {
        match part {
            CredentialVariable::Key => Self::Key,
            CredentialVariable::Header => Self::Header,
        }
    }
}
