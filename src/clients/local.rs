//! Whether a request may use credentials that the daemon itself has: the shared login, and
//! those that connectors make from the settings. And whether it may invalidate answers.
//!
//! Listed clients may. If no clients are listed, clients on this machine may, if nobody else can
//! reach the port. A browser on this machine does not count as such a client: a page from elsewhere
//! can let the name of its own server resolve to this machine, and call the daemon by it (DNS
//! rebinding). So the request must address the daemon as this machine.

use std::str::FromStr;

use url::Host;

use super::peer::Peer;

/// Whether a request may use the daemon's own credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LoginAccess {
    /// Its client is listed, or on this machine.
    Granted,
    /// It is on this machine, but addresses the daemon by a name that may be anybody's.
    OddName,
    /// No clients are listed, and it comes from another machine, or could have.
    #[default]
    Elsewhere,
}

/// Which clients that are not listed count as those of this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct LocalClients {
    /// Whether only this machine can reach the port.
    pub(crate) is_loopback: bool,
    /// Further names of this machine.
    pub(crate) hostnames: Vec<Hostname>,
}

/// A name or an address by which clients call the daemon, without the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hostname(Host);

/// The text is no such name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a host name without a port, such as \"pbx.internal\"")]
pub(crate) struct NotAHostname;

impl LocalClients {
    /// What a client that is not listed may do. `named` are the names by which the request
    /// addresses the daemon: each line of `Host`, and the authority of its URI.
    pub(crate) fn access<'a>(
        &self,
        peer: Option<&Peer>,
        named: impl IntoIterator<Item = &'a [u8]>,
    ) -> LoginAccess {
        let is_here = peer.is_some_and(|peer| peer.origin().is_loopback());
        if !self.is_loopback || !is_here {
            return LoginAccess::Elsewhere;
        }
        let mut named = named.into_iter().peekable();
        if named.peek().is_some() && named.all(|authority| self.is_here(authority)) {
            LoginAccess::Granted
        } else {
            LoginAccess::OddName
        }
    }

    fn is_here(&self, authority: &[u8]) -> bool {
        let Some(name) = without_port(authority) else {
            return false;
        };
        // Nearly all requests; the others are parsed.
        let is_usual = matches!(name, "127.0.0.1" | "localhost" | "[::1]");
        let is_here = |name: Hostname| name.is_loopback() || self.hostnames.contains(&name);
        is_usual || name.parse().is_ok_and(is_here)
    }
}

impl Hostname {
    fn is_loopback(&self) -> bool {
        match &self.0 {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.to_canonical().is_loopback(),
        }
    }
}

/// The name in `name[:port]`.
fn without_port(authority: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(authority).ok()?;
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (text, ""),
    };
    let is_port = port.bytes().all(|b| b.is_ascii_digit());
    is_port.then_some(name)
}

impl FromStr for Hostname {
    type Err = NotAHostname;

    fn from_str(text: &str) -> Result<Self, NotAHostname> {
        let text = text.strip_suffix('.').unwrap_or(text);
        Host::parse(text).map(Self).map_err(|_| NotAHostname)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::super::origin::Origin;
    use super::*;

    fn access(local: &LocalClients, from: &str, named: &[&str]) -> LoginAccess {
        let from: IpAddr = from.parse().unwrap();
        let peer = Peer::new(Arc::new(Origin::new(from, 1, crate::clock::now())));
        local.access(Some(&peer), named.iter().map(|name| name.as_bytes()))
    }

    fn local(is_loopback: bool) -> LocalClients {
        LocalClients {
            is_loopback,
            hostnames: vec!["PBX".parse().unwrap()],
        }
    }

    #[test]
    fn a_request_has_to_address_this_machine() {
        for (granted, named) in [
            (true, &["127.0.0.1:50051"][..]),
            (true, &["localhost"]),
            (true, &["LocalHost.:50051"]),
            (true, &["[::1]:50051"]),
            (true, &["[::1]"]),
            (true, &["[::ffff:127.0.0.1]:1"]),
            (true, &["127.1.2.3:"]),
            (true, &["pbx:50051"]),
            (true, &["localhost:1", "127.0.0.1:1"]),
            (false, &[]),
            (false, &[""]),
            (false, &[":50051"]),
            (false, &["evil.example:50051"]),
            (false, &["localhost.evil.example"]),
            (false, &["127.0.0.1.evil.example"]),
            (false, &["evil.localhost"]),
            (false, &["localhost@evil.example"]),
            (false, &["evil.example@localhost"]),
            (false, &["localhost/evil.example"]),
            (false, &["localhost:50051:50051"]),
            (false, &["localhost:evil"]),
            (false, &["0.0.0.0:50051"]),
            (false, &["10.0.0.1"]),
            (false, &["::1"]),
            (false, &["localhost,evil.example"]),
            (false, &["localhost evil.example"]),
            (false, &["localhost", "evil.example"]),
            (false, &["evil.example", "localhost"]),
        ] {
            let expected = if granted {
                LoginAccess::Granted
            } else {
                LoginAccess::OddName
            };
            assert_eq!(
                access(&local(true), "127.0.0.1", named),
                expected,
                "{named:?}"
            );
        }
        assert_eq!(
            local(true).access(None, [&b"localhost"[..]]),
            LoginAccess::Elsewhere
        );
    }

    #[test]
    fn others_than_this_machine_may_not_whatever_they_write() {
        for (is_loopback, from, expected) in [
            (true, "127.0.0.1", LoginAccess::Granted),
            (true, "127.8.8.8", LoginAccess::Granted),
            (true, "::1", LoginAccess::Granted),
            (true, "::ffff:127.0.0.1", LoginAccess::Granted),
            (true, "10.0.0.1", LoginAccess::Elsewhere),
            (true, "::2", LoginAccess::Elsewhere),
            (false, "127.0.0.1", LoginAccess::Elsewhere),
            (false, "10.0.0.1", LoginAccess::Elsewhere),
        ] {
            assert_eq!(
                access(&local(is_loopback), from, &["localhost"]),
                expected,
                "{from}"
            );
        }
    }

    #[test]
    fn a_hostname_has_neither_a_port_nor_a_path() {
        for (text, is_one) in [
            ("pbx", true),
            ("pbx.internal.", true),
            ("10.0.0.1", true),
            ("pbx:50051", false),
            ("http://pbx", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(text.parse::<Hostname>().is_ok(), is_one, "{text}");
        }
    }
}
