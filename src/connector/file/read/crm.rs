//! Reads `[crm]`: where the CRM is, and what it allows.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::keys;
use super::super::name::{Name, Site};
use super::super::slot::Piece;
use super::super::tree::{Faults, Node};
use super::table::{Table, parsed, template};
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

pub(super) fn crm(table: &Table<'_>, faults: &Faults) -> Option<CrmSection> {
    let hosts: Vec<HostPattern> = table.list_of("hosts", str::parse);
    let base = if let Some(node) = table.get("base") {
        base(node, faults)
    } else {
        table.fault("needs base: the CRM's address");
        None
    };
    if base.as_ref().is_some_and(BaseForm::is_named) && hosts.is_empty() {
        table.fault("needs hosts, because callers decide about a part of the address: hosts = [\"*.my-crm.com\"]");
    }
    let quotas = if let Some(node) = table.get("quota") {
        quotas(node, faults)
    } else {
        table.fault("needs quota: the CRM's documented limit");
        None
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
pub(super) fn keys_of(path: &Path) -> Option<Vec<String>> {
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
