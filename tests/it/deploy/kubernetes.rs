//! The Kubernetes files: rendered by kustomize and checked against the schemas of Kubernetes. No
//! API server runs here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use contactd::clock::{sleep, timeout};
use serde_json::Value;

use super::{faults, repo, succeed};
use crate::support::outside::program;
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, TestDaemon};

/// What `kubectl kustomize` makes of a folder of deploy/k8s, as JSON, each checked strictly.
fn rendered(folder: &str) -> Vec<Value> {
    rendered_at(&repo("deploy/k8s").join(folder))
}

/// The same of the production overlay with the components that it mentions.
fn with_components() -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    succeed(
        Command::new("cp")
            .arg("-r")
            .arg(repo("deploy/k8s"))
            .arg(folder.path()),
    );
    let overlay = folder.path().join("k8s/overlays/production");
    let file = overlay.join("kustomization.yaml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for line in ["components:"].into_iter().chain(COMPONENTS) {
        let mentioned = text
            .lines()
            .find(|of| of.starts_with('#') && of.contains(line));
        let mentioned = mentioned
            .unwrap_or_else(|| panic!("{line} is mentioned"))
            .to_owned();
        text = text.replace(&mentioned, &mentioned[2..]);
    }
    std::fs::write(&file, text).unwrap();
    rendered_at(&overlay)
}

const COMPONENTS: [&str; 3] = [
    "components/outside",
    "components/redis",
    "components/service-monitor",
];

fn rendered_at(folder: &Path) -> Vec<Value> {
    let yaml = succeed(program("kubectl").arg("kustomize").arg(folder));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.yaml");
    std::fs::write(&file, yaml).unwrap();
    // Other people's kinds (ServiceMonitor) are not in the schemas; that is a warning.
    succeed(
        program("kubernetes-validate")
            .args(["--strict", "--quiet", "--no-warn"])
            .arg(&file),
    );
    let to_json = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    serde_json::from_str(&succeed(
        program("python3").args(["-c", to_json]).arg(&file),
    ))
    .unwrap()
}

fn named<'a>(all: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = all
        .iter()
        .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.next().unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn one<'a>(all: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = all.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "one {kind}");
    found[0]
}

/// Whether kustomize is older than version 5, as in Debian 12's own package, and cannot read these
/// files.
fn is_too_old() -> bool {
    let (_, said) = super::run(program("kubectl").args(["version", "--client", "--output=json"]));
    !said.contains("\"kustomizeVersion\": \"v5")
}

#[test]
#[ignore = "needs kubectl and kubernetes-validate: tests/run gets them"]
fn base_and_overlay_render_to_sound_objects_that_fit_together() {
    assert!(
        !is_too_old(),
        "kubectl is older than 1.27: tests/run gets a newer one"
    );
    for folder in ["base", "overlays/production"] {
        let all = rendered(folder);
        assert!(
            all.iter().all(|object| object["kind"] != "ServiceMonitor"),
            "{folder}: a cluster without the Prometheus operator takes it"
        );
        let pod = &one(&all, "Deployment")["spec"]["template"];
        let labels = &pod["metadata"]["labels"];
        for selector in [
            &one(&all, "Deployment")["spec"]["selector"]["matchLabels"],
            &one(&all, "Service")["spec"]["selector"],
            &one(&all, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
            &one(&all, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        ] {
            assert_eq!(selector, labels, "{folder}: every selector finds the pods");
        }
        let policy = one(&all, "NetworkPolicy").to_string();
        assert_eq!(
            policy
                .matches(r#""app.kubernetes.io/name":"redis""#)
                .count(),
            1,
            "{policy}"
        );

        let container = &pod["spec"]["containers"][0];
        let security = &container["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["capabilities"]["drop"][0], "ALL");
        assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
        let ports: Vec<_> = container["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|port| &port["name"])
            .collect();
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            assert!(
                ports.contains(&&container[probe]["httpGet"]["port"]),
                "{probe}"
            );
        }

        let settings = one(&all, "ConfigMap");
        assert_eq!(
            pod["spec"]["volumes"][0]["configMap"]["name"],
            settings["metadata"]["name"]
        );
        let toml = settings["data"]["contactd.toml"].as_str().unwrap();
        let env = [("CONTACTD__REDIS__URL", "rediss://:secret@redis:6379")];
        assert_eq!(faults(toml, &env), Vec::<String>::new(), "{folder}");
        let toml: toml::Table = toml.parse().unwrap();
        assert!(
            toml["grpc"]
                .get("tls")
                .or(toml["grpc"].get("tokens"))
                .is_some(),
            "{folder}: callers prove themselves"
        );
        let grace = pod["spec"]["terminationGracePeriodSeconds"]
            .as_u64()
            .unwrap();
        let seconds = |key: &str| {
            toml["grpc"][key]
                .as_str()
                .unwrap()
                .trim_end_matches('s')
                .parse::<u64>()
                .unwrap()
        };
        assert!(
            grace > seconds("drain_delay") + seconds("drain_timeout") + 2,
            "{folder}: time to stop in order"
        );
    }
}

#[test]
#[ignore = "needs kubectl and kubernetes-validate: tests/run gets them"]
fn every_component_renders_with_the_overlay_and_fits_it() {
    let folder = std::fs::read_dir(repo("deploy/k8s/components")).unwrap();
    let mut names: Vec<_> = folder
        .map(|entry| format!("components/{}", entry.unwrap().file_name().display()))
        .collect();
    names.sort_unstable();
    assert_eq!(names, COMPONENTS);
    let all = with_components();
    assert_eq!(
        one(&all, "ServiceMonitor")["metadata"]["namespace"],
        "contactd"
    );
    let pod = &named(&all, "Deployment", "contactd")["spec"]["template"]["metadata"]["labels"];
    for (kind, selector) in [
        ("Service", "/spec/selector"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
    ] {
        let outside = named(&all, kind, "contactd-outside");
        assert_eq!(outside.pointer(selector), Some(pod), "{kind}");
    }
    let redis = &named(&all, "Deployment", "redis")["spec"]["template"];
    let labels = &redis["metadata"]["labels"];
    assert_eq!(&named(&all, "Service", "redis")["spec"]["selector"], labels);
    let allowed = named(&all, "NetworkPolicy", "contactd")["spec"]["egress"].to_string();
    assert!(
        allowed.contains(&format!("\"matchLabels\":{labels}")),
        "{allowed}"
    );
    let secret = &redis["spec"]["volumes"][0]["secret"];
    assert_eq!(
        (&secret["secretName"], &secret["items"][0]["key"]),
        (&"contactd-redis".into(), &"users.acl".into())
    );
}

#[tokio::test]
#[ignore = "needs kubectl, kubernetes-validate and redis-server: tests/run gets them"]
async fn contactd_uses_a_redis_with_the_arguments_and_the_user_of_the_component() {
    let all = with_components();
    let pod = &named(&all, "Deployment", "redis")["spec"]["template"]["spec"];
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users.acl");
    let page = super::text("deploy/README.md");
    let makes = page
        .lines()
        .find(|line| line.contains("> users.acl"))
        .unwrap();
    let makes = makes
        .trim()
        .trim_end_matches(')')
        .replace("users.acl", users.to_str().unwrap());
    let mut shell = program("sh");
    shell.env("PASSWORD", "secret").current_dir(repo(""));
    succeed(shell.args(["-euc", &makes]));
    let args = pod["containers"][0]["args"].as_array().unwrap();
    let args: Vec<String> = args
        .iter()
        .map(|arg| {
            arg.as_str()
                .unwrap()
                .replace("/run/redis/users.acl", users.to_str().unwrap())
        })
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let redis = RedisServer::with(&args).await;
    let crm = FakeCrm::with(vec![]).await;
    let url = format!("redis://contactd:secret@127.0.0.1:{}", redis.port);
    let more = format!("[redis]\nurl = \"{url}\"\nreplicas = 1\n");
    let daemon = TestDaemon::with(&crm, "example", &more).await;
    let waits = timeout(Duration::from_secs(20), async {
        while daemon.metric("contactd_redis_up").await != Some(1.0) {
            sleep(Duration::from_millis(50)).await;
        }
    });
    waits.await.expect("Redis is used, and refuses nothing");
}

/// Each Secret that the manifests name, with the keys that they take from it.
fn secrets(pod: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut secrets = BTreeMap::<_, BTreeSet<_>>::new();
    let mut take = |name: &Value, key: &Value| {
        let [name, key] = [name, key].map(|text| text.as_str().unwrap().to_owned());
        secrets.entry(name).or_default().insert(key);
    };
    let container = &pod["spec"]["containers"][0];
    for variable in container["env"].as_array().unwrap() {
        let from = &variable["valueFrom"]["secretKeyRef"];
        if from.is_object() {
            take(&from["name"], &from["key"]);
        }
    }
    let settings = super::text("deploy/k8s/overlays/production/contactd.toml");
    for volume in pod["spec"]["volumes"].as_array().unwrap() {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]);
        let folder = mount.unwrap()["mountPath"].as_str().unwrap();
        let name = &volume["secret"]["secretName"];
        for rest in settings.split(&format!("\"{folder}/")).skip(1) {
            if name.is_string() {
                take(name, &rest.split('"').next().into());
            }
        }
    }
    secrets
}

#[test]
#[expect(clippy::print_stderr, reason = "what is not tested must be seen")]
fn the_page_has_a_command_for_each_secret_and_key_that_the_manifests_name() {
    if is_too_old() {
        eprintln!("NOT TESTED: deploy/k8s needs kubectl 1.27 or newer");
        return;
    }
    let all = rendered("overlays/production");
    let secrets = secrets(&one(&all, "Deployment")["spec"]["template"]);
    assert_eq!(secrets.len(), 3, "{secrets:?}");
    let page = super::text("deploy/README.md").replace("\\\n", " ");
    for (name, keys) in secrets {
        let made = page
            .lines()
            .find(|line| line.contains(&format!("create secret generic {name} ")));
        let made = made.unwrap_or_else(|| panic!("no command makes {name}"));
        for key in keys {
            assert!(
                made.contains(&format!("--from-file={key}")),
                "{name} without {key}: {made}"
            );
        }
    }
}
