//! The setting: its faults, what is shown of it, and how it changes at run time.

use contactd::config;
use contactd::grpc::client::ContactServiceClient;
use tonic::Code;

use super::{SHARED, bare, crm, file, settings_with};
use crate::support::daemon::{Changed as _, names};
use crate::support::program::Program;
use crate::support::{eventually, refresh};

const EXAMPLE: &str =
    "[connectors.a]\nkind = \"example\"\nbase_url = \"http://127.0.0.1:1\"\nregion = \"US\"\n";
const PIPEDRIVE: &str = "[connectors.a]\nkind = \"pipedrive\"\nregion = \"US\"\n";

fn faults(text: &str) -> Vec<String> {
    match config::read(text, []) {
        Ok(read) => panic!("{}", read.toml),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn one_mistake_is_one_fault_at_its_path_and_shows_no_secret() {
    let (sound, empty, lines) = (file(SHARED), file(" \n"), file("Bearer a\nBearer b"));
    let [sound, empty, lines] =
        [&sound, &empty, &lines].map(|file| file.path().display().to_string());
    let with = |setting: &str| format!("{EXAMPLE}credential = {setting}\n");
    let token = format!(
        "[connectors.a]\nkind = \"vinsolutions\"\nregion = \"US\"\ncredential = {{ file = \"{sound}\" }}\n\
         secrets.client_id = {{ file = \"{sound}\" }}\nsecrets.client_secret = {{ file = \"{sound}\" }}\n\
         secrets.api_key = {{ file = \"{sound}\" }}\n"
    );
    let shared = format!("credential = {{ file = \"{sound}\" }}\n");
    let exposed = "[grpc]\nlisten = \"0.0.0.0:50051\"\ninsecure = true\n";
    let path = "connectors.a.credential";
    for (text, path, words) in [
        (with("{}"), format!("{path}.file"), "is required"),
        (
            with("\"Bearer shared-secret\""),
            path.to_owned(),
            "must be { file = \"/path\" } or { env = \"NAME\" }",
        ),
        (
            with(&format!("{{ file = \"{sound}\", env = \"PATH\" }}")),
            format!("{path}.env"),
            "together with file",
        ),
        (
            with("{ file = \"/nowhere\" }"),
            format!("{path}.file"),
            "cannot be read",
        ),
        (
            with(&format!("{{ file = \"{empty}\" }}")),
            format!("{path}.file"),
            "must hold one secret",
        ),
        (
            with(&format!("{{ file = \"{lines}\" }}")),
            format!("{path}.file"),
            "one header value",
        ),
        (
            with("{ file = 5 }"),
            format!("{path}.file"),
            "must be a string",
        ),
        (
            with("{ env = \"NOWHERE_AT_ALL\" }"),
            format!("{path}.env"),
            "is not set",
        ),
        (
            with("{ fiel = \"x\" }"),
            format!("{path}.fiel"),
            "file (required)",
        ),
        (
            format!("{PIPEDRIVE}{shared}"),
            path.to_owned(),
            "host that a client names",
        ),
        (
            format!("{exposed}{EXAMPLE}{shared}"),
            path.to_owned(),
            "grpc.tokens",
        ),
        (token, path.to_owned(), "takes no auth_header"),
        (
            format!("[grpc]\nhostnames = [\"a:1\"]\n{EXAMPLE}"),
            "grpc.hostnames".to_owned(),
            "host name",
        ),
    ] {
        let faults = faults(&text);
        assert_eq!(faults.len(), 1, "{text}{faults:#?}");
        assert!(faults[0].starts_with(&format!("{path}: ")), "{faults:?}");
        assert!(faults[0].contains(words), "{faults:?}");
        assert!(!faults[0].contains("shared-secret") && !faults[0].contains("Bearer b"));
    }
    // One fault elsewhere is not two.
    let short =
        "[grpc]\nlisten = \"0.0.0.0:1\"\ntokens = [{ name = \"pbx\", sha256 = \"short\" }]\n";
    let faults = faults(&format!("{short}{EXAMPLE}{shared}"));
    assert!(
        faults.len() == 1 && faults[0].starts_with("grpc.tokens[0].sha256"),
        "{faults:?}"
    );
}

#[test]
fn the_effective_settings_show_where_it_is_and_not_what() {
    let login = file(SHARED);
    let shared = format!("credential = {{ file = {:?} }}\n", login.path());
    for sound in [
        format!("{EXAMPLE}{shared}"),
        format!("{PIPEDRIVE}{shared}allowed_hosts = [\"acme.pipedrive.com\"]\n"),
        format!("{PIPEDRIVE}{shared}base_url = \"https://acme.pipedrive.com\"\n"),
        format!("[connectors.a]\nkind = \"clio\"\nregion = \"US\"\n{shared}"),
    ] {
        let read = config::read(&sound, []).unwrap_or_else(|faults| panic!("{sound}{faults:?}"));
        assert!(
            read.toml.contains(login.path().to_str().unwrap()),
            "{}",
            read.toml
        );
        let shown = format!("{}{:?}", read.toml, read.config);
        assert!(!shown.contains("shared-secret"));
        let warnings: Vec<_> = read.warnings.iter().map(ToString::to_string).collect();
        assert!(
            !warnings.iter().any(|warning| warning.contains("identity")),
            "{warnings:?}"
        );
    }
    let believed = format!("{EXAMPLE}{shared}identity = \"caller\"\n");
    let read = config::read(&believed, []).unwrap();
    let warnings: Vec<_> = read.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.starts_with("connectors.a.credential: ")),
        "{warnings:?}"
    );
}

async fn client(program: &Program) -> ContactServiceClient<tonic::transport::Channel> {
    ContactServiceClient::connect(program.grpc.clone())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_sighup_reads_the_file_again_and_turns_it_on_and_off() {
    let (crm, login) = (crm().await, file("Bearer old-secret"));
    let on = settings_with(&crm, &login, "");
    let off = on.replace("credential", "# credential");
    let program = Program::start(&on).await;
    let mut client = client(&program).await;
    assert_eq!(
        names(client.find_contact(bare()).await.unwrap().get_ref()),
        ["Bob"]
    );
    assert!(
        program.log().contains("the shared login"),
        "{}",
        program.log()
    );

    std::fs::write(login.path(), SHARED).unwrap();
    let news = reload(&program, &on).await;
    assert!(
        news.contains("\"changed\":\"connectors.example.credential\""),
        "{news}"
    );
    assert_eq!(
        names(client.find_contact(bare()).await.unwrap().get_ref()),
        ["Ada"]
    );

    reload(&program, &off).await;
    let status = client.find_contact(bare()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    reload(&program, &on).await;
    assert_eq!(
        names(client.find_contact(bare()).await.unwrap().get_ref()),
        ["Ada"]
    );

    // The CRM that is called until the restart may be another one than the login is for.
    std::fs::write(login.path(), "Bearer for-another-crm").unwrap();
    let elsewhere = on.replace(&crm.url(), "http://127.0.0.1:9");
    let news = reload(&program, &elsewhere).await;
    assert!(
        news.contains("\"setting\":\"connectors.example.credential\""),
        "{news}"
    );
    assert!(!news.contains("\"changed\""), "it waits: {news}");
    let asked = client.find_contact(refresh().auth("")).await.unwrap();
    assert_eq!(names(asked.get_ref()), ["Ada"]);
    // It goes on waiting, whatever was waiting before.
    std::fs::write(login.path(), "Bearer for-another-crm too").unwrap();
    let news = reload(&program, &elsewhere).await;
    assert!(news.contains("nothing changed"), "{news}");
    for secret in ["old-secret", "shared-secret", "for-another-crm"] {
        assert!(!program.log().contains(secret), "{}", program.log());
    }
    let sent = crm.seen();
    assert!(
        !sent
            .iter()
            .any(|call| call.authorization.as_deref() == Some("Bearer for-another-crm"))
    );
    let news = reload(&program, &on).await;
    assert!(
        news.contains("\"changed\":\"connectors.example.credential\""),
        "it waits no longer: {news}"
    );
}

#[tokio::test]
async fn a_login_that_is_removed_is_out_of_use_at_once_whatever_else_waits() {
    let (crm, login) = (crm().await, file(SHARED));
    let on = settings_with(&crm, &login, "");
    let program = Program::start(&on).await;
    let mut client = client(&program).await;
    assert!(client.find_contact(bare()).await.is_ok());

    let without = on.replace("credential", "create_option = false # credential");
    let elsewhere = "[connectors.other]\nkind = \"pipedrive\"\nregion = \"US\"\n";
    for removed in [without.as_str(), elsewhere] {
        reload(&program, &on).await;
        assert!(client.find_contact(bare()).await.is_ok(), "as at the start");
        let news = reload(&program, removed).await;
        assert!(
            news.contains("\"changed\":\"connectors.example.credential\"")
                && !news.contains("\"setting\":\"connectors.example.credential\""),
            "{news}"
        );
        let refused = client.find_contact(bare()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

/// Other settings, and the lines that were logged about them.
async fn reload(program: &Program, toml: &str) -> String {
    let before = program.log().len();
    program.reload(toml);
    let news = || program.log()[before..].to_owned();
    eventually("it is told", || news().contains("were read again")).await;
    news()
}
