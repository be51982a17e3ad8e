//! What must hold for every embedded file: no value leaves its place in a request, and
//! everything that it reads of a user separates stored answers.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::FileConnector;
use super::plan::RequestPlan;
use super::read::{Secrets, SpecKind, read_spec};
use crate::connector::{Connector, CrmSession, Platform, embedded, kinds};
use crate::domain::json::to_struct;
use crate::domain::user::{AdditionalInfo, Settings};
use crate::domain::{AuthHeader, Host, Lane, User};
use crate::trace::Span;
use crate::urgency::Urgency;

mod inputs;
mod requests;
mod sheets;

/// Every embedded file.
fn files() -> impl Iterator<Item = (&'static str, Arc<FileConnector>)> {
    kinds().filter_map(|kind| {
        let connector = read_spec(SpecKind::File, embedded(kind)?, Secrets::Any);
        Some((kind, connector.expect(kind)))
    })
}

/// The connector at an address with a path, whatever the file says.
fn platform(connector: &Arc<FileConnector>) -> Platform {
    crate::fuzz::platform(Arc::clone(connector) as Arc<dyn Connector>)
}

fn session(kind: &str, connector: &Arc<FileConnector>) -> CrmSession {
    let platform = platform(connector);
    let inputs = &platform.profile().inputs;
    // A credential may be made of info; its values are not what is tried here.
    let info = filled_info(kind, &inputs.info, "x");
    let user = User {
        id: "1".to_owned(),
        account: String::new(),
        host: Host::parse("crm.example.com"),
        region: None,
        settings: Settings::default(),
        info: AdditionalInfo::only(&to_struct(&info), &inputs.info),
    };
    let auth = AuthHeader::parse("Bearer t0k3n").unwrap();
    let tag = platform.auth_tag(&user, &auth);
    let urgency = Arc::new(Urgency::new(Lane::CallPop, None));
    platform
        .session(&user, (&auth, tag), None, urgency, Span::default())
        .unwrap()
}

/// Fields of the info with this text, or with objects that have it where the file reads below them.
fn filled_info(kind: &str, names: &[String], text: &str) -> Map<String, Value> {
    let source = embedded(kind).unwrap();
    let value = |name: &String| {
        let below = source.split(&format!("info.{name}.")).nth(1);
        let key = below.and_then(|below| {
            below
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
        });
        match key {
            Some(key) => Value::Object(Map::from_iter([(key.to_owned(), text.into())])),
            None => text.into(),
        }
    };
    names
        .iter()
        .map(|name| (name.clone(), value(name)))
        .collect()
}
