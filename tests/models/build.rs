//! Compiles the messages that the rooms store and send, without the service.

use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    println!("cargo:rustc-check-cfg=cfg(models)");
    println!("cargo:rustc-check-cfg=cfg(fuzzing)");
    println!("cargo:rustc-cfg=models");
    let mut protos = protox::Compiler::new(["../../proto"])?;
    protos
        .include_source_info(true)
        .include_imports(true)
        .open_files([
            "contactd/v1/contact.proto",
            "contactd/store/v1/entry.proto",
            "google/rpc/error_details.proto",
            "google/rpc/status.proto",
        ])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(
        out.join("descriptors.bin"),
        protos.encode_file_descriptor_set(),
    )?;
    prost_build::Config::new()
        .enable_type_names()
        .bytes(["contactd.store.v1.Entry.encoded"])
        .disable_comments([".google.rpc"])
        .skip_debug([
            "contactd.v1.FindContactRequest",
            "contactd.v1.PrefetchContactsRequest",
            "contactd.v1.User",
        ])
        .compile_fds(protos.file_descriptor_set())?;
    Ok(())
}
