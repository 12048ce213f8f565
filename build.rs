//! Compiles `proto/` with protox, so that no system protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

/// What clients see. Imports are found by protox.
const PUBLIC_FILES: &[&str] = &[
    "quorumwatch/v1/event_service.proto",
    "quorumwatch/v1/shard_service.proto",
    "quorumwatch/v1/cluster_service.proto",
    "quorumwatch/v1/group_service.proto",
    "quorumwatch/v1/error.proto",
];

/// What replicas say to each other, and what they keep.
const PRIVATE_FILES: &[&str] = &[
    "quorumwatch/internal/v1/handover_service.proto",
    "quorumwatch/internal/v1/leader_service.proto",
    "quorumwatch/internal/v1/membership_service.proto",
    "quorumwatch/internal/v1/raft_service.proto",
    "quorumwatch/internal/v1/relay_service.proto",
    "quorumwatch/store/v1/records.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection serves these, and JSON is made from them: nothing private is among them.
    let public = protox::compile(PUBLIC_FILES, ["proto"])?;
    let public_path = out_dir.join("public_descriptors.bin");
    fs::write(public_path, public.encode_to_vec())?;
    let all = protox::compile(PUBLIC_FILES.iter().chain(PRIVATE_FILES), ["proto"])?;
    // The name of a message leads to its descriptor, for JSON.
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        // Their order is that of their keys, so that the same request is the same bytes.
        .btree_map(".")
        .compile_fds_with_config(all, config)?;
    compile_event_service();
    Ok(())
}

/// `EventService` once more, for the server: with responses that are encoded already.
fn compile_event_service() {
    let subscribe = tonic_prost_build::manual::Method::builder()
        .name("subscribe")
        .route_name("Subscribe")
        .input_type("crate::proto::v1::SubscribeRequest")
        .output_type("crate::api::encoded::Encoded")
        .codec_path("crate::api::encoded::EncodedCodec")
        .server_streaming()
        .build();
    let service = tonic_prost_build::manual::Service::builder()
        .name("EventService")
        .package("quorumwatch.v1")
        .comment("One merged, de-duplicated, resumable stream of what happens in all clusters.")
        .method(subscribe)
        .build();
    tonic_prost_build::manual::Builder::new()
        .build_client(false)
        .compile(&[service]);
}
