//! Everything that an embedded file reads of a user makes another key or another credential.

use std::collections::BTreeSet;

use super::*;
use crate::domain::{AuthTag, E164, Party, QuestionKey};

/// The names after `setting.` and `info.`, and the settings that switch something, in the text of a
/// file: the reader of files could forget one.
fn read_by(source: &str) -> [BTreeSet<String>; 2] {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let after = |mark: &str| -> BTreeSet<String> {
        let rests = source.split(mark).skip(1);
        let names = rests.filter_map(|rest| rest.split(|c| !is_name(c)).next());
        names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut settings = after("{{setting.");
    for mark in [
        "if_setting = \"",
        "unless_setting = \"",
        "if_among = { ",
        "={{setting.",
    ] {
        settings.extend(after(mark));
    }
    [settings, after("{{info.")]
}

/// What separates the answers of a user with this text in one setting or one field.
fn names(
    platform: &Platform,
    kind: &str,
    changed: (&str, &str),
    host: &str,
) -> (AuthTag, QuestionKey) {
    let inputs = &platform.profile().inputs;
    let with = |names: &[String], prefix: &str| {
        let mut fields = filled_info(kind, names, "x");
        if let Some(name) = changed.0.strip_prefix(prefix) {
            let other = filled_info(kind, &[name.to_owned()], changed.1);
            fields.extend(other);
        }
        to_struct(&fields)
    };
    let user = User {
        id: "1".to_owned(),
        account: String::new(),
        host: Host::parse(host),
        region: None,
        settings: Settings::new(with(&inputs.settings, "setting.")),
        info: AdditionalInfo::only(&with(&inputs.info, "info."), &inputs.info),
    };
    let auth = AuthHeader::parse("Bearer t0k3n").unwrap();
    let number = E164::parse("+16505550101", None).unwrap();
    let prefix = platform.keys().prefix(&platform.crm(), &user, &[]);
    let question = prefix.question(Party::Number(number));
    (platform.auth_tag(&user, &auth), question)
}

/// A CRM at one address whose requests say which tenant they are for.
const TENANTS: &str = "format = 1
name = \"Tenants\"
[crm]
base = \"https://crm.example.com\"
quota = { rate = 10, per = \"1s\" }
[[search]]
get = \"/search\"
query = { phone = \"{{text}}\", tenant = \"{{host}}\" }
list = \"people\"
phones = [\"phone\"]
record = { id = \"{{id}}\", name = \"{{name}}\" }
[whoami]
get = \"/me\"
id = [\"id\"]
query.tenant = \"{{host}}\"
";

#[test]
fn a_host_that_requests_contain_makes_another_tag_wherever_the_address_comes_from() {
    let by_label = TENANTS.replace("{{host}}", "{{host.label}}");
    let elsewhere = || "https://elsewhere.example.com".parse().ok();
    for (source, base_url) in [
        (TENANTS, None),
        (TENANTS, elsewhere()),
        (&by_label, None),
        (&by_label, elsewhere()),
    ] {
        let file = read_spec(SpecKind::File, source, Secrets::Any).unwrap();
        let platform = crate::fuzz::platform_at(file, base_url);
        let tag = |host: &str| {
            let user = User {
                id: "1".to_owned(),
                account: String::new(),
                host: Host::parse(host),
                region: None,
                settings: Settings::default(),
                info: AdditionalInfo::default(),
            };
            platform.auth_tag(&user, &AuthHeader::parse("Bearer t0k3n").unwrap())
        };
        assert!(tag("a.example.com") == tag("a.example.com"));
        assert!(tag("a.example.com") != tag("b.example.com"));
    }
}

#[test]
fn a_setting_and_a_field_of_one_name_make_different_tags() {
    let source = TENANTS
        .replace(
            "\"{{host}}\" }",
            "\"{{setting.tenant}}\", of = \"{{info.tenant}}\" }",
        )
        .replace(
            "\"{{host}}\"",
            "\"{{setting.tenant}}\"\nquery.of = \"{{info.tenant}}\"",
        );
    let file = read_spec(SpecKind::File, &source, Secrets::Any).unwrap();
    let platform = crate::fuzz::platform_at(file, None);
    let inputs = &platform.profile().inputs;
    let tag = |settings: &[(&str, &str)], info: &[(&str, &str)]| {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).into()));
            to_struct(&pairs.collect())
        };
        let user = User {
            id: "1".to_owned(),
            account: String::new(),
            host: None,
            region: None,
            settings: Settings::new(of(settings)),
            info: AdditionalInfo::only(&of(info), &inputs.info),
        };
        platform.auth_tag(&user, &AuthHeader::parse("Bearer t0k3n").unwrap())
    };
    let a = [("tenant", "a")];
    assert!(tag(&a, &[]) == tag(&a, &[]));
    assert!(tag(&a, &[]) != tag(&[], &a));
}

#[test]
fn each_input_of_every_file_makes_another_key_or_another_tag() {
    for (kind, file) in files() {
        let platform = platform(&file);
        let inputs = &platform.profile().inputs;
        let host = "a.example.com";
        let base = names(&platform, kind, ("", ""), host);
        assert!(base == names(&platform, kind, ("", ""), host), "{kind}");
        let [settings, info] = read_by(embedded(kind).unwrap());
        let known: BTreeSet<String> = inputs.settings.iter().cloned().collect();
        assert!(settings.is_subset(&known), "{kind}: {settings:?} {known:?}");
        let known: BTreeSet<String> = inputs.info.iter().cloned().collect();
        assert!(info.is_subset(&known), "{kind}: {info:?} {known:?}");
        let settings = inputs.settings.iter().map(|name| format!("setting.{name}"));
        let fields = inputs.info.iter().map(|name| format!("info.{name}"));
        for name in settings.chain(fields) {
            let other = names(&platform, kind, (&name, "y"), host);
            assert!(base != other, "{kind}: {name}");
        }
        assert!(
            base != names(&platform, kind, ("", ""), "b.example.com"),
            "{kind}: host"
        );
    }
}
