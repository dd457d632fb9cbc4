//! What the control plane knows, as sidecars see it: resources with their versions, and which services each concerns.
//! Pure; no clock, no disk, no network.

mod world;

pub use trama_sidecar::config::relation::{Relation, Service};

pub use self::world::{Digest, Held, Needed, Place, Version, World, hash, told_hash};
