//! What the sidecar was told: the bootstrap file, the immutable snapshot, and the way from the policy model to it.

pub mod bootstrap;
pub mod convert;
pub mod snapshot;
