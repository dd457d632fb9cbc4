//! The policy model of Trama: the messages of `proto/`, the YAML form in which people write them, and its JSON
//! Schema. No domain logic: what a policy means is the business of those who use it.
//!
//! - [`policy`]: resources such as services, endpoints and routes.
//! - [`discovery`]: the messages of the policy stream, with client and server.
//! - [`admin`]: the Admin API, with client and server.
//! - [`identity`]: how workloads get their certificates, with client and server.
//! - [`explain`]: why a request goes where it goes; [`explanation`] writes it as text.
//! - [`document`]: a policy file, read into resources, and back.
//! - [`settings`]: how a program is configured.
//! - [`located`]: any YAML file, read by its JSON Schema into a type; errors name line, field, value and remedy.
//! - [`yaml`]: any value as YAML.
//! - [`duration`]: lengths of time as people write them.
//! - [`span`]: what sidecars write into spans, by name.
//! - [`spiffe`]: identities of workloads.
//! - [`QualifiedName`]'s `namespace/name`.

pub mod discovery;
pub mod document;
pub mod duration;
pub mod explanation;
pub mod located;
pub mod settings;
pub mod span;
pub mod spiffe;

mod check;
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::or_fun_call,
    clippy::too_many_lines,
    clippy::unwrap_used,
    clippy::use_self,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
mod generated;
mod node;
mod problem;
mod qualified;
mod schema;
mod structure;
mod suggest;

pub use generated::{admin, explain, identity, policy};
pub use node::yaml;
pub use problem::{Position, Problem, Problems};
pub use qualified::QualifiedName;
pub use schema::schema;
pub use structure::structure;
pub use suggest::did_you_mean;

/// A `google.protobuf.FileDescriptorSet` of all messages and services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
