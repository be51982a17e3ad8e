//! What a file reads of a user. It becomes part of the key of stored answers.

use super::super::name::Name;
use super::super::plan::{DetailsList, DetailsRequest, Plan, SearchRequest, ValueField};
use super::super::slot::{TemplateSlot, settings_of};
use crate::connector::base::{BaseForm, BasePiece};
use crate::connector::path::Path;
use crate::connector::profile::Inputs;

/// Everything that can change an answer besides the question: what slots and paths read of the
/// user's settings and of the additional info.
pub(super) fn inputs(plan: &Plan, base: &BaseForm, mut names: InputNames) -> Inputs {
    for request in plan.requests() {
        request
            .slots()
            .iter()
            .for_each(|slot| names.add_asked(slot));
        let sent = request.sent_slots();
        for slot in sent {
            names.add_asked_setting(slot);
        }
    }
    plan.searches.iter().for_each(|it| names.add_search(it));
    plan.details.iter().for_each(|it| names.add_details(it));
    names.add_base(base);
    names.into()
}

/// The inputs that searches and details send to the CRM and `whoami` does not. If there are any,
/// the reply to `whoami` may be about another tenant. Empty if there is no `whoami`.
pub(super) fn unsaid_by_whoami(plan: &Plan, inputs: &Inputs) -> Vec<String> {
    let Some(whoami) = &plan.whoami else {
        return Vec::new();
    };
    let mut said = InputNames::default();
    for slot in whoami.request.slots() {
        said.add_asked(slot);
        said.add_asked_setting(slot);
    }
    let host = (inputs.host && !said.host).then(|| "host".to_owned());
    let fields = missing("info", &inputs.asked_info, &said.asked_info);
    let settings = missing("setting", &inputs.asked_settings, &said.asked_settings);
    host.into_iter().chain(fields).chain(settings).collect()
}

fn missing(kind: &str, asked: &[String], said: &[String]) -> impl Iterator<Item = String> {
    let missing = asked.iter().filter(|name| !said.contains(name));
    missing.map(move |name| format!("{kind}.{name}"))
}

/// Names of what a file reads of a user.
#[derive(Default)]
pub(super) struct InputNames {
    settings: Vec<String>,
    pub(super) info: Vec<String>,
    pub(super) required_info: Vec<String>,
    required_settings: Vec<String>,
    /// What requests read, besides the credential.
    pub(super) asked_info: Vec<String>,
    asked_settings: Vec<String>,
    /// Whether they read the host.
    pub(super) host: bool,
    required_host: bool,
}

impl InputNames {
    fn add_asked_setting(&mut self, slot: &TemplateSlot) {
        if let Name::Setting(name) = &slot.name {
            self.asked_settings.push(name.clone());
        }
    }

    /// A slot of a request.
    fn add_asked(&mut self, slot: &TemplateSlot) {
        self.add_slot(slot);
        match &slot.name {
            Name::Info(name, _) => self.asked_info.push(name.clone()),
            Name::Host | Name::HostLabel => (self.host, self.required_host) = (true, true),
            _ => {}
        }
    }

    pub(super) fn add_slot(&mut self, slot: &TemplateSlot) {
        self.add_settings(slot.settings());
        if let Name::Info(name, _) = &slot.name {
            self.info.push(name.clone());
        }
    }

    fn add_path(&mut self, path: &Path) {
        self.add_settings(settings_of(path));
    }

    fn add_settings(&mut self, names: Vec<&str>) {
        self.settings.extend(names.into_iter().map(str::to_owned));
    }

    fn add_search(&mut self, search: &SearchRequest) {
        for slot in search.request.sent_slots() {
            self.add_required(slot);
        }
        let phones = search.phones.iter().flatten();
        phones.for_each(|path| self.add_path(path));
        search.record.slots().for_each(|slot| self.add_slot(slot));
        let chosen = search.if_among.iter();
        self.settings.extend(chosen.map(|(name, _)| name.clone()));
    }

    /// Adds an input without which a search would make no request, so that it would seem to find
    /// nobody.
    fn add_required(&mut self, slot: &TemplateSlot) {
        match &slot.name {
            Name::Info(name, _) => self.required_info.push(name.clone()),
            Name::Setting(name) => self.required_settings.push(name.clone()),
            _ => {}
        }
    }

    fn add_details(&mut self, details: &DetailsRequest) {
        self.settings.extend(details.if_setting.clone());
        if let Some(list) = details.source.list() {
            self.add_choices(list);
        }
    }

    fn add_choices(&mut self, list: &DetailsList) {
        let unless = list
            .drop
            .as_ref()
            .and_then(|rule| rule.unless_setting.clone());
        self.settings.extend(unless);
        let fields = list.choice.iter().map(|(_, field)| field);
        let slots = fields.flat_map(ValueField::slots);
        slots.for_each(|slot| self.add_slot(slot));
    }

    fn add_base(&mut self, base: &BaseForm) {
        let BaseForm::Pieces(pieces) = base else {
            return;
        };
        for piece in pieces {
            if let BasePiece::Info(name, _) = piece {
                self.info.push(name.clone());
            }
        }
    }
}

impl From<InputNames> for Inputs {
    fn from(names: InputNames) -> Self {
        Self {
            settings: each_once(names.settings),
            info: each_once(names.info),
            asked_info: each_once(names.asked_info),
            asked_settings: each_once(names.asked_settings),
            host: names.host,
            required_host: names.required_host,
            required_info: each_once(names.required_info),
            required_settings: each_once(names.required_settings),
        }
    }
}

fn each_once(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}
