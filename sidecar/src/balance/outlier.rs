//! Endpoints that keep failing are left out for a while, by all workers of this sidecar.
//!
//! The state is a few atomics, read and written in relaxed order: a count too many or too few at the edge of an
//! ejection does no harm, so nothing waits for anything.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use http::StatusCode;

use super::micros;
use crate::{
    config::snapshot::{Cluster, Endpoint, OutlierPolicy, state::EndpointHealth},
    error::{Failure, Reason},
};

/// What can be said of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// Nothing against it.
    Good,
    /// It failed as often as ejects an endpoint, and has not succeeded since.
    OnProbation,
    /// It is left out.
    Ejected,
}

/// Whether an answer of this status counts as a failure of the endpoint: those that a gateway gives when what stands
/// behind it is not there. A 500 is the application's own word and says nothing against its neighbour.
pub fn is_failure(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Whether a failure counts against the endpoint.
pub const fn counts(failure: &Failure) -> bool {
    matches!(
        failure.reason,
        Reason::ConnectTimeout
            | Reason::ConnectFailed
            | Reason::TlsFailed
            | Reason::IdentityMismatch
            | Reason::UpstreamClosed
            | Reason::UpstreamMalformed
            | Reason::BackendRequestTimeout
            | Reason::ApplicationUnreachable
    )
}

/// An answer came that is no failure.
pub fn succeeded(health: &EndpointHealth) {
    // Read first: a write by each request would move the cache line between the workers.
    if health.consecutive_failures.load(Relaxed) != 0 {
        health.consecutive_failures.store(0, Relaxed);
    }
}

/// A failure that counts. Ejects the endpoint if it was one too many, and then says for how long.
pub fn failed(cluster: &Cluster, endpoint: &Endpoint, now: Duration) -> Option<Duration> {
    let (policy, health) = (&cluster.outlier, &endpoint.health);
    let failures = health.consecutive_failures.fetch_add(1, Relaxed).saturating_add(1);
    if policy.consecutive_failures == 0 || failures < policy.consecutive_failures {
        return None;
    }
    let until = health.ejected_until.load(Relaxed);
    if until > micros(now) || !may_eject(cluster, endpoint, now) {
        return None;
    }
    let (length, ejections) = next_ejection(policy, health, now);
    let end = micros(now.saturating_add(length));
    // Of several workers that come to this at once, one ejects.
    health.ejected_until.compare_exchange(until, end, Relaxed, Relaxed).ok()?;
    health.ejections.store(ejections, Relaxed);
    Some(length)
}

/// How an endpoint stands.
pub(super) fn standing(policy: &OutlierPolicy, health: &EndpointHealth, now: Duration) -> Standing {
    let failures = health.consecutive_failures.load(Relaxed);
    if health.ejected_until.load(Relaxed) > micros(now) {
        Standing::Ejected
    } else if policy.consecutive_failures != 0 && failures >= policy.consecutive_failures {
        Standing::OnProbation
    } else {
        Standing::Good
    }
}

/// Within the policy's share; one always. A region that fails as a whole may go beyond it while another one can take
/// its traffic: the share protects what is left from overload, not the dead from being left.
fn may_eject(cluster: &Cluster, endpoint: &Endpoint, now: Duration) -> bool {
    let standing = |e: &Endpoint| standing(&cluster.outlier, &e.health, now);
    let (mut all, mut ejected, mut elsewhere, mut beside) = (0_u64, 0_u64, false, false);
    for group in &cluster.regions {
        for other in &group.endpoints {
            all += 1;
            match standing(other) {
                Standing::Ejected => ejected += 1,
                Standing::Good if group.region == endpoint.region => beside = true,
                Standing::Good => elsewhere = true,
                Standing::OnProbation => {}
            }
        }
    }
    let allowed = (all * u64::from(cluster.outlier.max_ejected_percent) / 100).max(1);
    ejected < allowed || (elsewhere && !beside)
}

/// The next ejection's length, and its number in the row. A row ends when an endpoint has been back for as long as it
/// had been away.
fn next_ejection(policy: &OutlierPolicy, health: &EndpointHealth, now: Duration) -> (Duration, u32) {
    let length = |row: u32| {
        let factor = 1_u32.checked_shl(row).unwrap_or(u32::MAX);
        policy.base_ejection.saturating_mul(factor).min(policy.max_ejection)
    };
    let row = health.ejections.load(Relaxed);
    let back_for = now.saturating_sub(Duration::from_micros(health.ejected_until.load(Relaxed)));
    let row = if row > 0 && back_for >= length(row - 1) { 0 } else { row };
    (length(row), row.saturating_add(1))
}
