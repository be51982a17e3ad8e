//! What the commands say to somebody who meets connector files for the first time.

use super::*;

/// A file with this content, and its path.
fn file(name: &str, content: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

/// The faults that `check` reports, each with its line.
async fn faults(path: &str) -> Vec<(String, Option<u64>)> {
    let (code, reports) = json_of(&["check", path]).await;
    assert_eq!(code, Some(2), "{reports}");
    let faults = reports[0]["faults"].as_array().unwrap().iter();
    faults
        .map(|fault| {
            let text = format!("{}: {}", fault["key"], fault["message"]);
            (text, fault["line"].as_u64())
        })
        .collect()
}

/// App Connect's configuration of a search.
fn proxy() -> Value {
    json!({
        "auth": {"type": "apiKey"},
        "requestDefaults": {"baseUrl": "https://crm.example.com"},
        "operations": {"findContact": {
            "url": "/contacts",
            "query": {"q": "{{phoneNumber}}"},
            "responseMapping": {"listPath": "body.data"},
        }},
    })
}

#[tokio::test]
async fn one_mistake_is_one_fault_with_its_line() {
    for (right, wrong, expected) in [
        ("format = 1", "format = 2", "must be 1"),
        ("name = \"My CRM\"", "", "needs name"),
        ("\"national\"", "\"natonal\"", "is not a spelling"),
        ("https://crm.example.com", "http://crm.example.com", "https"),
        ("base = \"https://crm.example.com\"", "", "needs base"),
        ("per = \"1s\"", "per = \"1x\"", "per"),
        ("rate = 50", "rate = \"x\"", "rate"),
        ("rate = 50", "rat = 50", "did you mean rate?"),
        ("[crm]", "[cmr]", "crm"),
        ("get = \"/api/v1/contacts\"", "get = \"api\"", "slash"),
        ("{{text}}", "{{txt}}", "{{txt}}"),
        ("{{text}}", "{{text | lst 4}}", "lst"),
        ("list = \"contacts\"", "list = \"contacts[\"", "list"),
        ("phones[].number", "phones[.number", "phones"),
        ("next_page\", number", "next page\", number", "cursor"),
        ("as = \"query.page\"", "as = \"page\"", "as"),
        ("id = \"{{id}}\", kind", "kind", "needs id"),
        ("{{setting.team}}", "{{seting.team}}", "seting"),
        ("per = \"answer\"", "per = \"contact\"", "per"),
        ("const = \"{{id}}\", ", "", "const"),
        ("name = \"team\"", "nam = \"team\"", "did you mean name?"),
        ("choice = {", "choices = {", "choices"),
        ("/api/v1/contacts", "/api/v1/{text}", "a slot is {{text}}"),
        (
            "page = 1 }",
            "page = 1, q = \"${number.e164}\" }",
            "a slot is {{number.e164}}",
        ),
        ("query.page", "query.phone", "would replace a parameter"),
        (
            "id = \"{{id}}\", kind",
            "id = \"{{setting.x}}\", kind",
            "all records would have the same id",
        ),
        ("\"My CRM\"", "\"My \\u001b[31mCRM\"", "control characters"),
        (
            "[crm]",
            "[auth]\nheaders = {}\n[crm]",
            "no credential would be sent",
        ),
        (
            "[crm]",
            "[request]\nheaders = { X-HTTP-Method-Override = \"DELETE\" }\n[crm]",
            "may only be GET",
        ),
        (
            "[crm]",
            "[[errors]]\nstatus = [404, 401]\nmeans = \"nothing\"\n[crm]",
            "says that 401 means",
        ),
        (
            "[crm]",
            "[[errors]]\nstatus = 503\nmeans = \"nothing\"\n[crm]",
            "says that 503 means",
        ),
        (
            "[crm]",
            "[[errors]]\nstatus = 200\nmeans = \"nothing\"\n[crm]",
            "add a condition",
        ),
    ] {
        let (_directory, path) = file("my-crm.toml", &MY_CRM.replacen(right, wrong, 1));
        let found = faults(&path).await;
        assert_eq!(found.len(), 1, "{wrong}: {found:?}");
        assert!(found[0].0.contains(expected), "{wrong}: {found:?}");
        // What the whole file lacks has no line.
        let is_of_file = expected == "needs name";
        assert!(found[0].1.is_some() || is_of_file, "{wrong}: {found:?}");
        let shown = text(&connector(&["check", &path]).await.stderr);
        assert!(shown.contains("my-crm.toml: "), "{shown}");
    }
}

#[tokio::test]
async fn a_mistake_in_app_connects_json_has_a_line_as_well() {
    let mut config = proxy();
    config["operations"]["findContact"]["method"] = json!("DELETE");
    let (_directory, path) = file("my-crm.json", &format!("{config:#}"));
    let shown = text(&connector(&["check", &path]).await.stderr);
    for part in [
        "my-crm.json: line ",
        "operations.findContact.method: must be GET or POST",
        "\"method\": \"DELETE\"",
        "^^^^^^^^",
        "1 fault",
    ] {
        assert!(shown.contains(part), "{part}\n---\n{shown}");
    }
    let cut = format!("{:#}", proxy()).replace("\"query\":", "\"query\"");
    let (_directory, path) = file("my-crm.json", &cut);
    let found = faults(&path).await;
    assert!(
        found.len() == 1 && found[0].0.contains("is not JSON"),
        "{found:?}"
    );
    assert!(found[0].1 > Some(1), "{found:?}");
}

#[tokio::test]
async fn the_language_of_the_other_kind_is_recognized() {
    for (name, content, expected) in [
        (
            "a.toml",
            proxy().to_string(),
            "is JSON, but a connector file is TOML",
        ),
        (
            "a.json",
            MY_CRM.to_owned(),
            "is not JSON, but App Connect's proxyConfig is",
        ),
    ] {
        let (_directory, path) = file(name, &content);
        let found = faults(&path).await;
        assert!(
            found.len() == 1 && found[0].0.contains(expected),
            "{found:?}"
        );
    }
    // The settings name the kind, whatever the file's name is.
    for (kind, content) in [("file", proxy().to_string()), ("proxy", MY_CRM.to_owned())] {
        let (_directory, path) = file("crm.txt", &content);
        let settings = format!("[connectors.a]\nkind = \"{kind}\"\nspec = \"{path}\"\n");
        let shown = checked(&settings).await.1;
        let other = if kind == "file" { "proxy" } else { "file" };
        assert_eq!(shown.matches("crm.txt").count(), 1, "{shown}");
        assert!(
            shown.contains(&format!("kind = \\\"{other}\\\""))
                || shown.contains(&format!("kind = \"{other}\"")),
            "{shown}"
        );
    }
}

/// The exit code of `check-config` for these settings, and what it prints.
async fn checked(settings: &str) -> (Option<i32>, String) {
    let (_directory, path) = file("contactd.toml", settings);
    let output = run(contactd(&["check-config", "--config", &path])).await;
    let shown = text(&output.stdout) + &text(&output.stderr);
    (output.status.code(), shown)
}

#[tokio::test]
async fn a_configuration_that_finds_nobody_is_not_sound() {
    let mut without = proxy();
    without["operations"] = json!({"createContact": {"url": "x"}});
    let mut unmapped = proxy();
    unmapped["operations"]["findContact"]["responseMapping"] = json!(null);
    for config in [without, unmapped] {
        let (_directory, path) = file("my-crm.json", &config.to_string());
        let found = faults(&path).await;
        assert!(found[0].0.contains("findContact"), "{found:?}");
        // App Connect accepts it, so the daemon starts, and says so.
        let settings = format!("[connectors.a]\nkind = \"proxy\"\nspec = \"{path}\"\n");
        let (code, shown) = checked(&settings).await;
        assert!(
            code == Some(0) && shown.contains("nobody is ever found"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_try_without_the_crms_host_says_how_to_name_it() {
    let output = connector(&["try", "clio", "+16505550101"]).await;
    let shown = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{shown}");
    for part in ["--hostname", "app.clio.com, eu.app.clio.com"] {
        assert!(shown.contains(part), "{part}\n---\n{shown}");
    }
}

#[tokio::test]
async fn check_says_what_the_credential_and_the_host_must_be() {
    for (name, credential, host) in [
        ("freshdesk", "`Basic BASE64(KEY:X)`", "required"),
        ("hubspot", "`Bearer TOKEN`", "not needed"),
    ] {
        let shown = text(&connector(&["check", name]).await.stdout);
        let line = |label: &str| {
            let line = shown.lines().find(|line| line.starts_with(label));
            line.unwrap_or_default().to_owned()
        };
        assert!(line("auth_header").contains(credential), "{shown}");
        assert!(line("user.hostname").contains(host), "{shown}");
    }
    let (_directory, path) = stranger(MY_CRM);
    let shown = text(&connector(&["check", &path]).await.stdout);
    assert!(shown.contains("the file does not say"), "{shown}");
}

#[tokio::test]
async fn test_warns_of_a_phone_field_that_no_record_has() {
    let misspelt = MY_CRM.replace(
        "phones = [\"phones[].number\"]",
        "phones = [\"phones[].number\", \"mobil\"]",
    );
    let (directory, cases) = case(RECORDING, EXPECT);
    fs::write(directory.path().join("my-crm.toml"), misspelt).unwrap();
    let output = connector(&["test", &cases]).await;
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(
        words.contains("warning:") && words.contains("contacts[].mobil:"),
        "{words}"
    );
    assert!(!words.contains("contacts[].phones[].number"), "{words}");
    let (_, report) = json_of(&["test", &cases]).await;
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1);
}

/// The settings that a page shows.
fn settings_of(page: &str) -> String {
    let (_, rest) = page.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[tokio::test]
async fn the_settings_on_every_page_can_be_pasted() {
    let (_secrets, secret) = file("secret", "s3cret");
    for kind in contactd::connector::kinds().filter(|kind| *kind != "example") {
        let page = text(&connector(&["page", kind]).await.stdout);
        let mut settings = String::new();
        // The defaults may be set as well.
        for line in settings_of(&page).lines() {
            let line = line.strip_prefix("# ").unwrap_or(line);
            settings += &match line.split_once(" = { file = ") {
                Some((key, _)) => format!("{key} = {{ file = \"{secret}\" }}\n"),
                None => format!("{line}\n"),
            };
        }
        let (code, shown) = checked(&settings).await;
        assert_eq!(code, Some(0), "{kind}\n{settings}\n{shown}");
    }
    let (_directory, path) = stranger(MY_CRM);
    let page = text(&connector(&["page", &path]).await.stdout);
    assert_eq!(checked(&settings_of(&page)).await.0, Some(0), "{page}");
}

/// What `try --send` prints of a file whose CRM is this one, and its exit code.
async fn tried(file: &str, crm: &FakeCrm) -> (Option<i32>, String, String) {
    let (_directory, path) = stranger(file);
    let url = crm.url();
    let number = ["try", &path, "+16505551234", "--region", "US"];
    let args = [&number[..], &["--send", "--base-url", &url]].concat();
    let output = connector(&args).await;
    let [shown, words] = [&output.stdout, &output.stderr].map(|bytes| text(bytes));
    (output.status.code(), shown, words)
}

#[tokio::test]
async fn a_try_says_where_there_is_no_list_and_which_keys_the_reply_has() {
    let (crm, misspelt) = (crm().await, MY_CRM.replace("\"contacts\"", "\"results\""));
    let (code, shown, _) = tried(&misspelt, &crm).await;
    assert_eq!(code, Some(1), "{shown}");
    for words in [
        "the CRM's reply cannot be used: unexpected JSON: no list at results",
        "the reply's keys: \"contacts\"",
    ] {
        assert!(shown.contains(words), "{words}\n---\n{shown}");
    }
    assert!(!shown.contains("Ada"), "{shown}");
    let (_, shown, _) = tried(MY_CRM, &crm).await;
    assert!(!shown.contains("the reply's keys"), "{shown}");
}

#[tokio::test]
async fn a_try_warns_of_a_phone_field_that_no_record_has() {
    let crm = crm().await;
    let misspelt = MY_CRM.replace("phones[].number", "fones[].number");
    let (_, shown, words) = tried(&misspelt, &crm).await;
    assert!(shown.contains("kept, unverified"), "{shown}");
    let warning = "no record of the replies has a value at contacts[].fones[].number";
    assert!(words.contains(warning), "{words}");
    let (_, _, words) = tried(MY_CRM, &crm).await;
    assert!(!words.contains("warning"), "{words}");
}

#[tokio::test]
async fn a_try_asks_whose_the_credential_is_and_shows_no_id() {
    // The details need a setting that this whoami does not send.
    let (searches, _) = MY_CRM.split_once("[[details]]").unwrap();
    for (paths, reply, expected, code) in [
        (
            r#"["id", "team"]"#,
            json!({"id": "user-blue", "team": "team-green"}),
            "whoami: user known, account known\n",
            0,
        ),
        (
            r#"["id"]"#,
            json!({"id": "user-blue", "team": "team-green"}),
            "whoami: user known, account unknown\n",
            0,
        ),
        (
            r#"["id", "team"]"#,
            json!({"id": "user-blue"}),
            "whoami: failed: the reply does not have one value at each path of `id`\n",
            1,
        ),
    ] {
        let file = format!("{searches}\n[whoami]\nget = \"/api/v1/me\"\nid = {paths}\n");
        let crm = FakeCrm::start(move |seen| match seen.path.as_str() {
            "/api/v1/me" => Reply::json(reply.clone()),
            _ => example(seen, &[]),
        })
        .await;
        let (exit, shown, words) = tried(&file, &crm).await;
        assert!(shown.contains(expected), "{expected}\n---\n{shown}{words}");
        assert_eq!(exit, Some(code), "{shown}");
        assert!(
            !shown.contains("blue") && !shown.contains("green"),
            "{shown}"
        );
    }
}
