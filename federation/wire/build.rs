//! Compiles the .proto files with a compiler written in Rust, so that a build needs no `protoc`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    let files: Vec<_> = ["common", "decision", "tunnel", "exchange", "config", "enroll"]
        .iter()
        .map(|name| root.join("meshfed/v1").join(name).with_extension("proto"))
        .collect();
    println!("cargo::rerun-if-changed=proto");
    let set = protox::compile(files, [root])?;
    tonic_prost_build::configure()
        .bytes(".meshfed.v1.Chunk")
        .codec_path("crate::codec::BoundedCodec")
        .compile_fds(set)?;
    Ok(())
}
