//! Reads where the CRM is and what it allows: address, hosts, quota, credential, signals.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::super::keys;
use super::super::slot::{Name, Piece, Site, Slot, Template};
use super::super::tree::{Entry, Faults, Node, NodeValue};
use super::table::{Table, parsed, path, scalars, template, text};
use crate::budget::{Quota, Quotas, Scope};
use crate::connector::base::{BaseForm, BasePiece, fixed_address};
use crate::connector::credential::{CredentialForm, CredentialPiece, HeaderForm};
use crate::connector::headers::RateSignals;
use crate::connector::hosts::HostPattern;
use crate::connector::path::Path;
use crate::connector::reply_class::{ReplyClass, ReplyCondition, ReplyRule, ReplySign};
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

/// What `[crm]` says.
pub(super) struct CrmSection {
    pub(super) base: BaseForm,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) quotas: Quotas,
}

pub(super) fn crm(table: &Table<'_>, faults: &Faults) -> Option<CrmSection> {
    let hosts: Vec<HostPattern> = table.list_of("hosts", str::parse);
    let base = match table.get("base") {
        Some(node) => base(node, faults),
        None => {
            table.fault("needs base: the CRM's address");
            None
        }
    };
    if base.as_ref().is_some_and(BaseForm::is_named) && hosts.is_empty() {
        table.fault("needs hosts, because callers decide about a part of the address");
    }
    let quotas = match table.get("quota") {
        Some(node) => quotas(node, faults),
        None => {
            table.fault("needs quota: the CRM's documented limit");
            None
        }
    };
    Some(CrmSection {
        base: base?,
        hosts,
        quotas: quotas?,
    })
}

fn base(node: &Node, faults: &Faults) -> Option<BaseForm> {
    let template = template(node, Site::Base, faults)?;
    if let Some(address) = template.literal() {
        return match fixed_address(address) {
            Ok(_) => Some(BaseForm::Pieces(vec![BasePiece::Text(address.to_owned())])),
            Err(error) => {
                faults.add(&node.place, error.to_string());
                None
            }
        };
    }
    let pieces: Option<Vec<BasePiece>> = template.0.iter().map(base_piece).collect();
    let Some(pieces) = pieces else {
        faults.add(&node.place, "must not have filters");
        return None;
    };
    let is_host_alone = matches!(
        pieces.as_slice(),
        [BasePiece::Text(text), BasePiece::Host] if text == "https://"
    );
    Some(if is_host_alone {
        BaseForm::Host
    } else {
        BaseForm::Pieces(pieces)
    })
}

fn base_piece(piece: &Piece) -> Option<BasePiece> {
    let slot = match piece {
        Piece::Text(text) => return Some(BasePiece::Text(text.clone())),
        Piece::Slot(slot) => slot,
    };
    let is_plain = slot.filters.is_empty() && slot.pattern.is_none() && !slot.each;
    match &slot.name {
        _ if !is_plain => None,
        Name::Host => Some(BasePiece::Host),
        Name::HostLabel => Some(BasePiece::HostLabel),
        Name::Info(name, below) => Some(BasePiece::Info(name.clone(), keys_of(below)?)),
        _ => None,
    }
}

/// The keys of a path that has only keys.
fn keys_of(path: &Path) -> Option<Vec<String>> {
    let (mut keys, mut rest) = (Vec::new(), path.clone());
    while !rest.is_whole() {
        let (key, below) = rest.split_first_key()?;
        keys.push(key);
        rest = below;
    }
    Some(keys)
}

pub(super) fn quotas(node: &Node, faults: &Faults) -> Option<Quotas> {
    let table = Table::new(node, &[keys::QUOTA], faults)?;
    let scopes = [("user", Scope::User), ("account", Scope::Account)];
    let scope = table.word("scope", &scopes).unwrap_or(Scope::User);
    let all = quota(&table, scope, faults)?;
    let total = |key| {
        let count = table.count(key).and_then(|count| u32::try_from(count).ok());
        count.and_then(NonZeroU32::new)
    };
    let all = all.with_totals(total("concurrent"), total("per_day"));
    let all = all.map_err(|error| table.fault(error.to_string())).ok()?;
    let of_kind = |key| {
        let table = table.table(key, &[keys::QUOTA_OF_KIND])?;
        quota(&table, scope, faults)
    };
    Some(Quotas {
        search: of_kind("search"),
        other: of_kind("other"),
        ..all.into()
    })
}

fn quota(table: &Table<'_>, scope: Scope, faults: &Faults) -> Option<Quota> {
    let count = |key| {
        table
            .count(key)
            .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
    };
    let rate = count("rate");
    let per = table.text("per").map(humantime::parse_duration);
    let (Some(rate), Some(per)) = (rate, per) else {
        table.fault("needs rate and per, such as rate = 10, per = \"1s\"");
        return None;
    };
    let per: Duration = parsed(per, table.get("per")?, faults)?;
    let burst = count("burst").unwrap_or(rate);
    let quota = Quota::new(rate, per, burst, scope, 0.5);
    quota.map_err(|error| table.fault(error.to_string())).ok()
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
        let Ok(name) = name else {
            faults.add(&entry.place, "is not the name of a header");
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
            Name::Info(name, below) => Some(CredentialPiece::Info(name.clone(), keys_of(below)?)),
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

pub(super) fn rate(table: &Table<'_>, faults: &Faults) -> RateSignals {
    let header = |key: &str| {
        let node = table.get(key)?;
        let name = HeaderName::from_bytes(text(node, faults)?.as_bytes());
        parsed(
            name.map_err(|_| "is not the name of a header"),
            node,
            faults,
        )
    };
    RateSignals {
        remaining: header("remaining"),
        limit: header("limit"),
        reset: header("reset"),
    }
}

/// Reads one rule of `[[errors]]`.
pub(super) fn error_rule(node: &Node, faults: &Faults) -> Option<ReplyRule> {
    const CLASSES: [(&str, ReplyClass); 7] = [
        ("rate_limited", ReplyClass::RateLimited),
        ("unauthenticated", ReplyClass::Unauthenticated),
        ("forbidden", ReplyClass::Forbidden),
        ("unavailable", ReplyClass::Unavailable),
        ("bad_reply", ReplyClass::Bad),
        ("partial", ReplyClass::Partial),
        ("nothing", ReplyClass::Nobody),
    ];
    let table = Table::new(node, &[keys::ERRORS], faults)?;
    let statuses = table.get("status").map(|node| statuses(node, faults));
    let conditions = conditions(&table, faults);
    if table.has("not_json") && !conditions.is_empty() {
        table.fault("has not_json beside a condition on the body");
    }
    if statuses.is_none() && conditions.is_empty() {
        table.fault(
            "needs a condition: status, header, where, where_not, where_present or where_absent",
        );
    }
    let Some(class) = table.word("means", &CLASSES) else {
        if !table.has("means") {
            table.fault("needs means");
        }
        return None;
    };
    Some(ReplyRule {
        // Without a status the body of an answer decides.
        statuses: statuses.unwrap_or_else(|| vec![200..=200]).into(),
        sign: if table.switch("not_json") {
            ReplySign::NoJson
        } else if conditions.is_empty() {
            ReplySign::Any
        } else {
            ReplySign::All(conditions)
        },
        class,
    })
}

fn statuses(node: &Node, faults: &Faults) -> Vec<std::ops::RangeInclusive<u16>> {
    let status = |value: serde_json::Value| {
        let status = value.as_u64().and_then(|status| u16::try_from(status).ok());
        let status = status.filter(|status| (100..600).contains(status));
        if status.is_none() {
            faults.add(&node.place, "must be an HTTP status or a list of them");
        }
        status.map(|status| status..=status)
    };
    scalars(node, faults)
        .into_iter()
        .filter_map(status)
        .collect()
}

fn conditions(table: &Table<'_>, faults: &Faults) -> Vec<ReplyCondition> {
    let mut conditions = Vec::new();
    let entries = |key| {
        let table = table.get(key).and_then(|node| Table::open(node, faults));
        table.map_or(&[][..], |table| table.entries())
    };
    for entry in entries("header") {
        let name = HeaderName::from_bytes(entry.key.as_bytes());
        if let (Ok(name), Some(value)) = (name, text(&entry.node, faults)) {
            conditions.push(ReplyCondition::Header(name, value.to_owned()));
        }
    }
    for (key, is_not) in [("where", false), ("where_not", true)] {
        for entry in entries(key) {
            let path = Node {
                place: entry.place.clone(),
                value: NodeValue::Text(entry.key.clone()),
            };
            let Some(path) = super::table::path(&path, faults) else {
                continue;
            };
            let values = scalars(&entry.node, faults);
            conditions.push(if is_not {
                ReplyCondition::IsNot(path, values)
            } else {
                ReplyCondition::Is(path, values)
            });
        }
    }
    let paths = |key| match table.get(key) {
        None => Vec::new(),
        Some(Node {
            value: NodeValue::List(items),
            ..
        }) => items.iter().filter_map(|item| path(item, faults)).collect(),
        Some(node) => path(node, faults).into_iter().collect::<Vec<_>>(),
    };
    conditions.extend(
        paths("where_present")
            .into_iter()
            .map(ReplyCondition::Present),
    );
    conditions.extend(
        paths("where_absent")
            .into_iter()
            .map(ReplyCondition::Absent),
    );
    conditions
}
