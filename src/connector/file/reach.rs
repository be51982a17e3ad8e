//! What a file's paths reach in replies.

use super::FileConnector;
use super::name::Name;
use super::plan::{
    DetailsSource, RequestPlan, SearchRequest, TextField, ValueField, ValueTemplate,
};
use super::slot::Template;
use crate::connector::failures::failures;
use crate::connector::pages::Pager;
use crate::connector::path::Path;
use crate::connector::reach::{ReachStep, Reached, Role};
use crate::connector::success::{ListForm, ListShape};

/// Collects places.
#[derive(Default)]
struct ReachedPlaces(Vec<Reached>);

impl FileConnector {
    /// Every place of a reply that the file reads.
    pub(super) fn reached_places(&self) -> Vec<Reached> {
        let mut places = ReachedPlaces(failures());
        for search in &self.plan.searches {
            places.search(search, &self.plan.kept);
        }
        for part in &self.plan.details {
            let DetailsSource::Request(list) = &part.source else {
                continue;
            };
            let row = places.request(&list.request);
            for (name, field) in &list.choice {
                let role = match name.as_str() {
                    "const" => Role::Id,
                    "status" => Role::Word,
                    _ => Role::Text,
                };
                places.values(&row, field, role);
            }
            let owner = list.owner.iter().map(|owner| (&owner.of, Role::Id));
            let dropped = list.drop.iter().map(|rule| (&rule.at, Role::Word));
            owner
                .chain(dropped)
                .for_each(|(path, role)| places.add(&row, path, role));
        }
        if let Some(whoami) = &self.plan.whoami {
            places.request(&whoami.request);
            for path in [Some(&whoami.user), whoami.account.as_ref()]
                .into_iter()
                .flatten()
            {
                places.add(&Row::whole(), path, Role::Id);
            }
        }
        for path in self
            .profile
            .replies
            .iter()
            .flat_map(|rule| rule.sign.paths())
        {
            places.add(&Row::whole(), path, Role::Word);
        }
        places.0
    }
}

/// Where the rows of a list are, and whether they are rows of cells.
struct Row {
    steps: Vec<ReachStep>,
    is_table: bool,
}

impl Row {
    fn whole() -> Self {
        Self {
            steps: Vec::new(),
            is_table: false,
        }
    }

    fn of(list: &ListForm) -> Self {
        let mut steps = list.list.reach();
        let ends_in_item = steps.last() == Some(&ReachStep::Item);
        let (_, below) = list.list.split_at_each();
        if list.shape != ListShape::One && !ends_in_item && below.is_none() {
            steps.push(ReachStep::Item);
        }
        Self {
            steps,
            is_table: list.shape == ListShape::Table,
        }
    }
}

impl ReachedPlaces {
    fn add(&mut self, row: &Row, path: &Path, role: Role) {
        for (n, mut below) in path.all_reached().into_iter().enumerate() {
            if row.is_table
                && let Some(ReachStep::Key(column)) = below.first().cloned()
            {
                below[0] = ReachStep::Column(column);
            }
            // The members that [key=value] compares are words or names of fields.
            let role = if n == 0 { role } else { Role::Word };
            let steps = row.steps.iter().cloned().chain(below).collect();
            self.0.push(Reached { steps, role });
        }
    }

    /// What stands in the reply to a request, and in those to requests before it.
    fn request(&mut self, request: &RequestPlan) -> Row {
        for before in &request.before {
            self.request(&before.request);
            for (_, path) in &before.take {
                self.add(&Row::whole(), path, Role::Id);
            }
        }
        let whole = Row::whole();
        match &request.pager {
            Some(Pager::Link { at }) => self.add(&whole, at, Role::Page),
            Some(Pager::Cursor { at, more, .. }) => {
                self.add(&whole, at, Role::Page);
                if let Some(more) = more {
                    self.add(&whole, more, Role::Word);
                }
            }
            Some(Pager::Offset { count, .. } | Pager::Page { count, .. }) => {
                let more = count.more.iter();
                more.for_each(|more| self.add(&whole, more, Role::Word));
            }
            Some(Pager::LinkHeader) | None => {}
        }
        Row::of(&request.list)
    }

    fn search(&mut self, search: &SearchRequest, kept: &[Path]) {
        let row = self.request(&search.request);
        let phones = search.phones.iter().flatten();
        phones.for_each(|path| self.add(&row, path, Role::Phone));
        for path in kept {
            self.add(&row, path, Role::Id);
        }
        let record = &search.record;
        for (field, role) in [
            (&record.id, Role::Id),
            (&record.kind, Role::Word),
            (&record.name, Role::Text),
            (&record.title, Role::Text),
            (&record.company, Role::Text),
            (&record.email, Role::Email),
            (&record.created, Role::Time),
            (&record.last_activity, Role::Time),
        ] {
            self.texts(&row, field, role);
        }
        for (_, field) in &record.info {
            self.values(&row, field, Role::Text);
        }
    }

    fn texts(&mut self, row: &Row, field: &TextField, role: Role) {
        field
            .0
            .iter()
            .for_each(|template| self.template(row, template, role));
    }

    fn values(&mut self, row: &Row, field: &ValueField, role: Role) {
        for value in &field.0 {
            if let ValueTemplate::Text(template) = value {
                self.template(row, template, role);
            }
        }
    }

    fn template(&mut self, row: &Row, template: &Template, role: Role) {
        for slot in template.slots() {
            if let Name::Own(path) = &slot.name {
                self.add(row, path, role);
            }
        }
    }
}
