//! The control plane: what people say about the mesh, given to every sidecar that it concerns.
//!
//! It is stateless over a [`store`]: what must outlive the process is there, and everything else is built from it.

// Whether a policy is good; pure
pub mod policy;
// The world, kept as the store has it.
pub mod mirror;
// Certificates for workloads, and the tokens by which they join.
pub mod identity;
// What the store holds as sidecars see it: resources by name and by the service that they concern; pure
pub mod model;
// Which sidecar is told what, and when; pure
pub mod distribute;
// What must outlive the process: keys, values, revisions.
pub mod store;
