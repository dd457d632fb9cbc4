//! What the control plane knows, as sidecars see it: resources with their versions, and which services each concerns.
//! Pure; no clock, no disk, no network.

mod relation;
mod world;

pub use self::{
    relation::{Relation, Service},
    world::{Held, Needed, Version, World, hash},
};
