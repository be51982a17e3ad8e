//! Reads `[crm]`: where the CRM is, and what it allows.

use std::num::NonZeroU32;

use super::super::keys;
use super::super::name::{Name, Site};
use super::super::slot::{Template, TemplatePiece, TemplateSlot};
use super::field::Field;
use super::table::Table;
use crate::budget::{Quota, Quotas, Scope};
use crate::connector::base::{BaseForm, BasePiece, fixed_address};
use crate::connector::hosts::HostPattern;
use crate::connector::path::Path;

/// What `[crm]` says.
pub(super) struct CrmSection {
    pub(super) base: BaseForm,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) quotas: Quotas,
}

pub(super) fn crm(table: &Table<'_>) -> Option<CrmSection> {
    let hosts: Vec<HostPattern> = table.list_of("hosts", str::parse);
    let base = table.require("base", "needs base: the CRM's address");
    let base = base.and_then(base_form);
    if base.as_ref().is_some_and(BaseForm::is_named) && hosts.is_empty() {
        table.fault(
            "needs hosts, because callers choose a part of the address: hosts = [\"*.my-crm.com\"]",
        );
    }
    let quota = table.require("quota", "needs quota: the CRM's documented limit");
    let quotas = quota.and_then(quotas);
    Some(CrmSection {
        base: base?,
        hosts,
        quotas: quotas?,
    })
}

fn base_form(field: Field<'_>) -> Option<BaseForm> {
    let template = field.template(Site::Base)?;
    if let Some(address) = template.literal() {
        field.parsed(fixed_address(address))?;
        return Some(BaseForm::fixed(address));
    }
    let pieces = base_pieces(&template).map(BaseForm::of_pieces);
    pieces.or_else(|| field.reject("must not have filters"))
}

fn base_pieces(template: &Template) -> Option<Vec<BasePiece>> {
    template.0.iter().map(base_piece).collect()
}

fn base_piece(piece: &TemplatePiece) -> Option<BasePiece> {
    match piece {
        TemplatePiece::Text(text) => Some(BasePiece::Text(text.clone())),
        TemplatePiece::Slot(slot) => base_slot(slot),
    }
}

fn base_slot(slot: &TemplateSlot) -> Option<BasePiece> {
    match &slot.name {
        _ if slot.has_filters() || slot.each => None,
        Name::Host => Some(BasePiece::Host),
        Name::HostLabel => Some(BasePiece::HostLabel),
        Name::Info(name, below) => Some(BasePiece::Info(name.clone(), keys_of(below)?)),
        _ => None,
    }
}

/// The keys of a path that has only keys.
pub(super) fn keys_of(path: &Path) -> Option<Vec<String>> {
    let (mut keys, mut rest) = (Vec::new(), path.clone());
    while !rest.is_whole() {
        let (key, below) = rest.split_first_key()?;
        keys.push(key);
        rest = below;
    }
    Some(keys)
}

/// Reads a quota: the limits of all calls, and those of single kinds.
pub(super) fn quotas(field: Field<'_>) -> Option<Quotas> {
    let table = field.table(&[keys::QUOTA])?;
    let scopes = [("user", Scope::User), ("account", Scope::Account)];
    let scope = table.word("scope", &scopes).unwrap_or(Scope::User);
    let (concurrent, per_day) = (total(&table, "concurrent"), total(&table, "per_day"));
    let all = quota(&table, scope)?.with_totals(concurrent, per_day);
    let all = table.parsed(all)?;
    let of_kind = |key| quota(&table.table(key, &[keys::QUOTA_OF_KIND])?, scope);
    Some(Quotas {
        search: of_kind("search"),
        other: of_kind("other"),
        ..all.into()
    })
}

fn total(table: &Table<'_>, key: &str) -> Option<NonZeroU32> {
    let count = u32::try_from(table.count(key)?).ok()?;
    NonZeroU32::new(count)
}

fn quota(table: &Table<'_>, scope: Scope) -> Option<Quota> {
    let calls = |key| {
        let count = table.count(key)?;
        Some(u32::try_from(count).unwrap_or(u32::MAX))
    };
    let (Some(rate), Some(per)) = (calls("rate"), table.text("per")) else {
        return table.reject("needs rate and per, such as rate = 10, per = \"1s\"");
    };
    let per = table.get("per")?.parsed(humantime::parse_duration(per))?;
    let burst = calls("burst").unwrap_or(rate);
    table.parsed(Quota::new(rate, per, burst, scope, 0.5))
}
