//! What a file's paths reach in replies.

use super::FileConnector;
use super::name::Name;
use super::plan::{
    DetailsList, RecordPlan, RequestPlan, SearchRequest, TextField, ValueField, ValueTemplate,
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
        let details = self.plan.details.iter();
        details
            .filter_map(|part| part.source.list())
            .for_each(|list| places.details(list));
        if let Some(whoami) = &self.plan.whoami {
            places.request(&whoami.request);
            places.add_all(&Row::whole(), [&whoami.user], Role::Id);
            places.add_all(&Row::whole(), &whoami.account, Role::Id);
        }
        let rules = self.profile.replies.iter();
        let compared = rules.flat_map(|rule| rule.sign.paths());
        places.add_all(&Row::whole(), compared, Role::Word);
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

impl Row {
    /// The steps to what stands below a row.
    fn below(&self, mut below: Vec<ReachStep>) -> Vec<ReachStep> {
        if self.is_table
            && let Some(ReachStep::Key(column)) = below.first().cloned()
        {
            below[0] = ReachStep::Column(column);
        }
        self.steps.iter().cloned().chain(below).collect()
    }
}

fn role_in_choice(name: &str) -> Role {
    match name {
        "const" => Role::Id,
        "status" => Role::Word,
        _ => Role::Text,
    }
}

impl ReachedPlaces {
    fn add_all<'p>(&mut self, row: &Row, paths: impl IntoIterator<Item = &'p Path>, role: Role) {
        let paths = paths.into_iter();
        paths.for_each(|path| self.add(row, path, role));
    }

    fn add(&mut self, row: &Row, path: &Path, role: Role) {
        for (n, below) in path.all_reached().into_iter().enumerate() {
            // All but the first are members that [key=value] compares: words, or names of fields.
            let role = if n == 0 { role } else { Role::Word };
            let steps = row.below(below);
            self.0.push(Reached { steps, role });
        }
    }

    /// What stands in the reply to a request, and in those to requests before it.
    fn request(&mut self, request: &RequestPlan) -> Row {
        for before in &request.before {
            self.request(&before.request);
            let taken = before.take.iter().map(|(_, path)| path);
            self.add_all(&Row::whole(), taken, Role::Id);
        }
        if let Some(pager) = &request.pager {
            self.pager(pager);
        }
        Row::of(&request.list)
    }

    fn pager(&mut self, pager: &Pager) {
        let whole = Row::whole();
        let (page, more) = match pager {
            Pager::LinkHeader => (None, None),
            Pager::Link { at } => (Some(at), None),
            Pager::Cursor { at, more, .. } => (Some(at), more.as_ref()),
            Pager::Offset { count, .. } | Pager::Page { count, .. } => (None, count.more.as_ref()),
        };
        self.add_all(&whole, page, Role::Page);
        self.add_all(&whole, more, Role::Word);
    }

    fn search(&mut self, search: &SearchRequest, kept: &[Path]) {
        let row = self.request(&search.request);
        self.add_all(&row, search.phones.iter().flatten(), Role::Phone);
        self.add_all(&row, kept, Role::Id);
        self.record(&row, &search.record);
    }

    fn record(&mut self, row: &Row, record: &RecordPlan) {
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
            self.texts(row, field, role);
        }
        for (_, field) in &record.info {
            self.values(row, field, Role::Text);
        }
    }

    fn details(&mut self, list: &DetailsList) {
        let row = self.request(&list.request);
        for (name, field) in &list.choice {
            self.values(&row, field, role_in_choice(name));
        }
        let owner = list.owner.as_ref().map(|owner| &owner.of);
        self.add_all(&row, owner, Role::Id);
        let dropped = list.drop.as_ref().map(|rule| &rule.at);
        self.add_all(&row, dropped, Role::Word);
    }

    fn texts(&mut self, row: &Row, field: &TextField, role: Role) {
        for template in &field.0 {
            self.template(row, template, role);
        }
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
