//! Which settings differ after a reload, and which of them need a restart.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::Effective;

/// The settings that a running daemon applies. `*` is any name. All others need a restart.
const TAKEN_UP: [&str; 10] = [
    "log.level",
    "log.lookups",
    "cache.found",
    "cache.absent",
    "cache.admitted",
    "grpc.tokens",
    "grpc.tls",
    "grpc.insecure",
    "connectors.*.quota",
    LOGIN,
];

/// A shared login counts as one setting, whichever part of it differs.
const LOGIN: &str = "connectors.*.credential";

/// The settings that differ, by their paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Those that a running daemon applies.
    pub(crate) taken_up: Vec<String>,
    /// Those that need a restart.
    pub(crate) waiting: Vec<String>,
}

impl Effective {
    /// The differences of `new`.
    #[must_use]
    pub(crate) fn changes(&self, new: &Self) -> Changes {
        let paths = self.differing(new).into_iter();
        let (taken_up, mut waiting): (Vec<_>, Vec<_>) = paths.partition(|path| is_taken_up(path));
        let held = |path: &Vec<String>| new.has_login(path) && is_held(path, &waiting);
        let (held, taken_up): (Vec<_>, Vec<_>) = taken_up.into_iter().partition(held);
        waiting.extend(held);
        let taken_up = names(taken_up).collect();
        let waiting = names(waiting).collect();
        Changes { taken_up, waiting }
    }

    /// Returns the settings that change when `new` is read. `self` are the settings of the start,
    /// and `latest` are those read last. A setting is included as well if it had to wait for a
    /// restart under `latest`, and can be applied now.
    #[must_use]
    pub(crate) fn applied(&self, latest: &Self, new: &Self) -> Vec<String> {
        let now = self.changes(new);
        let waited = self.changes(latest).waiting.into_iter();
        let released = waited.filter(|path| now.taken_up.contains(path));
        let mut differing = latest.differing(new);
        differing.retain(|path| is_taken_up(path));
        let mut applied: BTreeSet<String> = names(differing).collect();
        applied.retain(|path| !now.waiting.contains(path));
        applied.extend(released);
        applied.into_iter().collect()
    }

    /// The paths of all that differs.
    fn differing(&self, new: &Self) -> BTreeSet<Vec<String>> {
        let mut paths = BTreeSet::new();
        differences(&[], &self.table(), &new.table(), &mut paths);
        paths.extend(self.other_contents(new));
        paths
    }

    /// Settings that look the same in `new` and have other content, and shared logins that
    /// were removed together with their connector.
    fn other_contents(&self, new: &Self) -> impl Iterator<Item = Vec<String>> {
        self.contents.iter().filter_map(|(path, before)| {
            let path_in_parts = parts(path);
            let is_login = is_within(&path_in_parts, LOGIN);
            let is_other = new.contents.get(path).map_or(is_login, |now| now != before);
            is_other.then_some(path_in_parts)
        })
    }

    /// Returns whether the connector in this path has a shared login.
    fn has_login(&self, path: &[String]) -> bool {
        let mut connectors = self.config.connectors.iter();
        let connector = connectors.find(|connector| path.get(1) == Some(&connector.name));
        connector.is_some_and(|connector| connector.shared_login.is_some())
    }

    /// The effective settings, which this program has written.
    fn table(&self) -> Table {
        self.toml.parse().unwrap_or_default()
    }
}

impl Changes {
    /// Returns whether the login of this connector waits for a restart.
    #[must_use]
    pub(crate) fn holds_login(&self, connector: &str) -> bool {
        self.waiting.contains(&LOGIN.replace('*', connector))
    }
}

fn names(paths: impl IntoIterator<Item = Vec<String>>) -> impl Iterator<Item = String> {
    paths.into_iter().map(|path| path.join("."))
}

/// The parts of a path. A shared login is one setting.
fn parts(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = path.split('.').map(str::to_owned).collect();
    if is_within(&parts, LOGIN) {
        parts.truncate(LOGIN.split('.').count());
    }
    parts
}

/// A login waits with the other settings of its connector, unless it was removed.
fn is_held(path: &[String], waiting: &[Vec<String>]) -> bool {
    let section = path.get(..2).unwrap_or_default();
    is_within(path, LOGIN) && waiting.iter().any(|waits| waits.starts_with(section))
}

/// The paths at which two tables differ. A table that exists in only one of them is one difference.
fn differences(path: &[String], before: &Table, after: &Table, found: &mut BTreeSet<Vec<String>>) {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let path = [path, std::slice::from_ref(key)].concat();
        match (before.get(key), after.get(key)) {
            (Some(Value::Table(before)), Some(Value::Table(after))) if !is_within(&path, LOGIN) => {
                differences(&path, before, after, found);
            }
            (before, after) if before != after => {
                found.insert(path);
            }
            _ => {}
        }
    }
}

fn is_taken_up(path: &[String]) -> bool {
    // Whether connections are encrypted is decided at start, and only the certificate files can
    // change. A quota's scope cannot change, because waiting calls keep the one with which they
    // came.
    let is_fixed = path == ["grpc", "tls"] || is_within(path, "connectors.*.quota.scope");
    !is_fixed && TAKEN_UP.iter().any(|taken_up| is_within(path, taken_up))
}

fn is_within(path: &[String], pattern: &str) -> bool {
    let mut parts = path.iter();
    pattern.split('.').all(|wanted| {
        parts
            .next()
            .is_some_and(|part| wanted == "*" || wanted == part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "[connectors.a]\nkind = \"pipedrive\"\n[connectors.b]\nkind = \"clio\"\n";

    fn changes(before: &str, after: &str) -> Changes {
        let read = |more: &str| crate::config::read(&format!("{more}\n{SOUND}"), []).unwrap();
        read(before).changes(&read(after))
    }

    #[test]
    fn each_setting_that_differs_is_named_once_with_what_becomes_of_it() {
        let tokens = format!(
            "[grpc]\ntokens = [{{ name = \"a\", sha256 = \"{}\" }}]\n",
            "0".repeat(64)
        );
        for (before, after, taken_up, waiting) in [
            ("", "", &[][..], &[][..]),
            (
                "",
                "[log]\nlevel = \"warn\"\nformat = \"json\"\nlookups = true",
                &["log.level", "log.lookups"],
                &["log.format"],
            ),
            (
                "",
                "[cache]\nfound = { fresh = \"1m\", stale = \"1h\" }",
                &["cache.found.fresh", "cache.found.stale"],
                &[],
            ),
            (
                "",
                "[cache]\nmemory = \"1MiB\"\nadmitted = \"2h\"",
                &["cache.admitted"],
                &["cache.memory"],
            ),
            ("", "[redis]\nurl = \"redis://127.0.0.1\"", &[], &["redis"]),
            ("", tokens.as_str(), &["grpc.tokens"], &[]),
            (
                "[grpc]\nlisten = \"127.0.0.1:1\"",
                "[grpc]\nlisten = \"127.0.0.1:2\"",
                &[],
                &["grpc.listen"],
            ),
        ] {
            let changes = changes(before, after);
            assert_eq!(
                (changes.taken_up.as_slice(), changes.waiting.as_slice()),
                (&*named(taken_up), &*named(waiting))
            );
        }
    }

    fn named(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    /// A setting that names a file, the settings with it, and two contents.
    fn files() -> [(&'static str, &'static str, [String; 2]); 5] {
        let key = |n: u8| format!("{n}").repeat(32);
        let secrets = "[connectors.c]\nkind = \"vinsolutions\"\n\
                       secrets = { client_id.file = FILE, client_secret.env = \"PATH\", api_key.env = \"PATH\" }";
        let spec = |path: &str| {
            let text = std::fs::read_to_string("deploy/connectors/attio.toml").unwrap();
            format!("{text}\n# {path}\n")
        };
        [
            (
                "redis.key_secret_file",
                "[redis]\nurl = \"redis://h\"\nkey_secret_file = FILE",
                [key(1), key(2)],
            ),
            (
                "redis.encryption_key_file",
                "[redis]\nurl = \"redis://h\"\nencryption_key_file = FILE",
                ["A", "B"].map(|first| format!("k:{first}{}=", "A".repeat(42))),
            ),
            (
                "connectors.c.spec",
                "[connectors.c]\nkind = \"file\"\nspec = FILE",
                [spec("a"), spec("b")],
            ),
            (
                "connectors.c.secrets.client_id.file",
                secrets,
                [key(1), key(2)],
            ),
            (
                "connectors.c.credential",
                "[connectors.c]\nkind = \"pipedrive\"\nbase_url = \"https://h\"\ncredential.file = FILE",
                ["Bearer a".to_owned(), "Bearer b".to_owned()],
            ),
        ]
    }

    #[test]
    fn a_file_with_another_content_is_named() {
        for (setting, text, contents) in files() {
            let file = tempfile::NamedTempFile::new().unwrap();
            let text = text.replace("FILE", &format!("{:?}", file.path()));
            let read = |content: &str| {
                std::fs::write(file.path(), content).unwrap();
                crate::config::read(&format!("{text}\n{SOUND}"), []).unwrap()
            };
            let [first, same, other] = [0, 0, 1].map(|n| read(&contents[n]));
            assert_eq!(first.changes(&same), Changes::default(), "{setting}");
            let Changes { taken_up, waiting } = first.changes(&other);
            assert_eq!([taken_up, waiting].concat(), [setting]);
        }
    }

    #[test]
    fn a_login_waits_with_another_connector_file() {
        let [spec, login] = [(); 2].map(|()| tempfile::NamedTempFile::new().unwrap());
        let [.., (_, _, specs), _, (_, _, logins)] = files();
        let text = format!(
            "[connectors.c]\nkind = \"file\"\nbase_url = \"https://h\"\nspec = {:?}\ncredential.file = {:?}\n",
            spec.path(),
            login.path()
        );
        let read = |n: usize| {
            std::fs::write(spec.path(), &specs[n]).unwrap();
            std::fs::write(login.path(), &logins[n]).unwrap();
            crate::config::read(&text, []).unwrap()
        };
        let (before, after) = (read(0), read(1));
        let Changes { taken_up, waiting } = before.changes(&after);
        assert!(taken_up.is_empty(), "{taken_up:?}");
        assert_eq!(waiting, ["connectors.c.spec", "connectors.c.credential"]);
    }

    #[test]
    fn another_password_of_redis_is_named() {
        let redis =
            |password: &str| format!("[redis]\nreplicas = 1\nurl = \"redis://:{password}@h\"");
        assert_eq!(changes(&redis("one"), &redis("two")).waiting, ["redis.url"]);
        assert_eq!(changes(&redis("one"), &redis("one")), Changes::default());
    }

    #[test]
    fn a_quota_is_taken_up_but_for_its_scope_and_a_connector_waits() {
        let read = |text: &str| crate::config::read(text, []).unwrap();
        let quota = |quota: &str| {
            read(&SOUND.replace("\"clio\"", &format!("\"clio\"\nquota = {{ {quota} }}")))
        };
        let changes = |before: &str, after: &str| quota(before).changes(&quota(after));
        assert_eq!(
            changes("", "rate = 40").taken_up,
            ["connectors.b.quota.rate"]
        );
        assert_eq!(
            changes("", "search = { rate = 9 }").taken_up,
            ["connectors.b.quota.search"]
        );
        assert_eq!(
            changes("other.rate = 30", "other.rate = 31").taken_up,
            ["connectors.b.quota.other.rate"]
        );
        let scope = changes("scope = \"user\"", "scope = \"account\"");
        assert_eq!(
            (scope.taken_up.len(), scope.waiting),
            (0, vec!["connectors.b.quota.scope".to_owned()])
        );
        let one = "[connectors.a]\nkind = \"pipedrive\"\n";
        let changes = read(SOUND).changes(&read(one));
        assert_eq!(
            (changes.taken_up.len(), changes.waiting),
            (0, vec!["connectors.b".to_owned()])
        );
    }
}
