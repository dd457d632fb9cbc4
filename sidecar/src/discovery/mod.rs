//! Where policy and identity come from, and how a new one is noticed. It runs beside the workers, on the runtime of admin and
//! export; a request never waits for it.

mod file;
mod fingerprint;
mod identity;

pub use self::{file::PolicyFile, identity::watch_identity};
