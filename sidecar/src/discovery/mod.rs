//! Where policy and certificates come from, and how a new one is noticed. It runs beside the workers, on the runtime of admin and
//! export; a request never waits for it.

mod backoff;
mod clock;
mod control_plane;
mod file;
mod files;
mod fingerprint;
mod identity;
mod keeper;
mod last_good;
mod slots;
mod stream;

pub use self::{
    control_plane::ControlPlane,
    file::{Accepted, PolicyFile},
    files::WatchedFiles,
    identity::{JoinedIdentity, Joining},
    keeper::keep,
    last_good::{Content, Kept, Policies, ToKeep},
    slots::{Slots, Torn},
    stream::{Answer, Beginning, Compile, Fault, PolicyStream, Stamp, Subscriber},
};
