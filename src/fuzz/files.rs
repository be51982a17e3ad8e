//! Connector files in both languages, and the paths in them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::budget::{self, Budget};
use crate::clock::SystemClock;
use crate::connector::{
    CallLimits, Connector, ConnectorConfig, CrmClient, Dns, HttpClients, IdentitySource, Platform,
    Secrets, SpecKind, paths_are_sound, read_spec,
};
use crate::domain::KeyMaker;
use crate::metrics::Metrics;

/// More than a fault with its line and caret needs.
const LONGEST_FAULT: usize = 2 << 10;

/// More than all faults of a file together need, and more than a person reads.
const LONGEST_FAULTS: usize = 256 << 10;

/// A connector file in TOML, or App Connect's in JSON; after a zero byte, a reply to its requests.
pub fn connector_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (file, reply) = text.split_once('\0').unwrap_or((text, ""));
    let kind = if file.trim_start().starts_with('{') {
        SpecKind::Proxy
    } else {
        SpecKind::File
    };
    match read_spec(kind, file, Secrets::Any) {
        Ok(connector) => {
            let page = crate::cli::connector_page("x.toml", &connector.sheet());
            assert!(page.len() <= 16 * (file.len() + LONGEST_FAULT), "{page}");
            let _ = connector.reached();
            if let Ok(reply) = serde_json::from_str(reply) {
                connector.read_in_every_way(&reply);
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            let mut room = LONGEST_FAULTS;
            for fault in faults {
                let explained = fault.explain(file);
                assert!(explained.len() <= LONGEST_FAULT.min(room), "{explained}");
                room -= explained.len();
            }
        }
    }
}

/// A path, and after a zero byte the JSON in which it is looked up.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (path, json) = text.split_once('\0').unwrap_or((text, "null"));
    if let Ok(value) = serde_json::from_str::<Value>(json) {
        paths_are_sound(path, &value);
    }
}

/// The HTTP clients, which are slow to make.
static CLIENTS: LazyLock<Option<HttpClients>> =
    LazyLock::new(|| HttpClients::new(&Dns::system()).ok());

/// The connector at an address with a path, whatever the file says. Nothing is sent there.
///
/// # Panics
/// If TLS cannot be set up.
pub(crate) fn platform(connector: Arc<dyn Connector>) -> Platform {
    platform_at(connector, "https://crm.example.com/base".parse().ok())
}

/// The same at the address of the settings, or else at that of the file.
///
/// # Panics
/// If TLS cannot be set up.
pub(crate) fn platform_at(connector: Arc<dyn Connector>, base_url: Option<Url>) -> Platform {
    let quotas = connector.profile().quotas;
    let config = ConnectorConfig {
        name: "file".to_owned(),
        connector,
        base_url,
        allowed_hosts: Vec::new(),
        create_option: false,
        identity: IdentitySource::Crm,
        shared_login: None,
        regions: Vec::new(),
        quotas,
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
        CLIENTS.as_ref().map_or_else(
            || unreachable!("TLS is set up"),
            |clients| clients.egress(true),
        ),
        limits,
        Arc::new(budget),
        Arc::new(SystemClock::start()),
        &metrics,
        &config,
    );
    Platform::new(config, client, KeyMaker::new([7; 16]))
}
