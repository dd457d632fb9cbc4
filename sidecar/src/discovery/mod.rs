//! Where policy and certificates come from, and how a new one is noticed. It runs beside the workers, on the runtime of admin and
//! export; a request never waits for it.

mod backoff;
mod clock;
mod control_plane;
mod dial;
mod file;
mod files;
mod fingerprint;
mod identity;
mod keeper;
mod last_good;
mod slots;
mod stream;

use std::fmt::Display;

use trama_proto::Problems;

pub use self::{
    backoff::full_jitter,
    control_plane::{ControlPlane, Unreachable},
    dial::{Once, dial, server_name},
    file::{Accepted, PolicyFile},
    files::WatchedFiles,
    identity::{JoinedIdentity, Joining},
    keeper::keep,
    last_good::{Content, Kept, Policies, ToKeep},
    slots::{Slots, Torn},
    stream::{Answer, Beginning, Compile, Fault, Parts, PolicyStream, Stamp, Subscriber},
};

/// Says in the log that a policy is not taken, and each of its problems as a line of its own. `held`: whether there is one
/// that stays.
fn log_refusal(policy: impl Display, problems: &Problems, held: bool) {
    let stays = if held { "the one before stays" } else { "there is none before it" };
    tracing::warn!("{policy}: policy refused, problems: {}; {stays}", problems.0.len());
    for problem in &problems.0 {
        tracing::warn!("{problem}");
    }
}
