//! The address of Redis, as one URL.
//!
//! Parses the setting `redis.url`. A parsed URL has at least one address, and its `Debug` and
//! `Display` contain no password. Knows nothing of how a connection is made.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};
use secrecy::SecretString;

/// A parsed `redis.url`: `redis://` or `rediss://` (TLS) `[user:password@]host[:port][/database]`,
/// `unix:///path[?db=0&user=u&pass=p]`, `redis+cluster://` or `rediss+cluster://`
/// `[user:password@]host:port,host:port`, and `redis+sentinel://` or `rediss+sentinel://`
/// `[user:password@]host:port,host:port/master[/database][?sentinel_password=p]`, whose hosts are
/// the sentinels.
#[derive(Clone)]
pub struct RedisUrl {
    pub(super) topology: Topology,
    pub(super) tls: bool,
    pub(super) addresses: Vec<ConnectionAddr>,
    pub(super) user: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) database: i64,
}

/// The kind of servers behind a URL.
#[derive(Clone)]
pub(super) enum Topology {
    /// One server, or a proxy that looks like one.
    Single,
    /// A Redis Cluster; the addresses are some of its nodes.
    Cluster,
    /// A master that the sentinels name; the addresses are theirs.
    Sentinel {
        master: String,
        password: Option<SecretString>,
    },
}

/// How to escape characters with a special meaning in a URL.
const SPECIAL: &str = "in a user or password write # as %23, ? as %3F, / as %2F, @ as %40, \
                       : as %3A, % as %25 and , as %2C";

/// Why a text is not a valid `redis.url`. Contains no part of it, because that may be the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// Not one of the known beginnings.
    #[error(
        "must begin with redis://, rediss://, unix://, redis+cluster://, rediss+cluster://, redis+sentinel:// or \
         rediss+sentinel://"
    )]
    Scheme,
    /// A host, port, user, password or database that cannot be read.
    #[error(
        "has an address that cannot be read; expected [user:password@]host[:port]; {}",
        SPECIAL
    )]
    Address,
    /// An unescaped character that ends the user or password early.
    #[error("has a special character in the user or password; {}", SPECIAL)]
    Raw,
    /// No name of the master behind the sentinels.
    #[error("must end with the name of the master: redis+sentinel://host:26379/mymaster")]
    Master,
    /// A part that would be ignored silently.
    #[error("has a part after '#', or one after '?' that is not known here")]
    Extra,
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or(RedisUrlError::Scheme)?;
        if scheme != "unix" && ends_too_early(rest) {
            return Err(RedisUrlError::Raw);
        }
        if rest.contains('#') {
            return Err(RedisUrlError::Extra);
        }
        let tls = scheme.starts_with("rediss");
        match scheme {
            "redis" | "rediss" if rest.contains('?') => Err(RedisUrlError::Extra),
            "redis" | "rediss" | "unix" => Self::single(text, tls),
            "redis+cluster" | "rediss+cluster" => Self::cluster(rest, tls),
            "redis+sentinel" | "rediss+sentinel" => Self::sentinel(rest, tls),
            _ => Err(RedisUrlError::Scheme),
        }
    }
}

impl RedisUrl {
    fn single(text: &str, tls: bool) -> Result<Self, RedisUrlError> {
        Ok(Self::from_infos(Topology::Single, tls, vec![read(text)?]))
    }

    fn cluster(rest: &str, tls: bool) -> Result<Self, RedisUrlError> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !path.is_empty() || rest.contains('?') {
            return Err(RedisUrlError::Extra); // a cluster has database 0 only
        }
        Ok(Self::from_infos(
            Topology::Cluster,
            tls,
            read_all(authority, tls)?,
        ))
    }

    fn sentinel(rest: &str, tls: bool) -> Result<Self, RedisUrlError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').ok_or(RedisUrlError::Master)?;
        let (master, database) = path.split_once('/').unwrap_or((path, "0"));
        if master.is_empty() {
            return Err(RedisUrlError::Master);
        }
        let topology = Topology::Sentinel {
            master: master.to_owned(),
            password: sentinel_password(query)?,
        };
        let mut url = Self::from_infos(topology, tls, read_all(authority, tls)?);
        url.database = database.parse().map_err(|_| RedisUrlError::Address)?;
        Ok(url)
    }

    fn from_infos(topology: Topology, tls: bool, infos: Vec<ConnectionInfo>) -> Self {
        // One user and password precede all hosts, so the first host's are those of all.
        let first = infos.first().map(ConnectionInfo::redis_settings);
        Self {
            topology,
            tls,
            user: first.and_then(|first| first.username()).map(str::to_owned),
            password: first
                .and_then(|first| first.password())
                .map(SecretString::from),
            database: first.map_or(0, redis::RedisConnectionInfo::db),
            addresses: infos.into_iter().map(|info| info.addr().clone()).collect(),
        }
    }
}

/// Returns whether a character that ends user, password and host comes before the `@` after them.
fn ends_too_early(rest: &str) -> bool {
    let (end, query) = (rest.find(['#', '?', '/']), rest.find('?'));
    let divided = rest.rfind('@');
    match (end, divided) {
        // A query may contain an @ after a path, as in /master?sentinel_password=p@q.
        (Some(end), Some(at)) if end < at => {
            !rest[end..].starts_with('/') || query.is_none_or(|query| query > at)
        }
        _ => false,
    }
}

fn read(text: &str) -> Result<ConnectionInfo, RedisUrlError> {
    text.into_connection_info()
        .map_err(|_| RedisUrlError::Address)
}

/// Reads `user:password@host:port,host:port` by adding the user to each host.
fn read_all(authority: &str, tls: bool) -> Result<Vec<ConnectionInfo>, RedisUrlError> {
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let scheme = if tls { "rediss" } else { "redis" };
    let hosts = hosts.split(',');
    let infos = hosts.map(|host| read(&format!("{scheme}://{user}@{host}")));
    infos.collect()
}

fn sentinel_password(query: &str) -> Result<Option<SecretString>, RedisUrlError> {
    let mut password = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name != "sentinel_password" {
            return Err(RedisUrlError::Extra);
        }
        password = Some(SecretString::from(value.into_owned()));
    }
    Ok(password)
}

impl RedisUrl {
    fn scheme(&self) -> &'static str {
        match (&self.topology, self.addresses.first()) {
            (Topology::Single, Some(ConnectionAddr::Unix(_))) => "unix",
            (Topology::Single, _) if self.tls => "rediss",
            (Topology::Single, _) => "redis",
            (Topology::Cluster, _) if self.tls => "rediss+cluster",
            (Topology::Cluster, _) => "redis+cluster",
            (Topology::Sentinel { .. }, _) if self.tls => "rediss+sentinel",
            (Topology::Sentinel { .. }, _) => "redis+sentinel",
        }
    }
}

#[cfg(any(test, fuzzing))]
impl RedisUrl {
    /// The same address with other passwords, which must look the same.
    pub(crate) fn with_other_passwords(mut self) -> Self {
        let other = |known: &mut Option<SecretString>| {
            *known = known.take().map(|_| SecretString::from("another one"));
        };
        other(&mut self.password);
        if let Topology::Sentinel { password, .. } = &mut self.topology {
            other(password);
        }
        self
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was decoded may have line breaks, and this is shown in logs.
        let mut shown = String::new();
        self.write(&mut shown)?;
        f.write_str(&shown.replace(char::is_control, "\u{fffd}"))
    }
}

impl RedisUrl {
    fn write(&self, f: &mut impl fmt::Write) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        if self.user.is_some() || self.password.is_some() {
            write!(f, "{}:***@", self.user.as_deref().unwrap_or_default())?;
        }
        for (index, address) in self.addresses.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            write_address(f, address)?;
        }
        if let Topology::Sentinel { master, .. } = &self.topology {
            write!(f, "/{master}")?;
        }
        match self.scheme() {
            _ if self.database == 0 => Ok(()),
            "unix" => write!(f, "?db={}", self.database),
            _ => write!(f, "/{}", self.database),
        }
    }
}

/// An IPv6 address stands in brackets, as it is read.
fn write_address(f: &mut impl fmt::Write, address: &ConnectionAddr) -> fmt::Result {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }
            if host.contains(':') =>
        {
            write!(f, "[{host}]:{port}")
        }
        address => write!(f, "{address}"),
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<RedisUrl>()
            .map_or_else(|error| error.to_string(), |url| url.to_string())
    }

    #[test]
    fn each_spelling_is_read_and_shown_without_its_password() {
        for (text, expected) in [
            ("redis://localhost", "redis://localhost:6379"),
            (
                "rediss://u:secret@r.example:7000/2",
                "rediss://u:***@r.example:7000/2",
            ),
            ("redis://:secret@127.0.0.1:1", "redis://:***@127.0.0.1:1"),
            (
                "unix:///run/redis.sock?db=3&pass=secret",
                "unix://:***@/run/redis.sock?db=3",
            ),
            (
                "redis+cluster://u:secret@a:1,b:2",
                "redis+cluster://u:***@a:1,b:2",
            ),
            ("rediss+cluster://a:1,b/", "rediss+cluster://a:1,b:6379"),
            (
                "redis+sentinel://u:secret@a:1,b:2/mymaster/4?sentinel_password=secret",
                "redis+sentinel://u:***@a:1,b:2/mymaster/4",
            ),
        ] {
            assert_eq!(shown(text), expected);
            assert!(!format!("{:?}", text.parse::<RedisUrl>()).contains("secret"));
        }
    }

    #[test]
    fn passwords_may_hold_any_character_as_percent_codes() {
        let url: RedisUrl = "redis+cluster://u:p%40%2F%2C@a:1,b:2".parse().unwrap();
        assert_eq!(url.password.unwrap().expose_secret(), "p@/,");
    }

    #[test]
    fn a_raw_special_character_in_a_password_is_named_with_its_code() {
        for scheme in ["redis", "rediss", "redis+cluster", "redis+sentinel"] {
            for password in ["p#w", "p?w", "p/w", "#", "p?#/w"] {
                let refused = format!("{scheme}://u:{password}@h:1/m")
                    .parse::<RedisUrl>()
                    .unwrap_err();
                assert_eq!(refused, RedisUrlError::Raw, "{scheme} {password}");
                assert!(
                    refused.to_string().contains("%23") && refused.to_string().contains("%3F"),
                    "{refused}"
                );
            }
        }
        assert!(
            "redis+sentinel://u:p@h:1/m?sentinel_password=p@q"
                .parse::<RedisUrl>()
                .is_ok()
        );
        assert!(
            "unix:///run/r.sock?user=u&pass=p@q"
                .parse::<RedisUrl>()
                .is_ok()
        );
    }

    #[test]
    fn a_shown_address_can_be_read_again_and_has_one_line() {
        for text in [
            "redis://[::1]:6379",
            "rediss://[2001:db8::7]:1/3",
            "unix:///run/r.sock?db=2",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("redis://a%0Ab:p@h:1"), "redis://a\u{fffd}b:***@h:1");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "",
            "localhost",
            "http://a",
            "redis://",
            "redis://a:b:c",
            "redis+cluster://a:1/2",
            "redis://a/x",
        ] {
            assert!(text.parse::<RedisUrl>().is_err(), "{text}");
        }
        for text in [
            "rediss://a#insecure",
            "redis://a?x=1",
            "redis+sentinel://a/m?password=1",
        ] {
            assert_eq!(
                text.parse::<RedisUrl>().unwrap_err(),
                RedisUrlError::Extra,
                "{text}"
            );
        }
        for text in ["redis+sentinel://a:1", "redis+sentinel://a:1/"] {
            assert_eq!(text.parse::<RedisUrl>().unwrap_err(), RedisUrlError::Master);
        }
    }

    proptest! {
        #[test]
        fn a_password_is_never_shown(password in "[a-z]{12,20}") {
            for text in [format!("redis://u:{password}@h"), format!("redis+cluster://:{password}@a:1,b:2")] {
                let url: RedisUrl = text.parse().unwrap();
                let shown = format!("{url}{url:?}");
                prop_assert!(!shown.contains(&password), "{shown}");
            }
        }
    }
}
