//! What a file reads of a user. It becomes part of the key of stored answers.

use super::super::name::Name;
use super::super::plan::{DetailsSource, Plan, RequestPlan, ValueField};
use super::super::slot::{Slot, settings_of};
use super::details_slots;
use crate::connector::base::{BaseForm, BasePiece};
use crate::connector::path::Path;
use crate::connector::profile::Inputs;

/// Everything that can change an answer besides the question: what slots and paths read of the
/// user's settings and of the additional info.
pub(super) fn inputs(plan: &Plan, base: &BaseForm, mut names: InputNames) -> Inputs {
    let whoami = plan.whoami.iter().flat_map(|whoami| whoami.request.slots());
    let searches = plan.searches.iter();
    let requests = searches.clone().flat_map(|search| search.request.slots());
    for slot in requests.chain(details_slots(plan)).chain(whoami) {
        names.add_slot(slot);
        names.add_asked(slot);
    }
    sent_slots(plan).for_each(|slot| names.add_asked_setting(slot));
    // Without its values a search would make no request, and nobody would seem to be there.
    let searched = searches
        .clone()
        .flat_map(|search| search.request.sent_slots());
    for slot in searched {
        match &slot.name {
            Name::Info(name, _) => names.required_info.push(name.clone()),
            Name::Setting(name) => names.required_settings.push(name.clone()),
            _ => {}
        }
    }
    for search in searches {
        search
            .phones
            .iter()
            .flatten()
            .for_each(|path| names.add_path(path));
        search.record.slots().for_each(|slot| names.add_slot(slot));
        let chosen = search.if_among.iter();
        names.settings.extend(chosen.map(|(name, _)| name.clone()));
    }
    for details in &plan.details {
        names.settings.extend(details.if_setting.clone());
        if let DetailsSource::Request(list) = &details.source {
            let rule = list.drop.iter();
            names
                .settings
                .extend(rule.filter_map(|rule| rule.unless_setting.clone()));
            let fields = list.choice.iter().map(|(_, field)| field);
            fields
                .flat_map(ValueField::slots)
                .for_each(|slot| names.add_slot(slot));
        }
    }
    if let BaseForm::Pieces(pieces) = base {
        for piece in pieces {
            if let BasePiece::Info(name, _) = piece {
                names.info.push(name.clone());
            }
        }
    }
    names.sorted()
}

/// The slots of all requests, without those of a `for`'s values, which choose among fields and name no tenant.
fn sent_slots(plan: &Plan) -> impl Iterator<Item = &Slot> {
    let searches = plan.searches.iter().map(|search| &search.request);
    let details = plan.details.iter().filter_map(|part| match &part.source {
        DetailsSource::Request(list) => Some(&list.request),
        DetailsSource::Fixed(_) => None,
    });
    let whoami = plan.whoami.iter().map(|whoami| &whoami.request);
    let requests = searches.chain(details).chain(whoami);
    requests.flat_map(RequestPlan::sent_slots)
}

/// What the searches and details say to the CRM and `whoami` does not: then its reply is not about
/// the same tenant. Empty if there is no `whoami`.
pub(super) fn unsaid_by_whoami(plan: &Plan, inputs: &Inputs) -> Vec<String> {
    let Some(whoami) = &plan.whoami else {
        return Vec::new();
    };
    let mut said = InputNames::default();
    for slot in whoami.request.slots() {
        said.add_asked(slot);
        said.add_asked_setting(slot);
    }
    let fields = inputs.asked_info.iter();
    let fields = fields.filter(|name| !said.asked_info.contains(name));
    let settings = inputs.asked_settings.iter();
    let settings = settings.filter(|name| !said.asked_settings.contains(name));
    let host = (inputs.host && !said.host).then(|| "host".to_owned());
    host.into_iter()
        .chain(fields.map(|name| format!("info.{name}")))
        .chain(settings.map(|name| format!("setting.{name}")))
        .collect()
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
    fn add_asked_setting(&mut self, slot: &Slot) {
        if let Name::Setting(name) = &slot.name {
            self.asked_settings.push(name.clone());
        }
    }

    fn add_asked(&mut self, slot: &Slot) {
        match &slot.name {
            Name::Info(name, _) => self.asked_info.push(name.clone()),
            Name::Host | Name::HostLabel => (self.host, self.required_host) = (true, true),
            _ => {}
        }
    }

    pub(super) fn add_slot(&mut self, slot: &Slot) {
        self.settings
            .extend(slot.settings().into_iter().map(str::to_owned));
        if let Name::Info(name, _) = &slot.name {
            self.info.push(name.clone());
        }
    }

    fn add_path(&mut self, path: &Path) {
        self.settings
            .extend(settings_of(path).into_iter().map(str::to_owned));
    }

    fn sorted(self) -> Inputs {
        let each_once = |mut names: Vec<String>| {
            names.sort();
            names.dedup();
            names
        };
        Inputs {
            settings: each_once(self.settings),
            info: each_once(self.info),
            asked_info: each_once(self.asked_info),
            asked_settings: each_once(self.asked_settings),
            host: self.host,
            required_host: self.required_host,
            required_info: each_once(self.required_info),
            required_settings: each_once(self.required_settings),
        }
    }
}
