//! Which endpoint serves a request: region by region in the order of the policy, inside a region by load and latency,
//! around what keeps failing; and whether a failed request is tried again.
//!
//! Everything here decides from what it is given: `now` is the time since the sidecar's start, `draw` a random number.
//! So a million decisions can be replayed, and tests run in virtual time. What a worker has learned is in [`Loads`];
//! what all workers share is in `config::snapshot::state`, on atomics.
//!
//! ```text
//! decide(state, now, draw):   Loads::pick      -> Choice      region, then two rivals, then the cheaper
//! observe(state, event):      Loads::observe                  latency and outstanding requests, this worker's
//!                             outlier::{succeeded, failed}    ejection, all workers'
//! again(state, failure):      retry::may_retry -> wait        may this request be sent twice?
//!                             budget::{earn, spend}           and may this service afford it?
//! ```

pub mod budget;
mod ewma;
mod loads;
pub mod outlier;
mod p2c;
mod passed_over;
mod region;
pub mod retry;
mod survey;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub use self::{
    loads::{Event, Loads},
    outlier::Standing,
    p2c::Draws,
    region::{Attempts, Choice, Decision, Why},
    survey::Surveyed,
};

/// A time as the shared atomics hold it.
fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
