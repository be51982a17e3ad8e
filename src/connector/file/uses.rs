//! What the requests of a plan read: their slots, and what of a number they depend on.

use super::name::Name;
use super::plan::{Argument, BodyNode, BodyPlan, NumberUse, RequestPlan};
use super::slot::{Slot, Template};

impl RequestPlan {
    /// Every slot of the request and of those before it.
    pub(super) fn slots(&self) -> Vec<&Slot> {
        let mut slots: Vec<&Slot> = Vec::new();
        let mut add = |template| slots.extend(Template::slots(template));
        self.path.iter().for_each(&mut add);
        self.headers.iter().for_each(|(_, template)| add(template));
        let each = self.each.iter().flat_map(|each| &each.values);
        each.for_each(&mut add);
        for (_, argument) in self.query.iter().chain(self.form_fields()) {
            match argument {
                Argument::One(template) => add(template),
                Argument::Many(templates) => templates.iter().for_each(&mut add),
            }
        }
        if let Some(BodyPlan::Json(node)) = &self.body {
            body_slots(node, &mut slots);
        }
        for before in &self.before {
            slots.extend(before.request.slots());
        }
        slots
    }

    /// The slots without which the request is not sent: all but those of a `for`'s values.
    pub(super) fn sent_slots(&self) -> Vec<&Slot> {
        let each = self.each.iter().flat_map(|each| &each.values);
        let of_each: Vec<&Slot> = each.flat_map(Template::slots).collect();
        let mut slots = self.slots();
        slots.retain(|slot| !of_each.iter().any(|each| std::ptr::eq(*each, *slot)));
        slots
    }

    fn form_fields(&self) -> &[(String, Argument)] {
        match &self.body {
            Some(BodyPlan::Form(fields)) => fields,
            _ => &[],
        }
    }

    /// What the request depends on.
    pub(super) fn depends(&self) -> NumberUse {
        let of_slot = |slot: &Slot| match slot.name {
            Name::Text => NumberUse::Text,
            Name::Number(_) => NumberUse::Number,
            Name::Numbers(_) | Name::Texts => NumberUse::Lists,
            _ => NumberUse::Nothing,
        };
        let uses = self.slots().into_iter().map(of_slot);
        uses.max().unwrap_or(NumberUse::Nothing)
    }
}

fn body_slots<'p>(node: &'p BodyNode, slots: &mut Vec<&'p Slot>) {
    match node {
        BodyNode::Literal(_) => {}
        BodyNode::Text(template) => slots.extend(template.slots()),
        BodyNode::List(items) => items.iter().for_each(|item| body_slots(item, slots)),
        BodyNode::Each(item) => body_slots(item, slots),
        BodyNode::Object(members) => members.iter().for_each(|(_, node)| body_slots(node, slots)),
    }
}
