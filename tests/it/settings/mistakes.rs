//! One mistake, one fault: at its own path, and nothing else is blamed for it.

use super::{check, check_with, read};

const SOUND: &str = "[connectors.example]\nkind = \"example\"\nbase_url = \"http://127.0.0.1:1\"\nregion = \"US\"\n";

/// A file with one mistake in it, and where the mistake is.
const MISTAKES: &[(&str, &str)] = &[
    // What is no section.
    ("grpc = 1", "grpc"),
    ("cache = \"much\"", "cache"),
    ("redis = \"redis://127.0.0.1\"", "redis"),
    ("tracing = true", "tracing"),
    ("connectors = 1", "connectors"),
    ("connectors = { example = 1 }", "connectors.example"),
    ("[cache]\nfound = \"10m\"", "cache.found"),
    ("[grpc]\ntls = true", "grpc.tls"),
    ("[grpc]\ntokens = 1", "grpc.tokens"),
    ("[grpc]\ntokens = [1]", "grpc.tokens[0]"),
    ("listen = \"127.0.0.1:1\"", "listen"),
    ("[rediss]\nurl = \"redis://127.0.0.1\"", "rediss"),
    // Ports.
    ("[grpc]\nlisten = \"everywhere\"", "grpc.listen"),
    ("[grpc]\nlisten = 50051", "grpc.listen"),
    ("[grpc]\nlisten = \"0.0.0.0:50051\"", "grpc.listen"),
    ("[grpc]\nlisten = \"127.0.0.1:9464\"", "ops.listen"),
    ("[ops]\nlisten = \"0.0.0.0:50051\"", "ops.listen"),
    (
        "[ops]\nlisten = \"nowhere\"\n[grpc]\nlisten = \"127.0.0.1:9464\"",
        "ops.listen",
    ),
    ("[grpc]\nmax_in_flight = 0", "grpc.max_in_flight"),
    (
        "[grpc]\nmax_connection_age = \"0s\"",
        "grpc.max_connection_age",
    ),
    ("[grpc]\ndrain_delay = \"20y\"", "grpc.drain_delay"),
    // Clients: other machines can reach the port, so they need a credential.
    (
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntokens = [{ name = \"pbx\", sha256 = \"short\" }]",
        "grpc.tokens[0].sha256",
    ),
    (
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntokens = [{ name = \"pbx\", sha256 = 5 }]",
        "grpc.tokens[0].sha256",
    ),
    (
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntokens = [{ name = \"pbx\" }]",
        "grpc.tokens[0].sha256",
    ),
    (
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntokens = [{ name = \"\", sha256 = \"HASH\" }]",
        "grpc.tokens[0].name",
    ),
    (
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntokens = [{ name = 5, sha256 = \"HASH\" }]",
        "grpc.tokens[0].name",
    ),
    (
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntokens = [{ sha256 = \"HASH\" }]",
        "grpc.tokens[0].name",
    ),
    (
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntokens = [{ nam = \"pbx\", sha256 = \"HASH\" }]",
        "grpc.tokens[0].nam",
    ),
    (
        "[grpc]\ntokens = [{ name = \"pbx\", sha256 = \"HASH\", platforms = [\"exmaple\"] }]",
        "grpc.tokens[0].platforms",
    ),
    (
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntls = { cert = \"/nowhere\", key = \"/nowhere\", client_ca = \"/nowhere\" }",
        "grpc.tls.cert",
    ),
    (
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntls = { cert = 5, key = \"/nowhere\", client_ca = \"/nowhere\" }",
        "grpc.tls.cert",
    ),
    (
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntls = { key = \"/nowhere\", client_ca = \"/nowhere\" }",
        "grpc.tls.cert",
    ),
    (
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntls = { crt = \"/n\", key = \"/n\", client_ca = \"/n\" }",
        "grpc.tls.crt",
    ),
    // Ages and sizes.
    ("[cache]\nmemory = \"lots\"", "cache.memory"),
    ("[cache]\nmemory = \"0B\"", "cache.memory"),
    ("[cache]\nmemory = \"2000PiB\"", "cache.memory"),
    ("[cache]\nmemory = 5", "cache.memory"),
    ("[cache]\nmemroy = \"1GiB\"", "cache.memroy"),
    (
        "[cache]\nfound = { fresh = \"2h\", stale = \"1h\" }",
        "cache.found.stale",
    ),
    (
        "[cache]\nfound = { fresh = \"2 hourz\", stale = \"5m\" }",
        "cache.found.fresh",
    ),
    (
        "[cache]\nfound = { fresh = \"48h\", stale = \"2000y\" }",
        "cache.found.stale",
    ),
    (
        "[cache]\nabsent = { stale = \"2000y\" }",
        "cache.absent.stale",
    ),
    ("[cache]\nadmitted = \"2000y\"", "cache.admitted"),
    ("[cache]\nadmitted = \"0s\"", "cache.admitted"),
    ("[cache]\nadmitted = \"999999999999999y\"", "cache.admitted"),
    // Redis.
    ("[redis]", "redis.url"),
    ("[redis]\nurl = 6379", "redis.url"),
    ("[redis]\nurl = \"127.0.0.1:6379\"", "redis.url"),
    ("[redis]\nurl = \"redis://u:p#w@127.0.0.1\"", "redis.url"),
    ("[redis]\nurl = \"redis://u:p?w@127.0.0.1\"", "redis.url"),
    ("[redis]\nulr = \"redis://127.0.0.1\"", "redis.ulr"),
    (
        "[redis]\nurl = \"redis://127.0.0.1\"\ntimeout = \"0s\"",
        "redis.timeout",
    ),
    (
        "[redis]\nurl = \"redis://127.0.0.1\"\ntimeout = \"2000y\"",
        "redis.timeout",
    ),
    (
        "[redis]\nurl = \"redis://127.0.0.1\"\nkey_prefix = \"a{b}\"",
        "redis.key_prefix",
    ),
    (
        "[redis]\nurl = \"redis://127.0.0.1\"\nkey_secret_file = \"/nowhere\"",
        "redis.key_secret_file",
    ),
    (
        "[redis]\nurl = \"redis://127.0.0.1\"\nencryption_key_file = \"/nowhere\"",
        "redis.encryption_key_file",
    ),
    (
        "[redis]\nurl = \"rediss://127.0.0.1\"\nca_file = \"/nowhere\"",
        "redis.ca_file",
    ),
    (
        "[redis]\nurl = \"rediss://127.0.0.1\"\nca_file = \"/proc/self/cmdline\"",
        "redis.ca_file",
    ),
    // Traces.
    ("[tracing]", "tracing.otlp_endpoint"),
    (
        "[tracing]\nsample = 2\notlp_endpoint = \"http://127.0.0.1:4317\"",
        "tracing.sample",
    ),
    (
        "[tracing]\notlp_endpoint = \"https://127.0.0.1:4317\"",
        "tracing.otlp_endpoint",
    ),
    ("[tracing]\notlp_endpoint = 4317", "tracing.otlp_endpoint"),
    (
        "[tracing]\nendpoint = \"http://127.0.0.1:4317\"",
        "tracing.endpoint",
    ),
    // Look-ups.
    ("[lookup]\ntimeout = 5", "lookup.timeout"),
    ("[lookup]\ncall_timeout = \"0s\"", "lookup.call_timeout"),
    ("[lookup]\ncall_timeout = \"2000y\"", "lookup.call_timeout"),
    ("[lookup]\nmax_reply = \"2000PiB\"", "lookup.max_reply"),
    ("[lookup]\nmax_pages = 0", "lookup.max_pages"),
    ("[lookup]\nwithheld = [\" \"]", "lookup.withheld"),
    // Connectors.
    ("", "connectors"),
    (
        "[connectors.a]\nbase_url = \"http://127.0.0.1:1\"",
        "connectors.a.kind",
    ),
    ("[connectors.a]\nkind = \"salesfarce\"", "connectors.a.kind"),
    ("[connectors.a]\nkind = 5", "connectors.a.kind"),
    ("[connectors.a]\nknid = \"clio\"", "connectors.a.knid"),
    (
        "[connectors.a]\nkind = \"example\"\nbaseurl = \"http://127.0.0.1:1\"",
        "connectors.a.baseurl",
    ),
    (
        "[connectors.a]\nkind = \"example\"\nallowed_host = [\"crm.example\"]",
        "connectors.a.allowed_host",
    ),
    (
        "[connectors.a]\nkind = \"example\"",
        "connectors.a.base_url",
    ),
    (
        "[connectors.a]\nkind = \"example\"\nbase_url = \"ftp://x\"",
        "connectors.a.base_url",
    ),
    (
        "[connectors.a]\nkind = \"example\"\nbase_url = 5",
        "connectors.a.base_url",
    ),
    (
        "[connectors.a]\nkind = \"example\"\nallowed_hosts = [\"*\"]",
        "connectors.a.allowed_hosts",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nallowed_hosts = 5",
        "connectors.a.allowed_hosts",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nregion = \"Germany\"",
        "connectors.a.region",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nidentity = \"anybody\"",
        "connectors.a.identity",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\ncreate_option = \"maybe\"",
        "connectors.a.create_option",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = 50",
        "connectors.a.quota",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { rate = 0 }",
        "connectors.a.quota.rate",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { rate = 1000000, per = \"1s\" }",
        "connectors.a.quota.rate",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { rate = 1000000, per = \"31 dayz\" }",
        "connectors.a.quota.per",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { per = \"0s\" }",
        "connectors.a.quota.per",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { per = \"2000y\" }",
        "connectors.a.quota.per",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { burst = 0 }",
        "connectors.a.quota.burst",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { scope = \"team\" }",
        "connectors.a.quota.scope",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { prefetch_share = 2 }",
        "connectors.a.quota.prefetch_share",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { concurrent = 0 }",
        "connectors.a.quota.concurrent",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { per_day = 0 }",
        "connectors.a.quota.per_day",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { per_day = 49 }",
        "connectors.a.quota.per_day",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { per_day = 99, search = { rate = 100 } }",
        "connectors.a.quota.per_day",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { search = { concurrent = 2 } }",
        "connectors.a.quota.search.concurrent",
    ),
    (
        "[connectors.a]\nkind = \"clio\"\nquota = { rates = 2 }",
        "connectors.a.quota.rates",
    ),
    (
        "[connectors.a]\nkind = \"clip\"\n[grpc]\ntokens = [{ name = \"p\", sha256 = \"HASH\", platforms = [\"a\"] }]",
        "connectors.a.kind",
    ),
];

/// A settings file with this mistake. If the mistake is about connectors, no sound connector is
/// added.
fn file(mistake: &str) -> String {
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let own = mistake.is_empty() || mistake.contains("connectors");
    format!(
        "{}\n{}",
        mistake.replace("HASH", hash),
        if own { "" } else { SOUND }
    )
}

#[test]
fn each_single_mistake_is_one_fault_at_its_path() {
    let mut wrong = Vec::new();
    for (mistake, path) in MISTAKES {
        let faults = read(&file(mistake), &[]).err().unwrap_or_default();
        if faults.len() != 1 || !faults[0].starts_with(&format!("{path}: ")) {
            wrong.push(format!(
                "{mistake}\n  should be at {path}, and got {faults:#?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        MISTAKES.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_mistake_in_the_environment_is_one_fault_too() {
    for (variable, value, path) in [
        ("CONTACTD__CACHE__MEMROY", "1GiB", "cache.memroy"),
        ("CONTACTD__REDIS__ULR", "redis://127.0.0.1", "redis.ulr"),
        (
            "CONTACTD__REDIS__URL",
            "redis://u:p#w@127.0.0.1",
            "redis.url",
        ),
        ("CONTACTD__REDIS__TIMEOUT", "1s", "redis.url"),
        (
            "CONTACTD__CONNECTORS__EXAMPLE__QUOTA__RATE",
            "many",
            "connectors.example.quota.rate",
        ),
        (
            "CONTACTD__CONNECTORS__EXAMPLE__QUOTA__RATES",
            "5",
            "connectors.example.quota.rates",
        ),
        (
            "CONTACTD__CONNECTORS__OTHER__REGION",
            "US",
            "connectors.other.kind",
        ),
        ("CONTACTD__NONSENSE__MEMORY", "5", "nonsense.memory"),
    ] {
        let faults = read(SOUND, &[(variable, value)]).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].starts_with(&format!("{path}: ")),
            "{variable}: {faults:#?}"
        );
    }
}

#[test]
fn a_misspelt_key_is_told_what_is_needed_and_what_there_is() {
    let told = read(
        &format!("[redis]\nulr = \"redis://127.0.0.1\"\n{SOUND}"),
        &[],
    )
    .unwrap_err();
    assert!(
        told[0].contains("url (required)") && told[0].contains("timeout"),
        "{told:?}"
    );
}

#[test]
fn a_misspelt_name_is_told_which_one_it_is_like() {
    let connector = |line: &str| format!("[connectors.a]\nkind = \"example\"\n{line}\n");
    for (text, like) in [
        (
            connector("baseurl = \"http://127.0.0.1:1\""),
            Some("base_url"),
        ),
        (
            connector("BASE_URL = \"http://127.0.0.1:1\""),
            Some("base_url"),
        ),
        (
            connector("allowed-hosts = [\"crm.example\"]"),
            Some("allowed_hosts"),
        ),
        (connector("nonsense = 1"), None),
        (
            format!("[rediss]\nurl = \"redis://127.0.0.1\"\n{SOUND}"),
            Some("redis"),
        ),
        (
            format!("[lookups]\ntimeout = \"1s\"\n{SOUND}"),
            Some("lookup"),
        ),
        (
            format!("[cache]\nmemroy = \"1GiB\"\n{SOUND}"),
            Some("memory"),
        ),
        (
            "[connectors.a]\nkind = \"salesfarce\"\n".to_owned(),
            Some("salesforce"),
        ),
        ("[connectors.a]\nkind = \"my-crm\"\n".to_owned(), None),
    ] {
        let told = read(&text, &[]).unwrap_err();
        let meant = like.map(|like| format!("did you mean \"{like}\"?"));
        match meant {
            Some(meant) => assert!(
                told.len() == 1 && told[0].contains(&meant),
                "{text}: {told:?}"
            ),
            None => assert!(!told[0].contains("did you mean"), "{text}: {told:?}"),
        }
    }
    let told = read(
        &format!("[rediss]\nurl = \"redis://127.0.0.1\"\n{SOUND}"),
        &[],
    )
    .unwrap_err();
    assert!(
        told[0].contains("the sections are: grpc, ops, log"),
        "{told:?}"
    );
    let variable = read(SOUND, &[("CONTACTD__CACHES__MEMORY", "1GiB")]).unwrap_err();
    assert!(
        variable[0].contains("did you mean \"cache\"?"),
        "{variable:?}"
    );
}

#[test]
fn special_characters_in_the_password_of_redis_are_told_how_to_be_written() {
    for character in ["#", "?"] {
        let text = format!("[redis]\nurl = \"redis://u:pass{character}word@127.0.0.1\"\n{SOUND}");
        let told = read(&text, &[]).unwrap_err();
        assert!(
            told[0].contains("# as %23") && told[0].contains("? as %3F"),
            "{told:?}"
        );
        assert!(
            !told[0].contains("pass") || !told[0].contains("word@"),
            "{told:?}"
        );
    }
    let coded = read(
        &format!("[redis]\nurl = \"redis://u:pass%23%3Fword@127.0.0.1\"\n{SOUND}"),
        &[],
    );
    assert!(coded.is_ok(), "{coded:?}");
}

#[test]
fn what_is_worth_a_thought_about_ports_and_variables_is_a_warning() {
    let warnings = |text: &str, env: &[(&str, &str)]| -> Vec<String> {
        let read = read(&format!("{text}\n{SOUND}"), env).unwrap();
        read.warnings.iter().map(ToString::to_string).collect()
    };
    for quiet in ["127.0.0.1:9464", "[::1]:0", "[::ffff:127.0.0.1]:9"] {
        assert_eq!(
            warnings(&format!("[ops]\nlisten = \"{quiet}\""), &[]),
            Vec::<String>::new(),
            "{quiet}"
        );
    }
    for loud in ["0.0.0.0:9464", "[::]:9464", "10.0.0.1:9464"] {
        let told = warnings(&format!("[ops]\nlisten = \"{loud}\""), &[]);
        assert!(
            told.len() == 1 && told[0].starts_with("ops.listen: "),
            "{told:?}"
        );
    }
    let told = warnings(
        "",
        &[
            ("CONTACTD_CACHE__MEMORY", "1GiB"),
            ("CONTACTD_LOG", "debug"),
            ("PATH", "/bin"),
        ],
    );
    assert!(
        told.len() == 1 && told[0].starts_with("CONTACTD_CACHE__MEMORY: "),
        "{told:?}"
    );
    assert!(
        told[0].contains("CONTACTD__CACHE__MEMORY") && !told[0].contains("1GiB"),
        "{told:?}"
    );
    // Two ports that are chosen by the system, and one port at two addresses.
    assert!(
        read(
            &format!("[grpc]\nlisten = \"127.0.0.1:0\"\n[ops]\nlisten = \"127.0.0.1:0\"\n{SOUND}"),
            &[]
        )
        .is_ok()
    );
    assert!(
        read(
            &format!("[grpc]\nlisten = \"127.0.0.2:7\"\n[ops]\nlisten = \"127.0.0.1:7\"\n{SOUND}"),
            &[]
        )
        .is_ok()
    );
}

#[test]
fn check_config_and_the_daemon_say_which_variable_means_nothing() {
    let checked = check_with(SOUND, &[("CONTACTD_CACHE__MEMORY", "1GiB")]);
    assert_eq!(checked.status.code(), Some(0));
    let told = String::from_utf8(checked.stderr).unwrap();
    assert!(
        told.contains("contactd: warning: CONTACTD_CACHE__MEMORY: "),
        "{told}"
    );
    assert_eq!(check(SOUND).stderr, b"");
}

#[test]
fn a_value_of_another_form_is_answered_with_the_form_and_never_with_the_value() {
    let crm = |setting: &str| {
        format!("[connectors.a]\nkind = \"vinsolutions\"\nregion = \"US\"\n{setting}\n")
    };
    let secret = "must be { file = \"/path\" } or { env = \"NAME\" }";
    let quota = "must be { rate = 40, per = \"60s\", burst = 10 }";
    let url = "write http:// or https:// before it";
    for (text, path, words) in [
        (
            crm("secrets.api_key = \"shared-secret\""),
            "connectors.a.secrets.api_key",
            secret,
        ),
        (
            crm("secrets.api_key = { env = \"shared-secret\" }"),
            "connectors.a.secrets.api_key.env",
            "names a variable that is not set",
        ),
        (
            crm("secrets.api_key = { file = \"shared-secret\" }"),
            "connectors.a.secrets.api_key.file",
            "cannot be read",
        ),
        (
            "[grpc]\ntokens = [{ name = \"a\", sha256 = \"shared-secret\" }]".to_owned(),
            "grpc.tokens[0].sha256",
            "",
        ),
        (
            "[grpc]\ntokens = [\"shared-secret\"]".to_owned(),
            "grpc.tokens[0]",
            "",
        ),
        (crm("quota = 50"), "connectors.a.quota", quota),
        (crm("quota.search = 50"), "connectors.a.quota.search", quota),
        (
            crm("base_url = \"127.0.0.1:8080\""),
            "connectors.a.base_url",
            url,
        ),
        (
            crm("base_url = \"localhost:8080\""),
            "connectors.a.base_url",
            url,
        ),
        (
            "[grpc]\nlisten = \"localhost:50051\"".to_owned(),
            "grpc.listen",
            "must be an IP address and a port, such as \"127.0.0.1:50051\"",
        ),
        (
            "[ops]\nlisten = \":9464\"".to_owned(),
            "ops.listen",
            "must be an IP address and a port, such as \"127.0.0.1:9464\"",
        ),
    ] {
        let faults = read(&text, &[]).unwrap_err();
        let fault = faults
            .iter()
            .find(|fault| fault.starts_with(&format!("{path}: ")))
            .unwrap_or_else(|| panic!("{text}{faults:#?}"));
        assert!(fault.contains(words), "{fault}");
        assert!(!faults.concat().contains("shared-secret"), "{faults:#?}");
    }
}
