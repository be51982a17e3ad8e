//! Sections `connectors.NAME`.

use std::sync::Arc;

use super::quotas::quotas;
use super::section::Section;
use crate::connector::{ConnectorConfig, HostPattern, IdentitySource, built_in, kinds};
use crate::domain::Region;

pub(super) fn connector(name: &str, section: &mut Section<'_>) -> Option<ConnectorConfig> {
    let kinds: Vec<&str> = kinds().collect();
    let kind = section.one_of("kind", &kinds);
    // If `kind` is invalid, the section is still checked for other faults, with the first kind's
    // defaults.
    let connector = built_in(kind.as_deref().unwrap_or(kinds[0]))?;
    let profile = Arc::clone(connector.profile());
    let base_url = section.optional("base_url", base_url);
    let is_plain = |url: &url::Url| url.scheme() == "http" && !is_this_machine(url);
    if base_url.as_ref().is_some_and(is_plain) {
        section.warn(
            "base_url",
            "is http: credentials and contacts cross the network unencrypted; https:// if it can",
        );
    }
    let hosts: Vec<String> = profile.hosts.iter().map(HostPattern::to_string).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let allowed_hosts: Vec<HostPattern> = section.list("allowed_hosts", &hosts);
    let create_option = section.switch("create_option", true);
    let identity = identity(section);
    let regions = regions(section);
    let quotas = section.nested("quota", |section| quotas(profile.quotas, section));
    let are_sound = section.is_sound("base_url") && section.is_sound("allowed_hosts");
    if kind.is_some() && are_sound && base_url.is_none() && allowed_hosts.is_empty() {
        section.fault(
            "base_url",
            "is required where there are no allowed_hosts: nothing says where the CRM is",
        );
    }
    Some(ConnectorConfig {
        name: name.to_owned(),
        connector: kind.map(|_| connector)?,
        base_url,
        allowed_hosts,
        create_option,
        identity,
        regions,
        quotas: quotas?,
    })
}

fn identity(section: &mut Section<'_>) -> IdentitySource {
    let identity = section.choice("identity", &IdentitySource::ALL);
    if identity == IdentitySource::Caller {
        section.warn(
            "identity",
            "is \"caller\": whoever calls with any valid credential is believed to be the user it names",
        );
    }
    identity
}

/// Most regions of one connector: each adds one more reading of every phone field.
const MAX_REGIONS: usize = 16;

fn regions(section: &mut Section<'_>) -> Vec<Region> {
    let mut regions: Vec<Region> = Vec::new();
    for region in section.list("region", &[]) {
        if !regions.contains(&region) {
            regions.push(region);
        }
    }
    if regions.len() > MAX_REGIONS {
        section.fault(
            "region",
            &format!("must have at most {MAX_REGIONS} entries"),
        );
    }
    if regions.is_empty() {
        section.warn(
            "region",
            "is not set: stored numbers without a country code are read in user.region, or, without that, never exact",
        );
    }
    regions
}

fn base_url(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !matches!(url.scheme(), "http" | "https")
        || !url.has_host()
        || !plain
        || url.password().is_some()
    {
        return Err(
            "must be http(s)://host[:port][/path], without user, query and fragment".to_owned(),
        );
    }
    Ok(url)
}

fn is_this_machine(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}
