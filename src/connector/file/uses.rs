//! What the requests of a plan read: their slots, and what of a number they depend on.

use std::num::NonZeroUsize;

use super::name::Name;
use super::plan::{
    Argument, BodyNode, BodyPlan, DetailsList, NumberUse, Plan, RequestPlan, SearchRequest,
};
use super::slot::{Template, TemplateSlot};
use crate::connector::path::Path;
use crate::connector::request::{ReadByPost, ReadMethod};

/// How many contacts one request for details serves at most.
const CONTACTS_AT_ONCE: NonZeroUsize = NonZeroUsize::new(25).unwrap();

impl Plan {
    /// Its requests, without their `before` requests.
    pub(super) fn requests(&self) -> impl Iterator<Item = &RequestPlan> {
        let searches = self.searches.iter().map(|search| &search.request);
        let details = self.details_lists().map(|list| &list.request);
        let whoami = self.whoami.iter().map(|whoami| &whoami.request);
        searches.chain(details).chain(whoami)
    }

    fn details_lists(&self) -> impl Iterator<Item = &DetailsList> {
        self.details.iter().filter_map(|part| part.source.list())
    }

    /// The paths whose values in a record details need later.
    pub(super) fn kept_paths(&self) -> Vec<Path> {
        let mut paths: Vec<Path> = Vec::new();
        let slots = self.details_lists().flat_map(|list| list.request.slots());
        for path in slots.filter_map(|slot| slot.name.record_path()) {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        paths
    }

    /// How many numbers one call may ask for: what the smallest batch of the searches allows.
    pub(super) fn numbers_at_once(&self) -> NonZeroUsize {
        let least = self.searches.iter().map(SearchRequest::numbers).min();
        NonZeroUsize::new(least.unwrap_or(1)).unwrap_or(NonZeroUsize::MIN)
    }

    /// Contacts are enriched together if a request serves several.
    pub(super) fn contacts_at_once(&self) -> NonZeroUsize {
        if self.details_lists().any(DetailsList::serves_several) {
            CONTACTS_AT_ONCE
        } else {
            NonZeroUsize::MIN
        }
    }

    /// Whether the number of contacts does not change the number of calls.
    pub(super) fn shares_details(&self) -> bool {
        let mut parts = self.details.iter();
        parts.all(|part| part.source.serves_several())
    }

    /// The paths of its POSTs.
    pub(super) fn reads_by_post(&self) -> Vec<ReadByPost> {
        let requests = self.requests().flat_map(RequestPlan::with_before);
        requests.filter_map(RequestPlan::read_by_post).collect()
    }
}

impl SearchRequest {
    /// How many numbers one call may ask for.
    fn numbers(&self) -> usize {
        self.batch.map_or(1, |batch| batch.values)
    }
}

impl RequestPlan {
    /// Its path, if it is a POST.
    fn read_by_post(&self) -> Option<ReadByPost> {
        let is_post = self.method == ReadMethod::ReadByPost;
        is_post.then(|| ReadByPost(self.path_form()))
    }

    /// The requests before it, and itself.
    pub(super) fn with_before(&self) -> impl Iterator<Item = &Self> {
        let before = self.before.iter().map(|before| &before.request);
        before.chain([self])
    }

    /// Every slot of the request and of those before it.
    pub(super) fn slots(&self) -> Vec<&TemplateSlot> {
        let headers = self.headers.iter().map(|(_, template)| template);
        let arguments = self.query.iter().chain(self.form_fields());
        let arguments = arguments.flat_map(|(_, argument)| argument.templates());
        let templates = self.path.iter().chain(headers).chain(self.each_templates());
        let templates = templates.chain(arguments);
        let mut slots: Vec<&TemplateSlot> = templates.flat_map(Template::slots).collect();
        if let Some(BodyPlan::Json(node)) = &self.body {
            body_slots(node, &mut slots);
        }
        for before in &self.before {
            slots.extend(before.request.slots());
        }
        slots
    }

    /// The templates of a `for`'s values.
    pub(super) fn each_templates(&self) -> impl Iterator<Item = &Template> {
        self.each.iter().flat_map(|each| &each.values)
    }

    /// The slots without which the request is not sent: all but those of a `for`'s values.
    pub(super) fn sent_slots(&self) -> Vec<&TemplateSlot> {
        let of_each: Vec<&TemplateSlot> = self.each_templates().flat_map(Template::slots).collect();
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
        let slots = self.slots().into_iter();
        let uses = slots.map(|slot| slot.name.number_use());
        uses.max().unwrap_or(NumberUse::Nothing)
    }
}

impl Name {
    /// Which part of a number it speaks of.
    fn number_use(&self) -> NumberUse {
        match self {
            Self::Text => NumberUse::Text,
            Self::Number(_) => NumberUse::Number,
            Self::Numbers(_) | Self::Texts => NumberUse::Lists,
            _ => NumberUse::Nothing,
        }
    }
}

fn body_slots<'p>(node: &'p BodyNode, slots: &mut Vec<&'p TemplateSlot>) {
    match node {
        BodyNode::Literal(_) => {}
        BodyNode::Text(template) => slots.extend(template.slots()),
        BodyNode::List(items) => items.iter().for_each(|item| body_slots(item, slots)),
        BodyNode::Each(item) => body_slots(item, slots),
        BodyNode::Object(members) => members.iter().for_each(|(_, node)| body_slots(node, slots)),
    }
}
