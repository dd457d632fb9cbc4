//! The control plane: what people say about the mesh, given to every sidecar that it concerns.
//!
//! It is stateless over a [`store`]: what must outlive the process is there, and everything else is built from it.
//!
//! What a person changes comes in by `admin`, is judged by [`policy`] and written to the [`store`]. The [`mirror`] sees it
//! there and changes the [`model`]'s world, which wakes every `stream`; [`distribute`] says to whom it is news. `peer`
//! says who is at the other end of a connection that `serve` took, by the certificates that [`identity`] gives; [`reason`] names
//! why a call is refused. `traces` takes the spans of sidecars. What a person asks of a sidecar goes over its `stream`;
//! `explain` answers where there is none. [`app`] puts it together.
//!
//! Who may import whom is a list, held by the tests in `xtask/src/source/control_plane.rs`.

// What the program was told.
pub mod config;
// The program: sockets, tasks, their end.
pub mod app;
// Sockets and TLS.
mod serve;
// The three services: operators, sidecars' policy; identities are in `identity`.
mod admin;
mod stream;
// Spans of sidecars: taken, kept for a while, sent on
mod traces;
// What is counted.
pub mod telemetry;
// Why a call is refused.
pub mod reason;
// Who is at the other end of a connection, and how a stream ends that is not read.
mod farewell;
mod peer;

// Whether a policy is good; pure
pub mod policy;
// Why a request would go where it would go, where no sidecar can be asked; pure
mod explain;
// How much a peer may bring, and how many of something it may have
mod flood;
mod quota;
// The wall clock.
mod clock;
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
