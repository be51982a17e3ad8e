//! Compiles the protos in pure Rust (protox): building needs no protoc.
//!
//! Messages come from prost alone, so that the rooms below `grpc` see no tonic. The service is
//! generated twice: the client with prost's codec, the server with a codec that writes stored
//! answers without encoding them again.
//!
//! Sets `CONTACTD_REVISION`, the source revision that the metrics and the status page show.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use tonic_build::manual::{Builder, Method, Service};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rustc-env=CONTACTD_REVISION={}", revision());
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);

    let mut protos = protox::Compiler::new(["proto"])?;
    protos
        .include_source_info(true)
        .include_imports(true)
        .open_files([
            "contactd/v1/contact.proto",
            "contactd/store/v1/entry.proto",
            "google/rpc/error_details.proto",
            "google/rpc/status.proto",
        ])?;
    // Not through prost-types, which knows no debug_redact and would lose it.
    fs::write(
        out.join("descriptors.bin"),
        protos.encode_file_descriptor_set(),
    )?;
    prost_build::Config::new()
        .enable_type_names()
        .bytes(["contactd.store.v1.Entry.encoded"])
        // Their examples are not Rust, which rustdoc would try.
        .disable_comments([".google.rpc"])
        .skip_debug([
            "contactd.v1.FindContactRequest",
            "contactd.v1.PrefetchContactsRequest",
            "contactd.v1.User",
        ])
        .compile_fds(protos.file_descriptor_set())?;

    let prost_codec = "tonic_prost::ProstCodec";
    generate(
        &out.join("client"),
        Builder::new().build_server(false),
        ["FindContact", "WatchContact"].map(response),
        [prost_codec; 2],
    )?;
    let codecs = [
        "crate::grpc::codec::ReplyCodec",
        "crate::grpc::codec::PlainCodec",
    ];
    generate(
        &out.join("server"),
        Builder::new().build_client(false),
        ["FindReply", "WatchReply"].map(|reply| format!("crate::api::{reply}")),
        codecs,
    )?;
    Ok(())
}

fn response(route: &str) -> String {
    format!("crate::pb::v1::{route}Response")
}

/// The source revision: what the environment says, else that of a git checkout, else "unknown".
fn revision() -> String {
    println!("cargo:rerun-if-env-changed=CONTACTD_REVISION");
    let given = env::var_os("CONTACTD_REVISION").and_then(|given| given.into_string().ok());
    let given = given.filter(|revision| !revision.trim().is_empty());
    given
        .or_else(revision_of_checkout)
        .unwrap_or_else(|| "unknown".to_owned())
}

/// The commit that is checked out. `None` outside of a checkout, or without git.
fn revision_of_checkout() -> Option<String> {
    // A packager's own repository may be above a source tree without one.
    if !Path::new(".git").exists() {
        return None;
    }
    let revision = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Its log grows whenever HEAD moves, whether by a commit or a checkout. A file that is not
    // there would make cargo run this at every build.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    Some(revision)
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

/// Generates one side of the service. The two sides differ in the replies that contain stored
/// answers, and in their codec.
fn generate(
    folder: &PathBuf,
    builder: Builder,
    [find_reply, watch_reply]: [String; 2],
    [answer_codec, codec]: [&str; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(folder)?;
    let method = |name: &str, route: &str, reply: &str, codec: &str| {
        // A watch asks what a find asks.
        let request = if route == "WatchContact" {
            "FindContact"
        } else {
            route
        };
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("crate::pb::v1::{request}Request"))
            .output_type(reply)
            .codec_path(codec)
    };
    let (prefetch, invalidate) = (response("PrefetchContacts"), response("InvalidateContacts"));
    let explain = response("ExplainContact");
    let service = Service::builder()
        .name("ContactService")
        .package("contactd.v1")
        .method(method("find_contact", "FindContact", &find_reply, answer_codec).build())
        .method(
            method("watch_contact", "WatchContact", &watch_reply, answer_codec)
                .server_streaming()
                .build(),
        )
        .method(
            method("prefetch_contacts", "PrefetchContacts", &prefetch, codec)
                .server_streaming()
                .build(),
        )
        .method(
            method(
                "invalidate_contacts",
                "InvalidateContacts",
                &invalidate,
                codec,
            )
            .build(),
        )
        .method(method("explain_contact", "ExplainContact", &explain, codec).build())
        .build();
    builder.out_dir(folder).compile(&[service]);
    Ok(())
}
