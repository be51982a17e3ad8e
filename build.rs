//! Compiles the protos in pure Rust (protox): building needs no protoc.
//!
//! Messages come from prost alone, so that the rooms below `grpc` see no tonic. The service is
//! generated twice: the client with prost's codec, the server with a codec that writes stored
//! answers without encoding them again.

use std::{env, fs, path::PathBuf};

use tonic_build::manual::{Builder, Method, Service};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-env-changed=CONTACTD_REVISION");
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
    let message = "crate::pb::v1::FindContactResponse";
    generate(
        &out.join("client"),
        Builder::new().build_server(false),
        message,
        [prost_codec; 2],
    )?;
    let reply = "crate::api::FindReply";
    let codecs = [
        "crate::grpc::codec::ReplyCodec",
        "crate::grpc::codec::PlainCodec",
    ];
    generate(
        &out.join("server"),
        Builder::new().build_client(false),
        reply,
        codecs,
    )?;
    Ok(())
}

/// Generates one side of the service; only the reply of `FindContact` differs between the two.
fn generate(
    folder: &PathBuf,
    builder: Builder,
    find_reply: &str,
    [find_codec, codec]: [&str; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(folder)?;
    let method = |name: &str, route: &str, reply: &str, codec: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("crate::pb::v1::{route}Request"))
            .output_type(reply)
            .codec_path(codec)
    };
    let response = |route: &str| format!("crate::pb::v1::{route}Response");
    let (prefetch, invalidate) = (response("PrefetchContacts"), response("InvalidateContacts"));
    let explain = response("ExplainContact");
    let service = Service::builder()
        .name("ContactService")
        .package("contactd.v1")
        .method(method("find_contact", "FindContact", find_reply, find_codec).build())
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
