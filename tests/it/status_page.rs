//! The status page: what it shows, what it never shows, and how a browser takes it.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::Duration;

use axum::http::{HeaderMap, Method};
use contactd::clock;
use contactd::pb::v1::PrefetchContactsRequest;
use serde_json::{Value, json};

use crate::deploy::{repo, succeed};
use crate::support::daemon::{Changed as _, details};
use crate::support::fleet::replica;
use crate::support::outside::program;
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find, refresh};

#[expect(clippy::disallowed_methods, reason = "this is no CRM")]
async fn ask(daemon: &TestDaemon, method: Method, path: &str) -> (u16, HeaderMap, String) {
    let client = crate::support::daemon::http_client();
    let response = client
        .request(method, format!("http://{}{path}", daemon.ops))
        .send()
        .await
        .unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.text().await.unwrap())
}

async fn status(daemon: &TestDaemon) -> Value {
    serde_json::from_str(&daemon.page("/status.json").await.1).unwrap()
}

/// The status as soon as it is as wanted: a sample is taken every two seconds.
pub(crate) async fn status_when(
    daemon: &TestDaemon,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let waited = clock::timeout(Duration::from_secs(30), async {
        loop {
            let status = status(daemon).await;
            if wanted(&status) {
                return status;
            }
            clock::sleep(Duration::from_millis(100)).await;
        }
    });
    waited.await.unwrap_or_else(|| panic!("never so: {what}"))
}

#[tokio::test]
async fn the_figures_are_those_of_the_last_minutes_and_nobody_is_named() {
    let crm = FakeCrm::with(vec![contact(1, "Ada Lovelace", "+16505551234")]).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    daemon.find(find()).await.unwrap();
    daemon.find(find().number("+16505559999")).await.unwrap();
    crm.becomes(|_| Reply::status(500));
    daemon.find(refresh()).await.unwrap_err();

    let status = status_when(&daemon, "four look-ups", |status| {
        status["lookups"]["in_window"] == 4
    })
    .await;
    let of = |source: usize| &status["lookups"]["sources"][source];
    assert_eq!(
        [0, 1, 2, 3].map(|n| of(n)["source"].clone()),
        ["memory", "redis", "crm", "none"]
    );
    assert_eq!(
        [0, 1, 2, 3].map(|n| of(n)["in_window"].clone()),
        [1, 0, 2, 1]
    );
    assert!(of(0)["p99_seconds"].as_f64().unwrap() < of(2)["p99_seconds"].as_f64().unwrap() + 1.0);
    assert_eq!(of(1)["p99_seconds"], Value::Null);
    assert_eq!(
        status["lookups"]["outcomes_in_window"],
        json!({"crm_unavailable": 1, "found": 2, "not_found": 1})
    );
    let connector = &status["connectors"][0];
    assert_eq!(
        (
            &connector["name"],
            &connector["scopes"],
            &connector["failed_in_window"]
        ),
        (&json!("example"), &json!(2), &json!(1))
    );
    assert_eq!(
        (
            &connector["rate"],
            &connector["per_seconds"],
            &connector["burst"]
        ),
        (&json!(50), &json!(1.0), &json!(50))
    );
    assert_eq!(
        connector["waiting"],
        json!({"call_pop": 0, "revalidate": 0, "prefetch": 0})
    );
    assert_eq!(status["tiers"][0]["entries"], 2);
    assert_eq!(
        (&status["redis"], &status["replicas"], &status["state"]),
        (&Value::Null, &Value::Null, &json!("ready"))
    );

    let (page, text) = (daemon.page("/").await.1, status.to_string());
    let terminal = daemon.page("/status.txt").await.1;
    assert!(terminal.contains("1 crm unavailable"), "{terminal}");
    for shown in [
        "<h2>Look-ups</h2>",
        "<h2>CRM quotas</h2>",
        "<h2>Memory and Redis</h2>",
        "crm unavailable",
        "No batch",
    ] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    for personal in ["user-1", "token-1", "650555", "Ada", "127.0.0.1"] {
        assert!(
            ![&page, &text, &terminal]
                .iter()
                .any(|shown| shown.contains(personal)),
            "{personal} is shown"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_not_stored_is_no_failure_and_no_redis_is_shown_where_none_is() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    for _ in 0..2 {
        let mut only_stored = find();
        only_stored.only_if_cached = true;
        let status = daemon.find(only_stored).await.unwrap_err();
        assert_eq!(details(&status).reason, "NOT_CACHED");
    }
    daemon.find(find().number("anonymous")).await.unwrap();
    crm.becomes(|_| Reply::status(500));
    daemon.find(find()).await.unwrap_err();
    let status = status_when(&daemon, "four look-ups", |status| {
        status["lookups"]["in_window"] == 4
    })
    .await;
    assert_eq!(
        status["lookups"]["without_source_in_window"],
        json!({"crm_unavailable": 1, "not_cached": 2, "not_found": 1})
    );
    let page = daemon.page("/").await.1;
    let row = "Other<small>2 not stored, 1 without a number, 1 failed</small>";
    assert!(page.contains(row), "{page}");
    assert!(!page.contains("No source"), "{page}");
    let said_once = "Redis is not configured: answers are kept in this process only.";
    assert_eq!(
        page.replace(said_once, "").matches("Redis").count(),
        2,
        "in the head and in a heading: {page}"
    );
}

#[tokio::test]
async fn the_revision_is_that_of_the_checkout() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    let shown = status(&daemon).await["revision"]
        .as_str()
        .unwrap()
        .to_owned();
    let given = std::env::var_os("CONTACTD_REVISION").map(|given| given.into_string().unwrap());
    let expected = given.unwrap_or_else(|| {
        let mut git = std::process::Command::new("git");
        git.args(["rev-parse", "HEAD"]).current_dir(repo(""));
        let commit = repo(".git").exists().then(|| succeed(&mut git));
        commit.map_or("unknown".to_owned(), |commit| commit[..12].to_owned())
    });
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_job_is_shown_with_its_progress_and_a_pause_with_its_lanes() {
    let crm = FakeCrm::with(vec![]).await;
    // A call a second: the job is still under way when it is looked at.
    let quota = "quota = { rate = 1000, per = \"1000s\", burst = 4, prefetch_share = 1.0 }";
    let url = crm.url();
    let daemon = TestDaemon::start(&format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{url}\"\n{quota}\n"
    ))
    .await;
    let request = PrefetchContactsRequest {
        user: find().user,
        auth_header: find().auth_header,
        phone_numbers: (0..10).map(|n| format!("+1650555100{n}")).collect(),
        overriding_formats: Vec::new(),
    };
    let job = daemon
        .client
        .clone()
        .prefetch_contacts(request)
        .await
        .unwrap();
    let done = |status: &Value| status["prefetch"]["jobs"][0]["done"].as_u64().unwrap_or(0);
    let status = status_when(
        &daemon,
        "some numbers are done and the others wait",
        |status| {
            done(status) > 0 && status["connectors"][0]["waiting"]["prefetch"] == 10 - done(status)
        },
    )
    .await;
    assert_eq!(
        (
            &status["prefetch"]["running"],
            &status["prefetch"]["jobs"][0]["total"]
        ),
        (&json!(1), &json!(10))
    );
    assert_eq!(status["prefetch"]["jobs"][0]["platform"], "example");
    assert!(
        daemon
            .page("/")
            .await
            .1
            .contains("<progress max=\"10\" value=\"")
    );
    drop(job);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn redis_is_told_with_its_state_and_how_many_share_it() {
    let redis = RedisServer::start().await;
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = replica(&crm, &redis.url(), "").await;
    daemon.find(find()).await.unwrap();
    let up = |status: &Value| {
        status["redis"]["state"] == "up" && status["tiers"][1]["results_in_window"]["miss"] == 1
    };
    let status = status_when(&daemon, "Redis is up and was asked", up).await;
    assert_eq!(
        (&status["replicas"], &status["tiers"][1]["tier"]),
        (&json!(1), &json!("redis"))
    );
    drop(redis);
    status_when(&daemon, "Redis is down", |status| {
        status["redis"]["state"] == "down"
    })
    .await;
    assert!(
        daemon
            .page("/")
            .await
            .1
            .contains("down: look-ups continue without it")
    );
}

#[tokio::test]
async fn pages_bind_the_browser_and_refuse_what_they_do_not_know() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/status.json", "application/json"),
        ("/status.txt", "text/plain; charset=utf-8"),
        ("/status.css", "text/css; charset=utf-8"),
        ("/status.js", "text/javascript; charset=utf-8"),
        ("/status.svg", "image/svg+xml"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
    ] {
        let (code, headers, body) = ask(&daemon, Method::GET, path).await;
        assert_eq!(
            (code, headers["content-type"].to_str().unwrap()),
            (200, kind),
            "{path}"
        );
        assert!(
            !body.is_empty()
                && headers["content-security-policy"]
                    .to_str()
                    .unwrap()
                    .starts_with("default-src 'none'")
        );
        assert_eq!(
            (
                &headers["x-content-type-options"],
                &headers["cache-control"]
            ),
            (&"nosniff".parse().unwrap(), &"no-store".parse().unwrap())
        );
        let (code, _, body) = ask(&daemon, Method::HEAD, path).await;
        assert_eq!((code, body.as_str()), (200, ""), "HEAD {path}");
        let (code, headers, _) = ask(&daemon, Method::POST, path).await;
        assert_eq!(
            (code, headers["allow"].to_str().unwrap()),
            (405, "GET,HEAD"),
            "POST {path}"
        );
    }
    let (code, headers, _) = ask(&daemon, Method::GET, "/status.html").await;
    assert_eq!(
        (code, &headers["x-content-type-options"]),
        (404, &"nosniff".parse().unwrap())
    );
    let page = daemon.page("/").await.1;
    for foreign in [
        "http:", "https:", "//", " style=", "onclick", "<style", "<script>",
    ] {
        assert!(!page.contains(foreign), "{foreign} in {page}");
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "this is no CRM")]
async fn the_metrics_come_in_the_format_that_the_scraper_takes() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (accept, kind, counter, ends) in [
        (
            prometheus,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "contactd_lookups",
            true,
        ),
        (
            "*/*",
            "text/plain; version=0.0.4; charset=utf-8",
            "contactd_lookups_total",
            false,
        ),
    ] {
        let request = crate::support::daemon::http_client()
            .get(format!("http://{}/metrics", daemon.ops))
            .header("accept", accept);
        let response = request.send().await.unwrap();
        assert_eq!(
            (
                &response.headers()["content-type"],
                &response.headers()["vary"]
            ),
            (&kind.parse().unwrap(), &"Accept".parse().unwrap())
        );
        let page = response.text().await.unwrap();
        assert!(
            page.contains(&format!("\n# TYPE {counter} counter\n")),
            "{page}"
        );
        assert!(page.contains("\ncontactd_lookups_total{"), "{page}");
        assert_eq!(page.ends_with("# EOF\n"), ends);
    }
}

/// Runs a browser on the page; what it shows in the end, and what its console says. The content
/// settings of its profile decide whether scripts run, as a person would switch them off.
fn browse(url: &str, scripts: bool) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let (dom, log, profile) = (
        folder.path().join("dom"),
        folder.path().join("log"),
        folder.path().join("profile"),
    );
    std::fs::create_dir_all(profile.join("Default")).unwrap();
    let settings = json!({"profile": {"default_content_setting_values": {"javascript": if scripts { 1 } else { 2 }}}});
    std::fs::write(profile.join("Default/Preferences"), settings.to_string()).unwrap();
    // The page without scripts is looked at before it loads itself anew.
    let budget = if scripts { 7000 } else { 1000 };
    let child = program("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
        ])
        .args(["--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--virtual-time-budget={budget}"))
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(File::create(&dom).unwrap())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .expect("chromium starts");
    ended(child);
    (
        std::fs::read_to_string(dom).unwrap(),
        String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned(),
    )
}

fn ended(mut child: Child) {
    let watch = clock::Stopwatch::start();
    while child.try_wait().unwrap().is_none() {
        if watch.elapsed() > Duration::from_secs(120) {
            let _ = child.kill();
            panic!("the browser did not end within two minutes");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chromium: tests/run gets it"]
async fn a_browser_shows_it_with_its_script_and_without_any() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    status_when(&daemon, "the look-up is counted", |status| {
        status["lookups"]["in_window"] == 1
    })
    .await;
    let url = format!("http://{}/", daemon.ops);
    let looked =
        tokio::task::spawn_blocking(move || [true, false].map(|scripts| browse(&url, scripts)));
    let [(live, log), (still, _)] = looked.await.unwrap();
    for page in [&live, &still] {
        for shown in [
            "<caption>Where answers came from</caption>",
            "scope=\"row\">example<",
            "<svg class=\"stack\"",
        ] {
            assert!(page.contains(shown), "{shown} is not in {page}\n{log}");
        }
    }
    assert!(
        live.contains("data-renewed=\"") && live.contains("Live: renewed every two seconds."),
        "{live}\n{log}"
    );
    assert!(
        !log.contains("Content Security Policy") && !log.contains("Uncaught"),
        "{log}"
    );
    assert!(
        still.contains("id=\"pause\" hidden") && !live.contains("id=\"pause\" hidden"),
        "the pause is the script's"
    );
    assert!(
        !still.contains("data-renewed") && still.contains("http-equiv=\"refresh\""),
        "{still}"
    );
}

/// The page in frames of two widths, and what it writes of each: how wide everything is, and which
/// tables are cut.
const FRAMES: &str = r#"<!DOCTYPE html><meta charset="utf-8"><body><pre id="said"></pre>
<script>
const page = PAGE;
let left = 2;
for (const width of [1100, 390]) {
  const frame = document.createElement("iframe");
  Object.assign(frame, { width, height: 2400, srcdoc: page });
  frame.style.border = 0;
  frame.onload = () => {
    const inside = frame.contentDocument;
    const cut = [...inside.querySelectorAll(".scroll, figure, dl, header, footer")]
      .filter((box) => box.scrollWidth > box.clientWidth)
      .map((box) => box.getAttribute("aria-label") ?? box.tagName);
    const wide = inside.documentElement.scrollWidth > width ? ["page"] : [];
    document.getElementById("said").textContent += `${width}: ${[...cut, ...wide].join()};`;
    left -= 1;
  };
  document.body.append(frame);
}
</script>"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chromium: tests/run gets it"]
async fn no_table_is_cut_at_1100_pixels_and_on_a_phone() {
    let crm = FakeCrm::with(vec![]).await;
    let connector = |name: &str, quota: &str| {
        let url = crm.url();
        format!(
            "[connectors.{name}]\nkind = \"example\"\nbase_url = \"{url}\"\nquota = {{ {quota} }}\n"
        )
    };
    // The address has no Redis; its row then has the longest text.
    let daemon = TestDaemon::start(&format!(
        "[redis]\nurl = \"redis://127.0.0.1:1\"\nreplicas = 1\n{}{}{}",
        connector(
            "example",
            "rate = 1000, per = \"1000s\", burst = 4, prefetch_share = 1.0"
        ),
        connector(
            "the-other-crm",
            "rate = 20000, per = \"1h\", burst = 100, concurrent = 25, per_day = 1000000"
        ),
        connector(
            "third",
            "per = \"1m\", search = { rate = 150, burst = 10 }, other = { rate = 300, burst = 20 }"
        ),
    ))
    .await;
    let request = PrefetchContactsRequest {
        user: find().user,
        auth_header: find().auth_header,
        phone_numbers: (0..10).map(|n| format!("+1650555100{n}")).collect(),
        overriding_formats: Vec::new(),
    };
    let job = daemon.client.clone().prefetch_contacts(request).await;
    let mut only_stored = find();
    only_stored.only_if_cached = true;
    daemon.find(only_stored).await.unwrap_err();
    status_when(
        &daemon,
        "the job runs and the look-up is counted",
        |status| status["lookups"]["in_window"] == 1 && status["prefetch"]["running"] == 1,
    )
    .await;
    let (css, page) = (daemon.page("/status.css").await.1, daemon.page("/").await.1);
    let link = "<link rel=\"stylesheet\" href=\"status.css\">";
    let script = "<script src=\"status.js\" defer></script>";
    assert!(page.contains(link) && page.contains(script));
    let page = page
        .replace(link, &format!("<style>{css}</style>"))
        .replace(script, "");
    let page = serde_json::to_string(&page).unwrap().replace("</", "<\\/");
    let folder = tempfile::tempdir().unwrap();
    let frames = folder.path().join("frames.html");
    std::fs::write(&frames, FRAMES.replace("PAGE", &page)).unwrap();
    let url = format!("file://{}", frames.display());
    let (dom, log) = tokio::task::spawn_blocking(move || browse(&url, true))
        .await
        .unwrap();
    let said = dom.split("<pre id=\"said\">").nth(1).unwrap_or_default();
    let said = said.split("</pre>").next().unwrap();
    let mut widths: Vec<&str> = said.split_terminator(';').collect();
    widths.sort_unstable();
    assert_eq!(widths, ["1100: ", "390: "], "{log}");
    drop(job);
}
