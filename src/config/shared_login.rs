//! `connectors.NAME.credential`: the shared login.

use std::sync::Arc;

use secrecy::ExposeSecret as _;

use super::Grpc;
use super::secret::{SECRET, secret};
use super::section::{Section, SettingsReader};
use crate::connector::{ConnectorConfig, IdentitySource};
use crate::domain::AuthHeader;

const CREDENTIAL: &str = "credential";

/// The login, if the section has one.
pub(super) fn shared_login(section: &mut Section<'_>) -> Option<Arc<AuthHeader>> {
    section
        .has_below(CREDENTIAL)
        .then(|| section.nested_as(CREDENTIAL, SECRET, header))
        .flatten()
}

fn header(section: &mut Section<'_>) -> Option<Arc<AuthHeader>> {
    let is_file = section.is_given("file");
    if !is_file && !section.is_given("env") {
        let expected = "the path of a file with the Authorization header for the CRM, or env, a variable with it";
        section.missing("file", expected);
        return None;
    }
    let secret = secret(section)?;
    let header = AuthHeader::parse(secret.expose_secret());
    if header.is_none() {
        section.fault(
            if is_file { "file" } else { "env" },
            "does not hold one header value: at most 8192 bytes of visible ASCII and spaces, such as \
             Bearer and a token",
        );
    }
    header.map(Arc::new)
}

/// Reports a login that would have no use, or would be sent to a host that a caller chooses.
pub(super) fn check_shared_login(config: &ConnectorConfig, section: &mut Section<'_>) {
    if config.shared_login.is_none() {
        return;
    }
    if !config.connector.profile().reads_auth_header() {
        section.fault(
            CREDENTIAL,
            "has no use: this CRM takes no auth_header; its credential is made from the other settings",
        );
    } else if !config.names_every_host() {
        section.fault(
            CREDENTIAL,
            "would be sent to the host that a client names: set base_url, or allowed_hosts without \"*.\"",
        );
    } else if config.identity == IdentitySource::Caller {
        section.warn(
            CREDENTIAL,
            "is set, and identity is \"caller\": a client that may use this login can claim to be any user, and gets \
             that user's stored answers",
        );
    }
}

/// Reports logins that no client may use.
pub(super) fn check_borrowers(
    reader: &mut SettingsReader,
    grpc: &Grpc,
    connectors: &[(String, Option<ConnectorConfig>)],
) {
    if grpc.has_shared_login_clients() || !reader.is_sound_below("grpc") {
        return;
    }
    for (name, connector) in connectors {
        let login = connector
            .as_ref()
            .and_then(|config| config.shared_login.as_ref());
        if login.is_some() {
            reader.fault(
                &format!("connectors.{name}.{CREDENTIAL}"),
                "is for clients in grpc.tokens, or, if that is empty and grpc.listen is a loopback address, for \
                 clients on this machine; here nobody may use it: list your clients in grpc.tokens",
            );
        }
    }
}
