//! Section `grpc`: the address, the clients, and the limits.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::{NonZero, NonZeroU32};
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use super::section::{Fault, Section};
use crate::clients::{ClientConfig, Hostname, LocalClients, TokenHash};
use crate::clock::{Clock as _, SystemClock};
use crate::tls::{self, Tls};

/// The gRPC server.
#[derive(Debug, Clone)]
pub struct Grpc {
    /// The address to listen on. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificates, if connections are encrypted.
    pub(crate) tls: Option<tls::TlsConfig>,
    /// Who may call: everybody if no clients are listed.
    pub(crate) clients: Vec<ClientConfig>,
    /// Further names of this machine by which clients on it call the daemon.
    pub(crate) hostnames: Vec<Hostname>,
    /// Everybody who can reach the port may call, and this is intended.
    pub(crate) insecure: bool,
    /// Threads that serve connections.
    pub(crate) threads: usize,
    /// The most calls of one user, or account if the quota counts by account, that may wait for a
    /// CRM. All calls in progress together may be twice as many. More are refused at once.
    pub max_in_flight: usize,
    /// Most batches at once.
    pub(crate) max_prefetch_jobs: usize,
    /// Most connections at once.
    pub(crate) max_connections: usize,
    /// The age at which a connection must end.
    pub(crate) max_connection_age: Duration,
    /// The time for its calls after that.
    pub(crate) max_connection_age_grace: Duration,
    /// How long to continue serving after the stop was announced.
    pub drain_delay: Duration,
    /// The time for running calls after that.
    pub(crate) drain_timeout: Duration,
}

impl Grpc {
    /// Warnings for whoever starts the daemon: this works, but they should know it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let warnings = [self.open_port(), self.plain_tokens()];
        warnings.into_iter().flatten().collect()
    }

    fn open_port(&self) -> Option<String> {
        (self.is_exposed() && !self.asks_who_calls()).then(|| {
            let listen = self.listen;
            format!(
                "grpc.insecure: everybody who reaches {listen} may call; a proxy or a firewall must protect this port"
            )
        })
    }

    fn plain_tokens(&self) -> Option<String> {
        (self.is_exposed() && self.tls.is_none() && !self.clients.is_empty()).then(|| {
            "grpc.tokens without grpc.tls: tokens, credentials and names are sent unencrypted; set grpc.tls, or let a \
             proxy encrypt"
                .to_owned()
        })
    }

    /// The settings of a daemon that was started with these and reloads `new`. The address, and
    /// whether connections are encrypted at all, do not change.
    ///
    /// # Errors
    /// If everybody could then call the port that is open. It may differ from the port of `new`.
    pub(crate) fn reloaded(&self, new: &Self) -> Result<Self, Fault> {
        let tls = self.tls.as_ref();
        let tls = tls.map(|tls| new.tls.as_ref().unwrap_or(tls));
        let reloaded = Self {
            clients: new.clients.clone(),
            insecure: new.insecure,
            tls: tls.cloned(),
            ..self.clone()
        };
        match reloaded.open_to_all() {
            Some(message) => Err(Fault::new("grpc.listen".to_owned(), message)),
            None => Ok(reloaded),
        }
    }

    fn open_to_all(&self) -> Option<String> {
        let open = self.is_exposed() && !self.asks_who_calls() && !self.insecure;
        open.then(|| {
            format!(
                "{} can be reached from other machines, and clients need no credential: set grpc.tokens or \
                 grpc.tls.client_ca, or listen on 127.0.0.1. If a proxy or a firewall protects the port, set \
                 grpc.insecure = true",
                self.listen
            )
        })
    }

    /// Which clients may use the daemon's own credentials although they are not listed.
    #[must_use]
    pub(crate) fn local_clients(&self) -> LocalClients {
        LocalClients {
            is_loopback: !self.is_exposed(),
            hostnames: self.hostnames.clone(),
        }
    }

    /// Returns whether any client may use the shared login.
    pub(super) fn has_shared_login_clients(&self) -> bool {
        !self.is_exposed() || !self.clients.is_empty()
    }

    fn is_exposed(&self) -> bool {
        !self.listen.ip().to_canonical().is_loopback()
    }

    fn asks_who_calls(&self) -> bool {
        !self.clients.is_empty() || self.needs_certificates()
    }

    /// Returns whether connections must send a certificate.
    #[must_use]
    pub fn needs_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }
}

/// More threads than a machine has cores gain nothing.
const MOST_THREADS: usize = 1024;

fn cores() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// `in_use` are the certificates of a daemon that reloads its settings.
pub(super) fn grpc(section: &mut Section<'_>, in_use: Option<&Tls>) -> Grpc {
    let grpc = Grpc {
        listen: section.address("listen", "127.0.0.1:50051"),
        tls: if section.has_below("tls") {
            section.nested("tls", |section| tls(section, in_use))
        } else {
            None
        },
        clients: section.tables("tokens", client),
        hostnames: section.list("hostnames", &[]),
        insecure: section.switch("insecure", false),
        threads: section
            .optional_count("threads", 1..=MOST_THREADS)
            .unwrap_or_else(cores),
        max_in_flight: section.count("max_in_flight", 1024, 1..=1_000_000),
        max_prefetch_jobs: section.count("max_prefetch_jobs", 32, 1..=10_000),
        max_connections: section.count("max_connections", 1024, 1..=1_000_000),
        max_connection_age: section.duration("max_connection_age", "1h"),
        max_connection_age_grace: section.duration("max_connection_age_grace", "1h"),
        drain_delay: section.duration("drain_delay", "2s"),
        drain_timeout: section.duration("drain_timeout", "10s"),
    };
    let clients_are_known = section.is_sound("tls") && section.is_sound("tokens");
    if clients_are_known && let Some(message) = grpc.open_to_all() {
        section.fault("listen", message);
    }
    super::longer_than_zero(section, "max_connection_age", grpc.max_connection_age);
    check_clients(&grpc, section);
    grpc
}

fn check_clients(grpc: &Grpc, section: &mut Section<'_>) {
    let shows_certificate = |client: &ClientConfig| !client.certificates.is_empty();
    let asks_for_one = grpc.needs_certificates() || !section.is_sound("tls");
    if !asks_for_one && grpc.clients.iter().any(shows_certificate) {
        section.fault(
            "tokens",
            "lists certificates, but without grpc.tls.client_ca no client sends one",
        );
    }
    let mut earlier = Earlier::default();
    for client in &grpc.clients {
        let name = &client.name;
        if !earlier.names.insert(name) {
            section.fault("tokens", format!("has two entries with the name {name:?}"));
        }
        if !earlier.add_certificates(client) {
            let fault = format!("gives a certificate of {name:?} to two clients");
            section.fault("tokens", fault);
        }
        if !earlier.add_tokens(client) {
            section.fault("tokens", format!("gives a token of {name:?} twice"));
        }
    }
}

/// The names, certificates and tokens of the clients that were already checked.
#[derive(Default)]
struct Earlier<'c> {
    names: HashSet<&'c str>,
    certificates: HashSet<&'c str>,
    tokens: Vec<&'c TokenHash>,
}

impl<'c> Earlier<'c> {
    /// Returns whether no other client has one of them.
    fn add_certificates(&mut self, client: &'c ClientConfig) -> bool {
        let mut certificates = client.certificates.iter();
        certificates.all(|certificate| self.certificates.insert(certificate))
    }

    fn add_tokens(&mut self, client: &'c ClientConfig) -> bool {
        let is_new = !client
            .tokens
            .iter()
            .any(|token| self.tokens.contains(&token));
        self.tokens.extend(&client.tokens);
        is_new
    }
}

fn tls(section: &mut Section<'_>, in_use: Option<&Tls>) -> Option<tls::TlsConfig> {
    let text = |text: &str| Ok::<_, String>(text.to_owned());
    let cert = section.required("cert", "the path of a PEM file", text);
    let key = section.required("key", "the path of a PEM file", text);
    let client_ca = section.optional("client_ca", text);
    let config = tls::TlsConfig {
        cert: cert?.into(),
        key: key?.into(),
        client_ca: client_ca.map(PathBuf::from),
    };
    let checked = match in_use {
        Some(in_use) => in_use.check(&config),
        None => tls::check(&config, SystemClock::start().wall()),
    };
    if let Err(error) = checked {
        section.fault(error.setting, error.message);
    }
    Some(config)
}

fn client(section: &mut Section<'_>) -> Option<ClientConfig> {
    let name = section.required("name", "what logs call this client", client_name);
    let tokens = tokens(section);
    let certificates = section.texts("certificate").unwrap_or_default();
    if !section.has("sha256") && !section.has("certificate") {
        section.missing(
            "sha256",
            "the hash of the client's token; or set certificate, the name in its certificate",
        );
    }
    let platforms = section.texts("platforms");
    let accounts = section.texts("accounts");
    let rate = section.optional_count("rate", 1..=1_000_000);
    let rate = rate.and_then(|rate| NonZeroU32::new(u32::try_from(rate).ok()?));
    let max_in_flight = section.optional_count("max_in_flight", 1..=1_000_000);
    Some(ClientConfig {
        name: name?,
        tokens,
        certificates,
        platforms,
        accounts,
        rate,
        max_in_flight,
    })
}

fn client_name(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("must not be empty".to_owned()),
        name => Ok(name.to_owned()),
    }
}

fn tokens(section: &mut Section<'_>) -> Vec<TokenHash> {
    let mut tokens = Vec::new();
    for text in section.texts("sha256").unwrap_or_default() {
        match text.parse() {
            Ok(token) => tokens.push(token),
            Err(error) => section.fault("sha256", format!("{error}")),
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Grpc {
        let text = format!("[grpc]\n{text}\n[connectors.a]\nkind = \"pipedrive\"\n");
        crate::config::read(&text, []).unwrap().config.grpc
    }

    #[test]
    fn a_port_that_is_open_to_other_machines_stays_guarded_whatever_port_the_new_settings_name() {
        let tokens = format!(
            "tokens = [{{ name = \"a\", sha256 = \"{}\" }}]",
            "0".repeat(64)
        );
        let far = read(&format!("listen = \"0.0.0.0:1\"\n{tokens}"));
        let fault = far.reloaded(&read("listen = \"127.0.0.1:1\"")).unwrap_err();
        assert!(
            fault.path == "grpc.listen" && fault.message.starts_with("0.0.0.0:1 can be reached"),
            "{fault}"
        );
        let meant = far
            .reloaded(&read("listen = \"127.0.0.1:1\"\ninsecure = true"))
            .unwrap();
        assert!(meant.clients.is_empty() && meant.listen == far.listen);
        let guarded = read(&format!("listen = \"127.0.0.1:1\"\n{tokens}"));
        assert_eq!(far.reloaded(&guarded).unwrap().clients.len(), 1);
        assert!(
            guarded.reloaded(&read("insecure = true")).is_ok(),
            "only this machine reaches it"
        );
    }
}
