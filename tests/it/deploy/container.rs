//! The Dockerfile and the compose file, as far as they can be tried without an engine: the context
//! is copied, the image's files are put together by the Dockerfile's own command, and the program
//! runs on them alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{faults, repo, run, succeed, text};
use crate::support::outside::program;

#[test]
#[ignore = "needs hadolint: tests/run gets it"]
fn hadolint_finds_nothing_in_the_dockerfile() {
    succeed(program("hadolint").arg(repo("deploy/Dockerfile")));
}

/// The files of the repository that the library was built from, as rustc lists them.
fn built_from() -> Vec<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_contactd"));
    let lists = fs::read_dir(program.with_file_name("deps")).unwrap();
    let lists = lists.filter_map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name()?.to_str()?;
        let is_list = name.starts_with("contactd-") && name.ends_with(".d");
        let list = is_list.then(|| fs::read_to_string(&path).unwrap())?;
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        Some((changed, list))
    });
    // Each is "OUTPUT: FILES" for each output. The tests of the library are another output.
    let of_library = lists.filter_map(|(changed, list)| {
        let mut lines = list.lines().filter_map(|line| line.split_once(".rlib: "));
        let (_, files) = lines.find(|(output, _)| output.contains("/libcontactd-"))?;
        Some((changed, files.to_owned()))
    });
    let (_, files) = of_library.max().unwrap();
    let files = files
        .split(' ')
        .filter(|file| Path::new(file).is_relative());
    files.map(str::to_owned).collect()
}

#[test]
fn the_context_has_what_cargo_builds_from_and_wants_to_see() {
    let dir = tempfile::tempdir().unwrap();
    let ignore = text(".dockerignore");
    for line in text("deploy/Dockerfile")
        .lines()
        .filter(|line| line.starts_with("COPY ") && !line.contains("--from"))
    {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let (target, sources) = words.split_last().unwrap();
        for source in sources {
            assert!(
                ignore.lines().any(|line| line == format!("!{source}")),
                "{source} is in the context"
            );
            let target = dir.path().join(target);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            succeed(Command::new("cp").arg("-r").arg(repo(source)).arg(target));
        }
    }
    let files = built_from();
    assert!(files.contains(&"src/lib.rs".to_owned()), "{files:?}");
    let missing = files.iter().filter(|file| !dir.path().join(file).exists());
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "not in the context: {missing:?}");
    let cargo = [
        "metadata",
        "--locked",
        "--offline",
        "--no-deps",
        "--format-version=1",
    ];
    let seen = succeed(
        Command::new(env!("CARGO"))
            .args(cargo)
            .current_dir(dir.path()),
    );
    assert!(
        seen.contains("\"dist\"") || text("Cargo.toml").contains("[profile.dist]"),
        "the profile exists"
    );
}

#[test]
#[ignore = "needs root, or a user who may make namespaces: tests/run runs it"]
fn the_program_runs_on_the_images_files_alone_as_a_user_without_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    fs::create_dir(&image).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_contactd"), image.join("contactd")).unwrap();
    let dockerfile = text("deploy/Dockerfile");
    let collect = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("RUN ldd "))
        .unwrap();
    let collect = format!("ldd {collect}").replace("/image", image.to_str().unwrap());
    succeed(Command::new("bash").args(["-o", "pipefail", "-c", &collect]));
    succeed(Command::new("chmod").args(["-R", "a+rX"]).arg(dir.path()));

    // Without root, a user namespace lends it.
    let inside = |args: &[&str]| {
        let root = succeed(Command::new("id").arg("-u")).trim() == "0";
        let mut command = Command::new(if root { "chroot" } else { "unshare" });
        if root {
            command.arg("--userspec=65532:65532").arg(&image);
        } else {
            command
                .arg("--map-root-user")
                .arg(format!("--root={}", image.display()));
        }
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("/contactd")
            .args(args);
        run(&mut command)
    };
    let (success, said) = inside(&["--version"]);
    assert!(success && said.starts_with("contactd "), "{said}");
    // A whole life: ports, a CRM, look-ups, a batch, an orderly stop.
    let (success, said) = inside(&["demo"]);
    assert!(success, "{said}");
}

#[test]
#[ignore = "needs docker-compose: tests/run gets it"]
fn compose_accepts_the_file_and_contactd_the_settings_in_it() {
    let sha = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let mut compose = program("docker-compose");
    compose
        .arg("-f")
        .arg(repo("deploy/compose.yaml"))
        .args(["config", "--format", "json"]);
    let (success, said) = run(compose.env_clear());
    assert!(
        !success && said.contains("see the head of compose.yaml"),
        "nothing starts without secrets: {said}"
    );
    let secrets = [
        ("CONTACTD_TOKEN_SHA256", sha),
        ("REDIS_PASSWORD", "r"),
        ("GRAFANA_PASSWORD", "g"),
    ];
    let config: serde_json::Value = serde_json::from_str(&succeed(compose.envs(secrets))).unwrap();
    let toml = config["configs"]["contactd"]["content"].as_str().unwrap();
    assert!(toml.contains(sha), "{toml}");
    for name in ["contactd-1", "contactd-2"] {
        let service = &config["services"][name];
        assert_eq!(service["read_only"], true, "{name}");
        let url = service["environment"]["CONTACTD__REDIS__URL"]
            .as_str()
            .unwrap();
        assert_eq!(
            faults(toml, &[("CONTACTD__REDIS__URL", url)]),
            Vec::<String>::new()
        );
        assert!(
            text("deploy/prometheus/prometheus.yml").contains(&format!("\"{name}:9464\"")),
            "{name} is scraped"
        );
        for port in service["ports"].as_array().unwrap() {
            assert_eq!(
                port["host_ip"], "127.0.0.1",
                "{name} is published on loopback only"
            );
        }
    }
}
