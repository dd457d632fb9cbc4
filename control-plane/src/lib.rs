//! The control plane: what people say about the mesh, given to every sidecar that it concerns.
//!
//! It is stateless over a [`store`]: what must outlive the process is there, and everything else is built from it.

// Certificates for workloads, and the tokens by which they join.
pub mod identity;
// What must outlive the process: keys, values, revisions.
pub mod store;
