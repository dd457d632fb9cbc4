//! What the sidecar was told: the bootstrap file, the immutable snapshot, and the way from the policy model to it.

pub mod bootstrap;
pub mod convert;
mod digest;
pub mod relation;
pub mod snapshot;

pub(crate) use self::digest::fnv1a;

/// So many times more a head may have on the mesh leg, in fields and in bytes: the sidecar that sends it has held it to the
/// limits, and what its own filters and the leg itself then add is not to be refused, or counted against it.
pub(crate) const MESH_HEADROOM: usize = 2;
