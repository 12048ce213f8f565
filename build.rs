//! Compiles `proto/` with protox, so that no system protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

/// Every file that defines a service or a record; imports are found by protox.
const PROTO_FILES: &[&str] = &[
    "quorumwatch/v1/event_service.proto",
    "quorumwatch/v1/shard_service.proto",
    "quorumwatch/v1/cluster_service.proto",
    "quorumwatch/v1/group_service.proto",
    "quorumwatch/internal/v1/peer_service.proto",
    "quorumwatch/internal/v1/raft_service.proto",
    "quorumwatch/store/v1/records.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTO_FILES, ["proto"])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection serves the descriptors of the public packages.
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
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
