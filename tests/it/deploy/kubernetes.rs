//! The Kubernetes files: rendered by kustomize and checked against the schemas of Kubernetes. No
//! API server runs here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{faults, repo, succeed, tool};

/// What `kubectl kustomize` makes of a folder of deploy/k8s, as JSON, each checked strictly.
fn rendered(folder: &str) -> Vec<Value> {
    let yaml = succeed(
        tool("kubectl")
            .arg("kustomize")
            .arg(repo("deploy/k8s").join(folder)),
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.yaml");
    std::fs::write(&file, yaml).unwrap();
    // Other people's kinds (ServiceMonitor) are not in the schemas; that is a warning.
    succeed(
        tool("kubernetes-validate")
            .args(["--strict", "--quiet", "--no-warn"])
            .arg(&file),
    );
    let to_json = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    serde_json::from_str(&succeed(tool("python3").args(["-c", to_json]).arg(&file))).unwrap()
}

fn one<'a>(all: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = all.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "one {kind}");
    found[0]
}

/// Whether kustomize is older than version 4, as in Debian 12's own package, and cannot read these
/// files.
fn is_too_old() -> bool {
    let (_, said) = super::run(tool("kubectl").args(["version", "--client", "--output=json"]));
    !said.contains("\"kustomizeVersion\": \"v4") && !said.contains("\"kustomizeVersion\": \"v5")
}

#[test]
#[expect(clippy::print_stderr, reason = "what is not tested must be seen")]
fn base_and_overlay_render_to_sound_objects_that_fit_together() {
    if is_too_old() {
        eprintln!("NOT TESTED: deploy/k8s needs kubectl 1.27 or newer");
        return;
    }
    for folder in ["base", "overlays/production"] {
        let all = rendered(folder);
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
