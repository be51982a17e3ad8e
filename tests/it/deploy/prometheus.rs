//! A real Prometheus with the scrape configuration and the rules of `deploy/` over real daemons:
//! every query of a panel, a recording rule and an alert finds the series that it asks for.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use contactd::clock::{sleep, timeout};
use contactd::pb::v1::PrefetchContactsRequest;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{repo, text};
use crate::support::crm::{Seen, example};
use crate::support::daemon::{Changed as _, get};
use crate::support::outside::program;
use crate::support::pki::{Authority, Files};
use crate::support::ports::free_address;
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find, refresh};

/// Series that no outsider can bring about.
const NOT_PROVOKED: [&str; 2] = [
    "outcome=\"internal\"",
    "reason=~\"caller_unauthenticated|caller_forbidden\"",
];

struct Prometheus {
    url: String,
    child: Child,
    _dir: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// The configuration of deploy/, with these targets and a second for every interval.
    async fn over(daemons: &[&TestDaemon]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let targets: Vec<String> = daemons
            .iter()
            .map(|daemon| format!("\"{}\"", daemon.ops))
            .collect();
        let config = text("deploy/prometheus/prometheus.yml")
            .replace(
                "\"contactd-1:9464\", \"contactd-2:9464\"",
                &targets.join(", "),
            )
            .replace("interval: 15s", "interval: 1s")
            .replace(
                "rules/",
                &format!("{}/", repo("deploy/prometheus/rules").display()),
            );
        assert!(
            config.contains(&targets[0]) && config.matches("interval: 1s").count() == 2,
            "{config}"
        );
        let file = dir.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let address = free_address().to_string();
        let child = program("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdout(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        let started = Self {
            url: format!("http://{address}"),
            child,
            _dir: dir,
        };
        // It listens before it has read its rules, and says 503 until then.
        let ready = format!("{}/-/ready", started.url);
        let starts = async {
            while std::net::TcpStream::connect(&address).is_err() || get(&ready).await.0 != 200 {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(60), starts)
            .await
            .expect("Prometheus starts");
        started
    }

    async fn api(&self, path: &str) -> Value {
        let (_, body) = get(&format!("{}/api/v1/{path}", self.url)).await;
        let answer: Value = serde_json::from_str(&body).unwrap_or(json!({"error": body}));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// How many series with a number, not NaN, a query brings. A query that is not valid fails the
    /// test.
    async fn series(&self, query: &str) -> usize {
        let encoded: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let data = self.api(&format!("query?query={encoded}")).await;
        let series = data["result"].as_array().unwrap();
        series.iter().filter(|one| one["value"][1] != "NaN").count()
    }
}

/// The queries of all panels, with the dashboard's variables filled in.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value =
        serde_json::from_str(&text("deploy/grafana/dashboards/contactd.json")).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"]
                .as_str()
                .unwrap()
                .replace("$__rate_interval", "1m")
                .replace("$job", "contactd");
            let query = query.replace("$instance", ".*").replace("$platform", ".*");
            assert!(!query.contains('$'), "a variable is left in {query}");
            queries.push((panel["title"].as_str().unwrap().to_owned(), query));
        }
    }
    assert!(queries.len() > 20, "{queries:?}");
    queries
}

/// The selectors `contactd_…{…}` of a query; those of recorded series are queries of their own.
fn selectors(query: &str) -> Vec<String> {
    let starts = query.match_indices("contactd_").map(|(at, _)| at);
    let raw = starts.filter(|&at| {
        !query[..at].ends_with(|before: char| before == ':' || before.is_alphanumeric())
    });
    raw.map(|at| {
        let rest = &query[at..];
        let name = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let end = if rest[name..].starts_with('{') {
            name + rest[name..].find('}').unwrap() + 1
        } else {
            name
        };
        rest[..end].to_owned()
    })
    .collect()
}

/// Users whose CRM misbehaves, each in a way of its own; for all others it knows Ada.
fn crm(seen: &Seen) -> Reply {
    match seen.authorization.as_deref() {
        Some("Bearer broken") => Reply::status(500),
        Some("Bearer limited") => Reply::status(429).header("retry-after", "1"),
        Some("Bearer gone") => Reply::status(401),
        Some("Bearer html") => Reply::html(),
        Some("Bearer slow") => example(seen, &[]).after(Duration::from_millis(700)),
        _ => example(seen, &[contact(1, "Ada", "+16505551234")]),
    }
}

/// Every outcome once, and some answers.
async fn traffic(daemon: &TestDaemon, round: usize) {
    let number = |n: usize| format!("+1650{:07}", 2_000_000 + 100 * round + n);
    let of = |user: &str| find().user(user).auth(&format!("Bearer {user}"));
    for request in [
        find(),
        find(),
        refresh(),
        find().number(&number(0)),
        find().number("anonymous"),
    ] {
        let _ = daemon.find(request).await;
    }
    for user in ["broken", "limited", "gone", "html"] {
        assert!(daemon.find(of(user)).await.is_err(), "{user}");
    }
    assert!(daemon.find(find().number("x")).await.is_err());
    // The burst of this user's quota is spent by the first few.
    let hurried = (0..8).map(|n| {
        daemon.find(
            of("hurried")
                .number(&number(n))
                .within(Duration::from_millis(400)),
        )
    });
    join_all(hurried).await;
    // More than max_in_flight, and some of them the same.
    join_all((0..12).map(|n| daemon.find(of("slow").number(&number(n / 2))))).await;
    for request in [find(), of("broken")] {
        let batch = PrefetchContactsRequest {
            user: request.user,
            auth_header: request.auth_header,
            phone_numbers: vec![number(50), "nonsense".to_owned()],
            overriding_formats: Vec::new(),
        };
        let mut stream = daemon
            .client
            .clone()
            .prefetch_contacts(batch)
            .await
            .unwrap()
            .into_inner();
        while let Ok(Some(_)) = stream.message().await {}
    }
}

/// Queries that bring nothing yet, tried again under traffic for a while.
async fn unanswered(
    prometheus: &Prometheus,
    daemon: &TestDaemon,
    mut queries: Vec<String>,
) -> Vec<String> {
    let asked = async {
        for round in 1.. {
            traffic(daemon, round).await;
            let mut left = Vec::new();
            for query in &queries {
                if prometheus.series(query).await == 0 {
                    left.push(query.clone());
                }
            }
            queries = left;
            if queries.is_empty() {
                return;
            }
        }
    };
    let _ = timeout(Duration::from_secs(90), asked).await;
    queries
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus and redis-server: tests/run gets them"]
async fn every_query_of_panels_rules_and_alerts_finds_its_series_in_a_real_prometheus() {
    let (crm, mut redis) = (FakeCrm::start(crm).await, RedisServer::start().await);
    let shared = format!(
        "[grpc]\nmax_in_flight = 10\n[redis]\nurl = \"{}\"\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n\
         quota = {{ rate = 20, per = \"10s\", burst = 6 }}\n",
        redis.url(),
        crm.url()
    );
    let daemon = TestDaemon::start(&shared).await;
    // Without Redis, and with a certificate that is counted down.
    let files = Files::new(&Authority::new().issue(&["localhost"], "server"), None);
    let alone = TestDaemon::with(&crm, "example", &files.toml()).await;
    let prometheus = Prometheus::over(&[&daemon, &alone]).await;

    let mut queries: Vec<String> = panels().into_iter().map(|(_, query)| query).collect();
    let rules = prometheus.api("rules").await;
    let mut recorded = 0;
    for rule in rules["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
    {
        let query = rule["query"].as_str().unwrap();
        if rule["type"] == "recording" {
            recorded += 1;
            queries.push(rule["name"].as_str().unwrap().to_owned());
        }
        queries.extend(selectors(query));
    }
    assert_eq!(recorded, 8);
    queries.retain(|query| !NOT_PROVOKED.iter().any(|not| query.contains(not)));
    queries.sort_unstable();
    queries.dedup();
    assert_eq!(
        unanswered(&prometheus, &daemon, queries).await,
        Vec::<String>::new()
    );

    // The alert about Redis tells the daemon that lost it from the one that has none.
    redis.stop();
    let waits = timeout(Duration::from_secs(60), async {
        loop {
            let _ = daemon.find(find()).await;
            let alerts = prometheus.api("alerts").await;
            let of_redis = |alert: &&Value| alert["labels"]["alertname"] == "ContactdRedisDown";
            let pending: Vec<Value> = alerts["alerts"]
                .as_array()
                .unwrap()
                .iter()
                .filter(of_redis)
                .cloned()
                .collect();
            if !pending.is_empty() {
                return pending;
            }
            sleep(Duration::from_millis(200)).await;
        }
    });
    let pending = waits.await.expect("the alert is pending");
    assert_eq!(pending.len(), 1, "{pending:?}");
    assert_eq!(pending[0]["labels"]["instance"], daemon.ops.to_string());

    let rules = prometheus.api("rules").await;
    for rule in rules["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
    {
        assert_eq!(
            (&rule["health"], &rule["lastError"]),
            (&json!("ok"), &Value::Null),
            "{rule}"
        );
    }
}
