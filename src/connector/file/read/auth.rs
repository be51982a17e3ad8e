//! Reads `[auth]`: how a credential is put into headers, and how a token is fetched.

use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, HeaderName};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::super::keys;
use super::super::name::{Name, Site};
use super::super::slot::{Template, TemplatePiece, TemplateSlot};
use super::super::tree::Faults;
use super::connection::is_own;
use super::crm::keys_of;
use super::field::{Field, TableEntry};
use super::table::Table;
use crate::connector::base::fixed_address;
use crate::connector::credential::{CredentialForm, CredentialPiece, HeaderForm};
use crate::connector::path::Path;
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

    /// The secret that a template needs.
    fn needed_by(self, field: Field<'_>, name: &str) -> Option<SecretString> {
        let message = || format!("needs the setting secrets.{name} of this connector");
        self.get(name).or_else(|| field.reject(message()))
    }
}

/// What `[auth]` says.
pub(super) struct AuthSection {
    pub(super) credential: Option<CredentialForm>,
    pub(super) token: Option<TokenRequest>,
    /// What the credential and the token are made of.
    pub(super) slots: Vec<TemplateSlot>,
}

impl AuthSection {
    /// Reads the table. Without it the caller's header goes out as it came.
    pub(super) fn read(table: Option<&Table<'_>>, secrets: Secrets<'_>) -> Self {
        let Some(table) = table else {
            return Self {
                credential: Some(CredentialForm::authorization()),
                token: None,
                slots: Vec::new(),
            };
        };
        Self {
            credential: credential(table, secrets),
            token: token(table, secrets),
            slots: slots(table),
        }
    }

    /// The names of the secrets in it.
    pub(super) fn secret_names(&self) -> Vec<String> {
        let names = self.slots.iter().filter_map(|slot| slot.name.secret());
        names.map(str::to_owned).collect()
    }
}

fn credential(table: &Table<'_>, secrets: Secrets<'_>) -> Option<CredentialForm> {
    let reader = HeaderReader::of(table, secrets);
    let forms = match (table.get("value"), table.get("headers")) {
        (Some(value), _) => vec![(AUTHORIZATION, reader.form(value)?)],
        (None, Some(headers)) => {
            let entries: Vec<_> = headers.open()?.entries().collect();
            if entries.is_empty() {
                return headers.reject("has no header, so no credential would be sent");
            }
            let forms = entries.into_iter();
            forms.filter_map(|entry| reader.header(entry)).collect()
        }
        (None, None) => return table.reject("needs value or headers"),
    };
    Some(CredentialForm::of_forms(forms))
}

/// Reads headers that are made of the credential.
struct HeaderReader<'a> {
    base64: bool,
    has_token: bool,
    scheme: String,
    secrets: Secrets<'a>,
}

impl<'a> HeaderReader<'a> {
    fn of(table: &Table<'_>, secrets: Secrets<'a>) -> Self {
        Self {
            base64: table.word("encode", &[("base64", ())]).is_some(),
            has_token: table.has("token"),
            scheme: scheme(table.text("scheme")),
            secrets,
        }
    }

    fn header(&self, entry: TableEntry<'_>) -> Option<(HeaderName, HeaderForm)> {
        let name = HeaderName::from_bytes(entry.key.as_bytes());
        let Some(name) = name.ok().filter(may_hold_credential) else {
            return entry.reject("is not a header that a credential may be in");
        };
        Some((name, self.form(entry.value)?))
    }

    fn form(&self, field: Field<'_>) -> Option<HeaderForm> {
        let template = field.template(Site::Auth)?;
        let pieces = template.0.iter().map(|piece| self.piece(piece, field));
        Some(HeaderForm {
            prefix: self.scheme.clone(),
            base64: self.base64,
            pieces: pieces.collect::<Option<_>>()?,
        })
    }

    fn piece(&self, piece: &TemplatePiece, field: Field<'_>) -> Option<CredentialPiece> {
        match piece {
            TemplatePiece::Text(text) => Some(CredentialPiece::Text(text.clone())),
            TemplatePiece::Slot(slot) if slot.has_filters() => {
                field.reject("must not have filters")
            }
            TemplatePiece::Slot(slot) => self.named(&slot.name, field),
        }
    }

    fn named(&self, name: &Name, field: Field<'_>) -> Option<CredentialPiece> {
        match name {
            Name::Secret(name) => {
                let secret = self.secrets.needed_by(field, name);
                secret.map(CredentialPiece::Configured)
            }
            Name::Info(name, below) => info(name, below, field),
            Name::Host => Some(CredentialPiece::Host),
            Name::Token => self.token(field),
            Name::Credential => Some(CredentialPiece::Secret),
            Name::Header => Some(CredentialPiece::Header),
            _ => None,
        }
    }

    fn token(&self, field: Field<'_>) -> Option<CredentialPiece> {
        if self.base64 || !self.has_token {
            return field.reject("needs [auth.token], and cannot be used together with encode");
        }
        Some(CredentialPiece::Fetched)
    }
}

/// A scheme as it stands before a credential.
pub(super) fn scheme(scheme: Option<&str>) -> String {
    scheme.map_or_else(String::new, |scheme| format!("{scheme} "))
}

fn may_hold_credential(name: &HeaderName) -> bool {
    *name == AUTHORIZATION || !is_own(name.as_str())
}

fn info(name: &str, below: &Path, field: Field<'_>) -> Option<CredentialPiece> {
    let Some(keys) = keys_of(below) else {
        return field.reject("must have only keys in info.PATH, as in info.account.id");
    };
    Some(CredentialPiece::Info(name.to_owned(), keys))
}

/// Reads `[auth.token]`.
fn token(auth: &Table<'_>, secrets: Secrets<'_>) -> Option<TokenRequest> {
    let table = auth.table("token", &[keys::TOKEN])?;
    let (Some(address), Some(form)) = (table.text("post"), table.get("form")) else {
        return table.reject("needs post, the address that gives tokens, and form");
    };
    let url = table.get("post")?.parsed(fixed_address(address))?;
    let field = |entry: TableEntry<'_>| {
        let text = secret_text(entry.value, secrets)?;
        Some((entry.key.to_owned(), text))
    };
    Some(TokenRequest {
        url,
        form: form.open()?.entries().filter_map(field).collect(),
    })
}

/// A text with secrets in it.
fn secret_text(field: Field<'_>, secrets: Secrets<'_>) -> Option<SecretString> {
    let template = field.template(Site::Auth)?;
    let mut joined = Zeroizing::new(String::new());
    for piece in &template.0 {
        match piece {
            TemplatePiece::Text(text) => joined.push_str(text),
            TemplatePiece::Slot(slot) => {
                if let Some(secret) = secret_of(&slot.name, field, secrets) {
                    joined.push_str(secret.expose_secret());
                }
            }
        }
    }
    Some(SecretString::from(joined.as_str()))
}

fn secret_of(name: &Name, field: Field<'_>, secrets: Secrets<'_>) -> Option<SecretString> {
    match name {
        Name::Secret(name) => secrets.needed_by(field, name),
        _ => field.reject("may only have secret.NAME in its slots"),
    }
}

/// The slots of the credential and of the token. Their faults are reported where they are used.
fn slots(table: &Table<'_>) -> Vec<TemplateSlot> {
    let token = table.get("token").and_then(Field::open);
    let form = token.map_or_else(Vec::new, |token| token.entries_of("form"));
    let entries = form.into_iter().chain(table.entries_of("headers"));
    let values = entries.map(|entry| entry.value);
    let fields = table.get("value").into_iter().chain(values);
    fields.flat_map(slots_of).collect()
}

fn slots_of(field: Field<'_>) -> Vec<TemplateSlot> {
    let quiet = Faults::default();
    let template = Field::new(field.node(), &quiet).template(Site::Auth);
    let slots = template.iter().flat_map(Template::slots);
    slots.cloned().collect()
}
