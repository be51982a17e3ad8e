//! Reads `responseMapping`: where the list is, and what of an item becomes a contact.

use super::super::super::name::Name;
use super::super::super::plan::{RecordPlan, TextField};
use super::super::super::slot::{Piece, Slot, Template};
use super::super::super::tree::Faults;
use super::super::table::Table;
use crate::connector::path::Path;

/// How an item is mapped.
pub(super) struct ItemPlan {
    pub(super) record: RecordPlan,
    pub(super) phone: Path,
}

/// Where the list is in the reply. App Connect puts the reply under `body`.
pub(super) fn list(mapping: &Table<'_>, faults: &Faults) -> Option<Path> {
    let Some(node) = mapping.said("listPath") else {
        return Some(Path::dotted(""));
    };
    let path = Path::dotted(super::super::table::text(node, faults)?);
    let below = path.below("body");
    if below.is_none() {
        let message = "must be body, or begin with body.: the reply stands there";
        faults.add(&node.place, message);
    }
    below
}

/// What of an item is what. A path that is not set has a default; one that is set has none.
pub(super) fn item(mapping: &Table<'_>, faults: &Faults) -> Option<ItemPlan> {
    let item = match mapping.said("item") {
        Some(node) => Some(Table::open(node, faults)?),
        None => None,
    };
    let path = |field: &str| {
        let key = format!("{field}Path");
        let set = item.as_ref().and_then(|item| item.text_said(&key));
        Path::dotted(set.unwrap_or(field))
    };
    let text = |field| TextField(vec![own(path(field))]);
    let mut kind = text("type");
    kind.0
        .push(Template(vec![Piece::Text("Contact".to_owned())]));
    Some(ItemPlan {
        record: RecordPlan {
            id: text("id"),
            kind,
            name: text("name"),
            title: text("title"),
            company: text("company"),
            email: TextField::default(),
            created: text("createdDate"),
            last_activity: text("mostRecentActivityDate"),
            info: Vec::new(),
            info_at: Some(path("additionalInfo")),
        },
        phone: path("phone"),
    })
}

fn own(path: Path) -> Template {
    Template(vec![Piece::Slot(Slot {
        each: false,
        name: Name::Own(path),
        filters: Vec::new(),
        pattern: None,
    })])
}
