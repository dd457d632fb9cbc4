//! Where policy and certificates come from, and how a new one is noticed. It runs beside the workers, on the runtime of admin and
//! export; a request never waits for it.

mod file;
mod files;
mod fingerprint;
mod keeper;
mod last_good;

pub use self::{
    file::{Accepted, PolicyFile},
    files::WatchedFiles,
    keeper::keep,
    last_good::{Kept, LastGood, Torn},
};
