//! Generates the messages, their canonical JSON form, the gRPC stubs and the JSON Schema from `proto/`.

mod schema;

use protox::prost::Message;
use std::{env, error::Error, fs, path::PathBuf};

const FILES: &[&str] = &[
    "trama/schema/v1/rule.proto",
    "trama/policy/v1/resource.proto",
    "trama/discovery/v1/discovery.proto",
    "trama/identity/v1/identity.proto",
    "trama/explain/v1/explain.proto",
    "trama/admin/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let descriptors = compiler.file_descriptor_set();
    // As the compiler writes it, with the options that it does not know: what gRPC reflection tells.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .compile_well_known_types(true)
        .btree_map(".")
        // They are rare and large; what is small waits in channels of the same type, of which each stream has some.
        .boxed(".trama.discovery.v1.ControlMessage.message.ask")
        .boxed(".trama.discovery.v1.SidecarMessage.message.told")
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_fds(descriptors.clone())?;
    pbjson_build::Builder::new()
        .btree_map(["."])
        .register_descriptors(&descriptors.encode_to_vec())?
        .build(&[".trama.policy", ".trama.discovery", ".trama.explain", ".trama.admin"])?;

    let schema = schema::policy(&compiler.descriptor_pool())?;
    fs::write(out.join("policy.schema.json"), schema.to_string())?;
    Ok(())
}
