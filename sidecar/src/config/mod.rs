//! What the sidecar was told: the bootstrap file, the immutable snapshot, and the way from the policy model to it.

pub mod bootstrap;
pub mod convert;
mod digest;
pub mod snapshot;

pub(crate) use self::digest::fnv1a;
