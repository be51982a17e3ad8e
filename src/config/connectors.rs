//! Sections `connectors.NAME`.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use url::{Host, Url};

use super::files::spec_file;
use super::quotas::{QUOTA, quotas};
use super::secret::{SECRET, secret};
use super::section::Section;
use super::shared_login::{check_shared_login, shared_login};
use crate::connector::{
    BaseForm, Connector, ConnectorConfig, HostPattern, IdentitySource, Secrets, SpecFault,
    SpecKind, built_in, embedded, kinds, read_spec, secret_names,
};
use crate::domain::Region;

pub(super) fn connector(name: &str, section: &mut Section<'_>) -> Option<ConnectorConfig> {
    let kinds: Vec<&str> = kinds().chain(FILE_KINDS).collect();
    let kind = section.one_of("kind", &kinds);
    let read = connector_of(kind.as_deref(), section);
    // If there is no connector, the section is still checked for other faults, with the first
    // kind's defaults.
    let is_known = read.is_some();
    let connector = match read {
        Some(connector) => connector,
        None => built_in(kinds[0], Secrets::Any)?.ok()?,
    };
    let profile = Arc::clone(connector.profile());
    let base_url = section.optional("base_url", base_url);
    warn_if_unencrypted(base_url.as_ref(), section);
    let allowed_hosts = allowed_hosts(&profile.hosts, section);
    let create_option = section.switch("create_option", true);
    let identity = identity(section);
    let shared_login = shared_login(section);
    let regions = regions(section);
    let quotas = section.nested_as("quota", QUOTA, |section| quotas(profile.quotas, section));
    let are_sound = section.is_sound("base_url") && section.is_sound("allowed_hosts");
    if are_sound && base_url.is_none() {
        check_hosts(is_known, &profile.base, &allowed_hosts, section);
    }
    let config = ConnectorConfig {
        name: name.to_owned(),
        connector: is_known.then_some(connector)?,
        base_url,
        allowed_hosts,
        create_option,
        identity,
        shared_login,
        regions,
        quotas: quotas?,
    };
    if are_sound {
        check_shared_login(&config, section);
    }
    Some(config)
}

/// The hosts of the setting, or else those of the connector.
fn allowed_hosts(own: &[HostPattern], section: &mut Section<'_>) -> Vec<HostPattern> {
    let own: Vec<String> = own.iter().map(HostPattern::to_string).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    section.list("allowed_hosts", &own)
}

fn warn_if_unencrypted(base_url: Option<&Url>, section: &mut Section<'_>) {
    if base_url.is_some_and(is_unencrypted) {
        section.warn(
            "base_url",
            "is http: credentials and contacts cross the network unencrypted; use https:// if the CRM supports it",
        );
    }
}

/// Checks the hosts of a connector without `base_url`.
fn check_hosts(is_known: bool, base: &BaseForm, hosts: &[HostPattern], section: &mut Section<'_>) {
    if is_known {
        check_is_placed(base, hosts, section);
    }
    check_elsewhere(base, hosts, section);
}

/// Without `base_url` something else must say where the CRM is.
fn check_is_placed(base: &BaseForm, hosts: &[HostPattern], section: &mut Section<'_>) {
    if base.is_named() && hosts.is_empty() {
        let why = "without allowed_hosts nothing says where the CRM is";
        section.missing("base_url", why);
    }
}

/// If the file's address contains a fixed host that is not its base, `allowed_hosts` must contain
/// that host.
fn check_elsewhere(base: &BaseForm, hosts: &[HostPattern], section: &mut Section<'_>) {
    if let Some(host) = base.host_elsewhere()
        && !hosts.iter().any(|pattern| pattern.matches(&host))
    {
        let host = host.as_str();
        let fault = format!("must have \"{host}\", the host of the file's url");
        section.fault("allowed_hosts", fault);
    }
}

/// The kinds that need `spec`.
const FILE_KINDS: [&str; 2] = ["file", "proxy"];

/// The connector of a section. `None` if there is a fault.
fn connector_of(kind: Option<&str>, section: &mut Section<'_>) -> Option<Arc<dyn Connector>> {
    let kind = kind?;
    if FILE_KINDS.contains(&kind) {
        from_file(SpecKind::of(kind), section)
    } else {
        from_built_in(kind, section)
    }
}

fn from_built_in(kind: &str, section: &mut Section<'_>) -> Option<Arc<dyn Connector>> {
    let source = embedded(kind).unwrap_or_default();
    let secrets = secrets(section, SpecKind::File, source);
    match built_in(kind, Secrets::Given(&secrets))? {
        Ok(connector) => Some(connector),
        Err(faults) => report(section, ("secrets", kind), faults, source),
    }
}

fn from_file(kind: SpecKind, section: &mut Section<'_>) -> Option<Arc<dyn Connector>> {
    let file = spec_file(section, "spec")?;
    let secrets = secrets(section, kind, &file.content);
    match read_spec(kind, &file.content, Secrets::Given(&secrets)) {
        Ok(connector) => {
            warn_without_search(connector.as_ref(), section);
            Some(connector)
        }
        Err(faults) => report(section, ("spec", &file.to_string()), faults, &file.content),
    }
}

fn warn_without_search(connector: &dyn Connector, section: &mut Section<'_>) {
    if !connector.sheet().has_search() {
        let what = "has no operations.findContact with a responseMapping: nobody is ever found";
        section.warn("spec", what);
    }
}

/// Reports the faults of a connector file, each with its place in that file.
fn report<T>(
    section: &mut Section<'_>,
    (key, file): (&str, &str),
    faults: Vec<SpecFault>,
    source: &str,
) -> Option<T> {
    for fault in faults {
        let place = fault.explain(source).replace('\n', "\n    ");
        section.fault(key, format!("{file}, {place}"));
    }
    None
}

/// The secrets that a connector file names.
fn secrets(
    section: &mut Section<'_>,
    kind: SpecKind,
    source: &str,
) -> BTreeMap<String, SecretString> {
    let names = secret_names(kind, source);
    if names.is_empty() && !section.has_below("secrets") {
        return BTreeMap::new();
    }
    section.nested("secrets", |section| {
        let named = |name: String| {
            let secret = named_secret(&name, section)?;
            Some((name, secret))
        };
        names.into_iter().filter_map(named).collect()
    })
}

/// A secret that cannot be read is reported once. Its stand-in keeps the connector file from
/// reporting that it is missing.
fn named_secret(name: &str, section: &mut Section<'_>) -> Option<SecretString> {
    let is_given = section.has_below(name);
    let secret = section.nested_as(name, SECRET, secret);
    secret.or_else(|| is_given.then(|| SecretString::from("unread")))
}

fn identity(section: &mut Section<'_>) -> IdentitySource {
    let identity = section.choice("identity", &IdentitySource::ALL);
    if identity == IdentitySource::Caller {
        section.warn(
            "identity",
            "is \"caller\": a client with any valid credential can claim to be any user, and gets that user's stored \
             answers",
        );
    }
    identity
}

fn each_once(regions: Vec<Region>) -> Vec<Region> {
    let mut distinct: Vec<Region> = Vec::new();
    for region in regions {
        if !distinct.contains(&region) {
            distinct.push(region);
        }
    }
    distinct
}

/// Most regions of one connector: each adds one more reading of every phone field.
const MAX_REGIONS: usize = 16;

fn regions(section: &mut Section<'_>) -> Vec<Region> {
    let regions = each_once(section.list("region", &[]));
    if regions.len() > MAX_REGIONS {
        let fault = format!("must have at most {MAX_REGIONS} entries");
        section.fault("region", fault);
    }
    if regions.is_empty() {
        section.warn("region", NO_REGION);
    }
    regions
}

const NO_REGION: &str = "is not set: stored numbers without a country code are read in \
                         user.region; if that is not set either, they are never an exact match";

fn base_url(text: &str) -> Result<Url, String> {
    if !text.contains("://") {
        return Err("must be a URL: write http:// or https:// before it".to_owned());
    }
    let url = url(text)?;
    if matches!(url.scheme(), "http" | "https") && is_place(&url) {
        return Ok(url);
    }
    Err("must be http(s)://host[:port][/path], without user, query and fragment".to_owned())
}

pub(super) fn url(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| format!("is not a URL: {error}"))
}

/// Whether a URL names a place and nothing else: it has no user, query and fragment.
pub(super) fn is_place(url: &Url) -> bool {
    let is_bare = url.query().is_none() && url.fragment().is_none();
    url.has_host() && is_bare && !has_user(url)
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn is_unencrypted(url: &Url) -> bool {
    url.scheme() == "http" && !is_this_machine(url)
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}
