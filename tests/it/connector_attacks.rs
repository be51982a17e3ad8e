//! What an attack on connector files found: answers that reach somebody else, and "nobody" that is
//! not proven.

use std::io::Write as _;
use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::config;
use contactd::domain::json::to_struct;
use contactd::pb::v1::{FindContactRequest, FindContactResponse};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tonic::Code;

use crate::prefetch::{batch, run};
use crate::support::crm::Seen;
use crate::support::daemon::{Changed as _, details, names};
use crate::support::{FakeCrm, Reply, TestDaemon, find};

/// A file with these lines for its search, and these tables behind it.
fn spec(search: &str, more: &str) -> String {
    format!(
        "format = 1\nname = \"Attacked\"\n[crm]\nbase = \"https://crm.example.com\"\n\
         quota = {{ rate = 1000, per = \"1s\" }}\n[[search]]\n{search}\n\
         record = {{ id = \"{{{{id}}}}\", name = \"{{{{name}}}}\" }}\n{more}\n"
    )
}

const PLAIN: &str =
    "get = \"/search\"\nquery = { phone = \"{{text}}\" }\nlist = \"people\"\nphones = [\"phone\"]";

async fn daemon(crm: &FakeCrm, spec: &str) -> (TestDaemon, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(spec.as_bytes()).unwrap();
    let toml = format!(
        "[connectors.example]\nkind = \"file\"\nspec = \"{}\"\nbase_url = \"{}\"\nregion = \"US\"\n",
        file.path().display(),
        crm.url()
    );
    (TestDaemon::start(&toml).await, file)
}

fn people(people: Value) -> Reply {
    Reply::json(json!({"people": people}))
}

fn ada(seen: &Seen) -> Value {
    let phone = seen.param("phone").unwrap_or("+16505551234");
    json!([{"id": 1, "name": "Ada", "phone": phone}])
}

/// Whether the answer is "nobody", and not for certain.
fn is_unproven(response: &FindContactResponse) -> bool {
    names(response).is_empty() && !response.lookup.as_ref().unwrap().complete
}

/// Whether the credential is of the tenant that the request names.
fn is_their_tenant(seen: &Seen) -> bool {
    let tenant = seen.param("tenant").unwrap_or_default();
    let credential = seen.authorization.as_deref().unwrap_or_default();
    credential.strip_prefix("Bearer ") == tenant.strip_suffix(".example.com")
}

/// A look-up under this credential, for this tenant.
fn of_tenant(auth: &str, tenant: &str) -> FindContactRequest {
    let mut request = find().auth(auth).hostname(tenant);
    let user = request.user.as_mut().unwrap();
    let named = json!({"tenant": tenant});
    user.settings = named.as_object().map(to_struct);
    user.platform_additional_info = user.settings.clone();
    request
}

#[tokio::test]
async fn a_tenant_that_requests_name_is_a_part_of_the_credential_and_of_the_identity() {
    for (name, field) in [
        ("host", "user.hostname"),
        ("info.tenant", "user.platform_additional_info"),
        ("setting.tenant", "user.settings"),
    ] {
        let crm = FakeCrm::start(|seen| match seen.path.as_str() {
            // Each tenant has a user of that id.
            "/me" if is_their_tenant(seen) => Reply::json(json!({"id": 1})),
            _ if !is_their_tenant(seen) => Reply::status(403),
            _ if seen.param("tenant") == Some("acme.example.com") => people(ada(seen)),
            _ => people(json!([])),
        })
        .await;
        let search = PLAIN.replace("}}\" }", &format!("}}}}\", tenant = \"{{{{{name}}}}}\" }}"));
        let whoami = "[whoami]\nget = \"/me\"\nid = [\"id\"]\n";
        let said = format!("{whoami}query.tenant = \"{{{{{name}}}}}\"\n");
        let (daemon, _file) = daemon(&crm, &spec(&search, &said)).await;
        let ask = |auth, tenant| daemon.find(of_tenant(auth, tenant));
        let own = ask("Bearer acme", "acme.example.com").await.unwrap();
        assert_eq!(names(&own), ["Ada"], "{name}");
        let own = ask("Bearer mal", "mal.example.com").await.unwrap();
        assert!(names(&own).is_empty(), "{name}");
        let stolen = ask("Bearer mal", "acme.example.com").await;
        assert_eq!(stolen.unwrap_err().code(), Code::PermissionDenied, "{name}");
        let without = daemon.find(find().auth("Bearer acme")).await.unwrap_err();
        assert_eq!(details(&without).fields, [field]);
        let faults = faults_of(&spec(&search, whoami));
        assert!(
            faults.contains(&format!("does not send {name} ")),
            "{faults}"
        );
    }
}

/// The faults of settings with this file.
fn faults_of(spec: &str) -> String {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(spec.as_bytes()).unwrap();
    let toml = format!(
        "[connectors.example]\nkind = \"file\"\nspec = \"{}\"\nbase_url = \"http://127.0.0.1:9\"\n",
        file.path().display()
    );
    format!("{:?}", config::read(&toml, []).unwrap_err())
}

#[tokio::test]
async fn a_search_that_was_not_sent_proves_nobody_absent() {
    let crm = FakeCrm::start(|seen| panic!("unexpected {}", seen.path)).await;
    let search = PLAIN.replace("\"{{text}}\"", "\"phone:{{number.local}}\"");
    let (daemon, _file) = daemon(&crm, &spec(&search, "")).await;
    for _ in 0..2 {
        let response = daemon.find(find()).await.unwrap();
        assert!(is_unproven(&response), "{response:?}");
    }
}

#[tokio::test]
async fn one_value_that_the_crm_does_not_have_hides_no_other() {
    let crm = FakeCrm::start(|seen| match seen.path.as_str() {
        "/search/a" => Reply::status(404),
        _ => people(ada(seen)),
    })
    .await;
    let search = PLAIN.replace(
        "\"/search\"",
        "\"/search/{{for.x}}\"\nfor.x = [\"a\", \"b\"]\noptional = true",
    );
    let (daemon, _file) = daemon(&crm, &spec(&search, "")).await;
    for number in ["+16505550101", "+16505550102"] {
        let response = daemon.find(find().number(number)).await.unwrap();
        assert_eq!(names(&response), ["Ada"], "{number}");
    }
}

#[tokio::test]
async fn replies_that_prove_nothing_are_not_nobody() {
    let pages = "pages = { page = \"query.page\", more = \"more\" }";
    let before = "before = [{ get = \"/before\", take = { ids = \"ids[]\" } }]";
    let by_id = PLAIN.replace(
        "query = {",
        &format!("{before}\nquery = {{ ids = \"{{{{ids | join ','}}}}\","),
    );
    let strangers: Vec<Value> = (0..12)
        .map(|n| json!({"id": n, "name": "Stranger", "phone": format!("+1212555{n:04}")}))
        .collect();
    let values: Vec<String> = (0..17).map(|n| format!("\"{n}\"")).collect();
    let many = format!(
        "{}\nfor.x = [\"{{{{setting.lists | split ','}}}}\"]",
        PLAIN.replace("\"{{text}}\"", "\"{{text}}\", list = \"{{for.x}}\"")
    );
    assert_eq!(values.len(), 17);
    for (what, search, more, reply) in [
        (
            "the first people of a list without pages",
            PLAIN.to_owned(),
            "",
            people(json!(strangers)),
        ),
        (
            "an empty page and more of them",
            format!("{PLAIN}\n{pages}"),
            "",
            Reply::json(json!({"people": [], "more": true})),
        ),
        (
            "a partial reply before the search",
            by_id,
            "[[errors]]\nstatus = 206\nmeans = \"partial\"",
            Reply::json(json!({"ids": []})).but(206),
        ),
        (
            "more values than requests are made for",
            many,
            "",
            people(json!([])),
        ),
    ] {
        let crm = FakeCrm::start(move |_| reply.clone()).await;
        let (daemon, _file) = daemon(&crm, &spec(&search, more)).await;
        let mut request = find();
        let lists = (0..17).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let settings = json!({"lists": lists});
        request.user.as_mut().unwrap().settings = settings.as_object().map(to_struct);
        let response = daemon.find(request).await.unwrap();
        assert!(is_unproven(&response), "{what}: {response:?}");
    }
}

#[tokio::test]
async fn entries_without_the_member_that_is_meant_are_no_list() {
    let crm = FakeCrm::start(|_| people(json!([{"person": {"id": 1}}]))).await;
    let search = PLAIN.replace("\"people\"", "\"people[].contact\"");
    let (daemon, _file) = daemon(&crm, &spec(&search, "")).await;
    let status = daemon.find(find()).await.unwrap_err();
    assert_eq!(details(&status).reason, "CRM_BAD_REPLY");
}

const MANY: &str = "read_by_post = \"/search\"\nbody = { numbers = \"{{numbers.e164}}\" }\nlist = \"people\"\nphones = [\"phone\"]\nbatch = 50";

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("+1650555{n:04}")).collect()
}

#[tokio::test]
async fn a_record_without_phones_makes_nobody_of_a_group_absent() {
    let crm = FakeCrm::start(|_| people(json!([{"id": 1, "name": "Ada"}]))).await;
    let (daemon, _file) = daemon(&crm, &spec(MANY, "")).await;
    let told = run(&daemon, batch(numbers(5))).await;
    assert_eq!(told.finished.unwrap().found, 5, "each is asked for alone");
}

#[tokio::test]
async fn a_ringing_phone_that_leads_a_group_does_not_wait_for_it() {
    let crm = FakeCrm::start(|seen| {
        let asked = seen.body["numbers"].as_array().unwrap();
        match asked.len() {
            1 => people(json!([{"id": 1, "name": "Ada", "phone": asked[0]}])),
            _ => people(json!([])).after(Duration::from_secs(60)),
        }
    })
    .await;
    let (daemon, _file) = daemon(&crm, &spec(MANY, "")).await;
    let numbers = numbers(40);
    // The first number alone verifies the credential.
    daemon.find(find().number("+16505559999")).await.unwrap();
    let mut client = daemon.client.clone();
    let _stream = client.prefetch_contacts(batch(numbers)).await.unwrap();
    while !crm
        .seen()
        .iter()
        .any(|seen| seen.body["numbers"].as_array().unwrap().len() > 1)
    {
        clock::sleep(Duration::from_millis(5)).await;
    }
    let leader = crm.seen().last().unwrap().body["numbers"][0].clone();
    let stopwatch = Stopwatch::start();
    let response = daemon
        .find(find().number(leader.as_str().unwrap()))
        .await
        .unwrap();
    assert_eq!(names(&response), ["Ada"]);
    assert!(stopwatch.elapsed() < Duration::from_secs(5));
}
