//! Configurations that are refused at load, each with the path of the key.

use super::*;

/// The faults of settings with this configuration and these further settings.
fn faults(config: &str, more: &str) -> String {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(config.as_bytes()).unwrap();
    let toml = format!(
        "[connectors.acme]\nkind = \"proxy\"\nspec = \"{}\"\n{more}\n",
        file.path().display()
    );
    let faults = config::read(&toml, []).err().unwrap_or_default();
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

fn changed(pointer: &str, value: Value) -> String {
    let mut config = with_find(searching(json!({})));
    config["meta"] = json!({"name": "acme", "logFormat": "x"});
    config["operations"]["createCallLog"] = json!({"url": 5});
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[key] = value;
    config.to_string()
}

#[test]
fn what_app_connect_accepts_and_contactd_does_not_read_is_no_fault() {
    assert_eq!(faults(&changed("/other", json!({"contactd": 1})), ""), "");
    for (key, value) in [("timeoutSeconds", json!("soon")), ("retries", json!([1]))] {
        let config = changed(&format!("/requestDefaults/{key}"), value);
        assert_eq!(faults(&config, ""), "", "{key}");
    }
}

#[test]
fn a_faulty_configuration_is_refused_with_the_path_of_the_key() {
    const FIND: &str = "/operations/findContact";
    let at = |key: &str| format!("{FIND}{key}");
    for (pointer, value, expected) in [
        (
            "/requestDefaults".to_owned(),
            json!(null),
            "needs requestDefaults.baseUrl",
        ),
        (
            "/requestDefaults/baseUrl".to_owned(),
            json!(5),
            "requestDefaults.baseUrl: must be a string",
        ),
        (
            "/requestDefaults/baseUrl".to_owned(),
            json!("http://crm.example.com"),
            "requestDefaults.baseUrl: must be an https address",
        ),
        (
            "/requestDefaults/baseUrl".to_owned(),
            json!("https://crm.example.com:8443"),
            "requestDefaults.baseUrl: must be an https address",
        ),
        (
            "/requestDefaults/baseUrl".to_owned(),
            json!("https://{{phoneNumber}}.example.com"),
            "requestDefaults.baseUrl: can only name",
        ),
        (
            "/requestDefaults/defaultHeaders".to_owned(),
            json!([]),
            "requestDefaults.defaultHeaders: must be a table",
        ),
        (
            "/operations".to_owned(),
            json!("x"),
            "operations: must be a table",
        ),
        (
            at("/url"),
            json!(["c"]),
            "operations.findContact.url: must be a string",
        ),
        (
            at("/url"),
            json!("a/../b"),
            "operations.findContact.url: has a segment",
        ),
        (
            at("/url"),
            json!("http://crm.example.com/c"),
            "operations.findContact.url: must be an https",
        ),
        (
            at("/method"),
            json!("DELETE"),
            "operations.findContact.method: must be GET or POST",
        ),
        (
            at("/query"),
            json!("q={{phoneNumber}}"),
            "operations.findContact.query: must be an object",
        ),
        (
            at("/body"),
            json!("{{phoneNumber}}"),
            "operations.findContact.body: must be an object",
        ),
        (
            at("/body"),
            json!({"query": " mutation { x }"}),
            "operations.findContact: sends a GraphQL mutation",
        ),
        (
            at("/query"),
            json!({"q": "x"}),
            "operations.findContact: sends no number",
        ),
        (
            at("/query"),
            json!({"q": "{{phoneNumber}}", "u": "{{user}}"}),
            "has {{user}}, which names a whole object",
        ),
        (
            at("/query"),
            json!({"q": "{{phoneNumber}}", "u": "{{$}}"}),
            "names a whole object",
        ),
        (
            at("/query"),
            json!({"q": "{{phoneNumber}}", "s": "{{secretKey}}"}),
            "secrets.secretKey",
        ),
        (
            at("/headers"),
            json!({"a b": "x"}),
            "operations.findContact.headers.a b: is not the name of a header",
        ),
        (
            at("/headers"),
            json!({"x": {}}),
            "operations.findContact.headers.x: must be a string",
        ),
        (
            at("/auth"),
            json!({"credentialTemplate": "{{phoneNumber}}"}),
            "operations.findContact.auth.credentialTemplate: is a credential",
        ),
        (
            at("/auth"),
            json!({"credentialTemplate": "{{user.refreshToken}}"}),
            "credentialTemplate: names nothing",
        ),
        (
            at("/auth"),
            json!({"headerName": "Host"}),
            "auth.headerName: is not the name",
        ),
        (
            "/auth".to_owned(),
            json!({"credentialTemplate": "{{secretKey}}"}),
            "auth.credentialTemplate: needs the setting secrets.secretKey",
        ),
        (
            at("/responseMapping"),
            json!({"listPath": "data"}),
            "responseMapping.listPath: must be body",
        ),
        (
            at("/responseMapping"),
            json!({"listPath": "$"}),
            "responseMapping.listPath: must be body",
        ),
        (
            at("/responseMapping"),
            json!({"item": {"idPath": 1}}),
            "responseMapping.item.idPath: must be a string",
        ),
        (
            "/contactd".to_owned(),
            json!({"batch": 5}),
            "contactd.batch: is not a key",
        ),
        (
            "/contactd".to_owned(),
            json!({"spellings": ["x"]}),
            "contactd.spellings",
        ),
    ] {
        let found = faults(&changed(&pointer, value.clone()), "");
        assert!(found.contains(expected), "{pointer} {value}: {found}");
    }
    assert!(faults("{\"a\": 1,", "").contains("is not JSON"));
    assert!(faults("[]", "").contains("must be a table"));
}

#[test]
fn an_address_that_callers_decide_about_needs_allowed_hosts() {
    let url = "/operations/findContact/url";
    let allow = |host: &str| format!("allowed_hosts = [\"{host}\"]");
    for (address, is_fine) in [
        ("https://{{user.hostname}}/c", "*.example.com"),
        (
            "https://{{user.platformAdditionalInfo.region}}.example.com/c",
            "*.example.com",
        ),
        ("https://other.example.com/c", "other.example.com"),
    ] {
        let config = changed(url, json!(address));
        assert!(faults(&config, "").contains("allowed_hosts"), "{address}");
        assert_eq!(faults(&config, &allow(is_fine)), "", "{address}");
    }
    let elsewhere = changed(url, json!("https://other.example.com/c"));
    let found = faults(&elsewhere, &allow("crm.example.com"));
    assert!(found.contains("must have \"other.example.com\""), "{found}");
    assert_eq!(
        faults(&elsewhere, "base_url = \"https://test.example.com\""),
        ""
    );
    for same in [
        "https://crm.example.com/c",
        "https://crm.example.com?x={{phoneNumber}}",
    ] {
        assert_eq!(faults(&changed(url, json!(same)), ""), "", "{same}");
    }
}
