//! The settings file: documented, checked, reported.

mod example_file;
mod mistakes;
mod page;

use std::process::{Command, Output};

use contactd::config;
use contactd::domain::phone::Region;

fn read(text: &str, env: &[(&str, &str)]) -> Result<config::Effective, Vec<String>> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    config::read(text, env).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

const MINIMAL: &str = "[connectors.pipedrive]\nkind = \"pipedrive\"\n";

#[test]
fn the_example_file_is_sound_documents_every_key_and_shows_the_defaults() {
    let text = include_str!("../../deploy/config.example.toml");
    let example = read(text, &[]).unwrap();
    let effective: toml::Table = example.toml.parse().unwrap();
    let written: toml::Table = text.parse().unwrap();
    for section in ["grpc", "ops", "log", "cache", "lookup"] {
        assert_eq!(
            written.get(section),
            effective.get(section),
            "[{section}] of the example is complete"
        );
        let defaults: toml::Table = read(MINIMAL, &[]).unwrap().toml.parse().unwrap();
        assert_eq!(
            written.get(section),
            defaults.get(section),
            "[{section}] of the example shows the defaults"
        );
    }
    // Optional keys of connectors are shown, if only as a comment.
    for key in [
        "kind",
        "base_url",
        "allowed_hosts",
        "create_option",
        "region",
        "spec",
        "secrets",
        "credential",
    ] {
        assert!(text.contains(key), "{key}");
    }
    for kind in contactd::connector::kinds() {
        assert!(text.contains(&format!("kind = \"{kind}\"")), "{kind}");
    }
}

#[test]
fn all_faults_are_reported_at_once_each_with_its_path() {
    let faults = read(
        r#"
        typo = 1
        [grpc]
        listen = "everywhere"
        max_in_flight = 0
        max_inflight = 5
        [cache]
        memory = "lots"
        found = { fresh = "2h", stale = "1h" }
        absent = { fresh = "1 fortnight", forever = true }
        admitted = "0s"
        [lookup]
        timeout = 5
        call_timeout = "0s"
        [connectors.a]
        kind = "salesfarce"
        [connectors.b]
        base_url = "ftp://x"
        [connectors.c]
        kind = "pipedrive"
        allowed_hosts = ["*", "*.pipedrive.com", 5]
        create_option = "maybe"
        base_url = "https://user:secret@crm.example"
        [connectors.d]
        kind = "example"
        [redis_]
        url = "x"
        "#,
        &[
            ("CONTACTD__OPS__PORT", "1"),
            ("CONTACTD__CACHE__ABSENT__STALE", "never"),
            ("CONTACTD_AUTH_HEADER", "no setting"),
        ],
    )
    .unwrap_err();
    for path in [
        "typo",
        "grpc.listen",
        "grpc.max_in_flight",
        "grpc.max_inflight",
        "cache.memory",
        "cache.found.stale",
        "cache.absent.fresh",
        "cache.absent.forever",
        "cache.absent.stale",
        "cache.admitted",
        "lookup.timeout",
        "lookup.call_timeout",
        "connectors.a.kind",
        "connectors.b.kind",
        "connectors.b.base_url",
        "connectors.c.allowed_hosts",
        "connectors.c.create_option",
        "connectors.c.base_url",
        "connectors.d.base_url",
        "redis_",
        "ops.port",
    ] {
        assert!(
            faults
                .iter()
                .any(|fault| fault.starts_with(&format!("{path}: "))),
            "{path} in {faults:#?}"
        );
    }
    assert_eq!(faults.len(), 22, "{faults:#?}");
    assert!(
        !faults.iter().any(|fault| fault.contains("secret")),
        "{faults:#?}"
    );
}

#[test]
fn a_file_that_is_not_toml_is_reported_with_its_line() {
    let faults = read("[grpc]\nlisten = \n", &[]).unwrap_err();
    assert!(faults[0].contains("line 2"), "{faults:?}");
    assert!(read("", &[]).unwrap_err()[0].starts_with("connectors: "));
}

#[test]
fn the_environment_wins_over_the_file() {
    let env = [
        ("CONTACTD__GRPC__LISTEN", "127.0.0.1:0"),
        ("CONTACTD__GRPC__MAX_IN_FLIGHT", "7"),
        ("CONTACTD__CACHE__FOUND__FRESH", "5s"),
        ("CONTACTD__CONNECTORS__PIPEDRIVE__CREATE_OPTION", "false"),
        (
            "CONTACTD__CONNECTORS__PIPEDRIVE__ALLOWED_HOSTS",
            "a.example.com, *.example.org",
        ),
        ("CONTACTD__CONNECTORS__NEW__KIND", "clio"),
        ("PATH", "/bin"),
    ];
    let config = read(
        "[grpc]\nlisten = \"127.0.0.1:1\"\n[connectors.pipedrive]\nkind = \"pipedrive\"\n",
        &env,
    )
    .unwrap()
    .config;
    assert_eq!(config.grpc.listen.port(), 0);
    assert_eq!(config.grpc.max_in_flight, 7);
    assert_eq!(config.ages.found.fresh.as_secs(), 5);
    let names: Vec<_> = config
        .connectors
        .iter()
        .map(|connector| connector.name.as_str())
        .collect();
    assert_eq!(names, ["new", "pipedrive"]);
    assert!(!config.connectors[1].create_option);
    assert_eq!(config.connectors[1].allowed_hosts.len(), 2);
}

fn check(text: &str) -> Output {
    check_with(text, &[])
}

fn check_with(text: &str, env: &[(&str, &str)]) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_contactd"));
    command
        .args(["check-config", "--config"])
        .arg(file.path())
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn check_config_prints_the_effective_settings_or_every_fault() {
    let sound = check(MINIMAL);
    assert_eq!(sound.status.code(), Some(0));
    let printed = String::from_utf8(sound.stdout).unwrap();
    let again = read(&printed, &[]).unwrap();
    assert_eq!(
        again.toml, printed,
        "what is printed is itself a settings file"
    );
    assert!(
        printed.contains("allowed_hosts = [\"*.pipedrive.com\"]"),
        "{printed}"
    );

    let faulty = check("[grpc]\nlisten = \"x\"\n[nonsense]\n");
    assert_eq!(faulty.status.code(), Some(2));
    let told = String::from_utf8(faulty.stderr).unwrap();
    for path in ["grpc.listen", "nonsense", "connectors"] {
        assert!(told.contains(path), "{told}");
    }
    let missing = Command::new(env!("CARGO_BIN_EXE_contactd"))
        .args(["check-config", "--config", "/nowhere.toml"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn faults_of_a_key_file_say_what_to_do_and_never_what_is_in_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let settings = format!(
        "{MINIMAL}[redis]\nurl = \"redis://127.0.0.1\"\nreplicas = 2\nencryption_key_file = \"{}\"\n",
        file.path().display()
    );
    for (content, said) in [
        ("", "openssl rand -base64 32"),
        ("c2VjcmV0LXNlY3JldA==\n", "line 1 is not ID:KEY"),
        (
            "# ours\nk1:c2VjcmV0LXNlY3JldA==\n",
            "line 2 has no key of 32 bytes in base64",
        ),
    ] {
        std::fs::write(file.path(), content).unwrap();
        let refused = check(&settings);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(
            told.contains("redis.encryption_key_file: ") && told.contains(said),
            "{told}"
        );
        assert!(!told.contains("c2Vj"), "{told}");
    }
    drop(file);
    let told = String::from_utf8(check(&settings).stderr).unwrap();
    assert!(
        told.contains("redis.encryption_key_file: ") && told.contains("cannot be read"),
        "{told}"
    );
}

#[test]
fn what_works_but_is_worth_a_thought_is_a_warning() {
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD
        .encode([contactd::redis_link::user::token(); 2].concat());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("k1:{key}\n")).unwrap();
    let path = file.path().display();
    let warnings = |more: &str| -> Vec<String> {
        let text = format!("[connectors.example]\nkind = \"example\"\nregion = \"US\"\n{more}");
        read(&text, &[])
            .unwrap()
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    for quiet in [
        "https://crm.example",
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "http://localhost:1",
    ] {
        assert_eq!(
            warnings(&format!("base_url = \"{quiet}\"\n")),
            Vec::<String>::new(),
            "{quiet}"
        );
    }
    for loud in [
        "http://crm.example",
        "http://10.0.0.1",
        "http://localhost.example",
    ] {
        let told = warnings(&format!("base_url = \"{loud}\"\n"));
        assert!(
            told.len() == 1 && told[0].starts_with("connectors.example.base_url: is http"),
            "{told:?}"
        );
    }
    let redis = format!(
        "base_url = \"https://crm.example\"\n[redis]\nurl = \"redis://127.0.0.1\"\nreplicas = 2\nencryption_key_file = \"{path}\"\n"
    );
    let mode = |mode| {
        std::fs::set_permissions(
            file.path(),
            std::os::unix::fs::PermissionsExt::from_mode(mode),
        )
        .unwrap()
    };
    mode(0o600);
    assert_eq!(warnings(&redis), Vec::<String>::new());
    mode(0o644);
    let told = warnings(&redis);
    assert!(
        told[0].contains("redis.encryption_key_file: ") && told[0].contains("chmod 600"),
        "{told:?}"
    );

    let checked = check(&format!(
        "[connectors.example]\nkind = \"example\"\n{redis}"
    ));
    assert_eq!(checked.status.code(), Some(0));
    assert!(
        String::from_utf8(checked.stderr)
            .unwrap()
            .contains("contactd: warning: redis.encryption_key_file: ")
    );
    assert!(!String::from_utf8(checked.stdout).unwrap().contains(&key));
}

#[test]
fn a_connector_has_one_region_or_several_and_a_warning_if_it_has_none() {
    let region = |code| Region::parse(code).unwrap();
    let told = |line: &str, env: &[(&str, &str)]| {
        let text = format!(
            "[connectors.example]\nkind = \"example\"\nbase_url = \"http://127.0.0.1:1\"\n{line}\n"
        );
        read(&text, env).map(|read| {
            (
                read.config.connectors[0].regions.clone(),
                read.warnings.len(),
            )
        })
    };
    assert_eq!(
        told("region = \"de\"", &[]).unwrap(),
        (vec![region("DE")], 0)
    );
    let both = (vec![region("DE"), region("AT")], 0);
    assert_eq!(
        told("region = [\"DE\", \"AT\", \"DE\"]", &[]).unwrap(),
        both
    );
    assert_eq!(
        told("", &[("CONTACTD__CONNECTORS__EXAMPLE__REGION", "DE, AT")]).unwrap(),
        both
    );
    assert_eq!(told("", &[]).unwrap(), (vec![], 1));
    for wrong in [
        "region = \"Germany\"",
        "region = [\"XX\"]",
        "region = 49",
        "region = \"\"",
    ] {
        let faults = told(wrong, &[]).unwrap_err();
        assert!(
            faults
                .iter()
                .all(|fault| fault.starts_with("connectors.example.region")),
            "{wrong}: {faults:?}"
        );
    }
}

#[test]
fn words_for_no_number_are_texts_with_something_in_them() {
    let with = |line: &str| read(&format!("{MINIMAL}\n[lookup]\n{line}\n"), &[]);
    assert!(with("withheld = [\"Kein Anschluss\", \"n.n.\"]").is_ok());
    assert!(with("withheld = [\" - \"]").unwrap_err()[0].starts_with("lookup.withheld"));
}
