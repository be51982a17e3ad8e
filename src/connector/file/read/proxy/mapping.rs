//! Reads `responseMapping`: where the list is, and what of an item becomes a contact.

use super::super::super::name::Name;
use super::super::super::plan::{RecordPlan, TextField};
use super::super::super::slot::{Template, TemplatePiece, TemplateSlot};
use super::super::table::Table;
use crate::connector::path::Path;

/// How an item is mapped.
pub(super) struct ItemPlan {
    pub(super) record: RecordPlan,
    pub(super) phone: Path,
}

/// Where the list is in the reply. App Connect puts the reply under `body`.
pub(super) fn list(mapping: &Table<'_>) -> Option<Path> {
    let Some(field) = mapping.said("listPath") else {
        return Some(Path::dotted(""));
    };
    let below = Path::dotted(field.text()?).below("body");
    let message = "must be body, or begin with \"body.\", because the reply is under body";
    below.or_else(|| field.reject(message))
}

/// Where the fields of a contact are in an item. A field whose path is not set is looked for at its
/// default path. If the path is set, the default is not used.
pub(super) fn item(mapping: &Table<'_>) -> Option<ItemPlan> {
    let item = match mapping.said("item") {
        Some(field) => Some(field.open()?),
        None => None,
    };
    let path = |field| item_path(item.as_ref(), field);
    let text = |field| TextField(vec![own(path(field))]);
    let mut kind = text("type");
    let default = TemplatePiece::Text("Contact".to_owned());
    kind.0.push(Template(vec![default]));
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

fn item_path(item: Option<&Table<'_>>, field: &str) -> Path {
    let set = item.and_then(|item| item.text_said(&format!("{field}Path")));
    Path::dotted(set.unwrap_or(field))
}

fn own(path: Path) -> Template {
    Template(vec![TemplatePiece::Slot(TemplateSlot {
        each: false,
        name: Name::Own(path),
        filters: Vec::new(),
        pattern: None,
    })])
}
