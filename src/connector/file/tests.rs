//! What must hold for every embedded file: no value leaves its place in a request, no reply does
//! harm, and everything that it reads of a user separates stored answers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::FileConnector;
use super::plan::{DetailsSource, RequestPlan};
use super::read::{Secrets, SpecKind, read_spec};
use crate::budget::{self, Budget};
use crate::clock::SystemClock;
use crate::connector::{
    CallLimits, Connector, ConnectorConfig, CrmClient, CrmSession, Dns, HttpClients,
    IdentitySource, Platform, embedded, kinds,
};
use crate::domain::json::to_struct;
use crate::domain::user::{AdditionalInfo, Settings};
use crate::domain::{AuthHeader, Host, KeyMaker, Lane, User};
use crate::metrics::Metrics;
use crate::trace::Span;
use crate::urgency::Urgency;

mod inputs;
mod replies;
mod requests;

/// Every embedded file.
fn files() -> impl Iterator<Item = (&'static str, Arc<FileConnector>)> {
    kinds().filter_map(|kind| {
        let connector = read_spec(SpecKind::File, embedded(kind)?, Secrets::Any);
        Some((kind, connector.expect(kind)))
    })
}

impl FileConnector {
    /// Every request of the file, those before others included.
    fn requests(&self) -> Vec<&RequestPlan> {
        let searches = self.plan.searches.iter().map(|search| &search.request);
        let details = self
            .plan
            .details
            .iter()
            .filter_map(|part| match &part.source {
                DetailsSource::Request(list) => Some(&list.request),
                DetailsSource::Fixed(_) => None,
            });
        let whoami = self.plan.whoami.iter().map(|whoami| &whoami.request);
        let all = searches.chain(details).chain(whoami);
        all.flat_map(|request| {
            let before = request.before.iter().map(|before| &before.request);
            before.chain([request])
        })
        .collect()
    }
}

/// The connector at an address with a path, whatever the file says.
fn platform(connector: &Arc<FileConnector>) -> Platform {
    let config = ConnectorConfig {
        name: "file".to_owned(),
        connector: Arc::clone(connector) as Arc<dyn Connector>,
        base_url: Some("https://crm.example.com/base".parse().unwrap()),
        allowed_hosts: Vec::new(),
        create_option: false,
        identity: IdentitySource::Crm,
        shared_login: None,
        regions: Vec::new(),
        quotas: connector.profile().quotas,
    };
    let limits = CallLimits {
        call_timeout: Duration::from_secs(5),
        reply_bytes: 1 << 20,
        pages: 3,
        contacts: 25,
        concurrent_calls: 4,
    };
    let metrics = Arc::new(Metrics::default());
    let budgets = budget::BudgetConfig::default();
    let budget = Budget::new(config.quotas, &budgets, "file", &metrics, None);
    let client = CrmClient::new(
        HttpClients::new(&Dns::system()).unwrap().egress(true),
        limits,
        Arc::new(budget),
        Arc::new(SystemClock::start()),
        &metrics,
        &config,
    );
    Platform::new(config, client, KeyMaker::new([7; 16]))
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
