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
pub enum Standing {
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

/// Whether a failure counts against the endpoint. `on_endpoint`: it alone was waited for in the end, to accept a connection,
/// to read on in the request's body, or to answer. Only then is it to blame for time that ran out: a client that is slow to
/// send its body, or a limit of ours that keeps the request waiting, says nothing about it.
pub const fn counts(failure: &Failure, on_endpoint: bool) -> bool {
    match failure.reason {
        Reason::RequestTimeout | Reason::BackendRequestTimeout => on_endpoint,
        Reason::ConnectTimeout
        | Reason::ConnectFailed
        | Reason::TlsFailed
        | Reason::IdentityMismatch
        | Reason::UpstreamClosed
        | Reason::UpstreamMalformed
        | Reason::ApplicationUnreachable => true,
        _ => false,
    }
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

/// Whether an endpoint is left out at this time.
pub fn is_ejected(health: &EndpointHealth, now: Duration) -> bool {
    health.ejected_until.load(Relaxed) > micros(now)
}

/// How an endpoint stands.
pub(super) fn standing(policy: &OutlierPolicy, health: &EndpointHealth, now: Duration) -> Standing {
    let failures = health.consecutive_failures.load(Relaxed);
    if is_ejected(health, now) {
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
        // By its members: where nothing ranks the regions, one group holds endpoints of several.
        let own = group.endpoints.iter().any(|other| other.health.id == endpoint.health.id);
        for other in &group.endpoints {
            all += 1;
            match standing(other) {
                Standing::Ejected => ejected += 1,
                Standing::Good if own => beside = true,
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

#[cfg(test)]
mod tests {
    use super::{super::sim, *};
    use crate::config::snapshot::state::Registry;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn cluster(layout: sim::Layout<'_>) -> Cluster {
        sim::cluster(&mut Registry::default(), layout)
    }

    /// Fails an endpoint as often as the policy wants to see.
    fn fail(cluster: &Cluster, region: usize, endpoint: usize, now: Duration) -> Option<Duration> {
        let endpoint = &cluster.regions[region].endpoints[endpoint];
        (0..cluster.outlier.consecutive_failures).find_map(|_| failed(cluster, endpoint, now))
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let cluster = cluster(&[("a", &[1, 1])]);
        let endpoint = &cluster.regions[0].endpoints[0];
        for _ in 0..10 {
            for _ in 0..4 {
                assert_eq!(failed(&cluster, endpoint, at(1)), None);
            }
            succeeded(&endpoint.health);
        }
        assert_eq!(fail(&cluster, 0, 0, at(1)), Some(at(10)));
        assert_eq!(failed(&cluster, endpoint, at(2)), None, "what was under way adds nothing");
        assert_eq!(standing(&cluster.outlier, &endpoint.health, at(10)), Standing::Ejected);
        assert_eq!(standing(&cluster.outlier, &endpoint.health, at(11)), Standing::OnProbation);
        succeeded(&endpoint.health);
        assert_eq!(standing(&cluster.outlier, &endpoint.health, at(11)), Standing::Good);
    }

    #[test]
    fn ejections_grow_and_a_quiet_time_forgives() {
        let cluster = cluster(&[("a", &[1, 1])]);
        let endpoint = &cluster.regions[0].endpoints[0];
        assert_eq!(fail(&cluster, 0, 0, at(0)), Some(at(10)));
        assert_eq!(failed(&cluster, endpoint, at(10)), Some(at(20)), "on probation one failure is enough");
        assert_eq!(failed(&cluster, endpoint, at(30)), Some(at(40)));
        succeeded(&endpoint.health);
        assert_eq!(fail(&cluster, 0, 0, at(80)), Some(at(80)), "back for 10 s after 40 s away");
        succeeded(&endpoint.health);
        assert_eq!(fail(&cluster, 0, 0, at(240)), Some(at(10)), "back for as long as it was away");
        let mut now = at(250);
        for _ in 0..10 {
            now += failed(&cluster, endpoint, now).unwrap();
        }
        assert_eq!(failed(&cluster, endpoint, now), Some(at(300)), "and never longer than the policy says");
    }

    #[test]
    fn at_most_a_share_is_ejected_and_one_always_may_be() {
        let four = cluster(&[("a", &[1, 1, 1, 1])]);
        let ejected: Vec<_> = (0..4).map(|n| fail(&four, 0, n, at(1)).is_some()).collect();
        assert_eq!(ejected, [true, true, false, false]);
        let mut mixed = cluster(&[("", &[1, 1, 1, 1])]);
        for endpoint in &mut mixed.regions[0].endpoints {
            std::sync::Arc::get_mut(endpoint).unwrap().region = "somewhere".into();
        }
        let ejected: Vec<_> = (0..4).map(|n| fail(&mixed, 0, n, at(1)).is_some()).collect();
        assert_eq!(ejected, [true, true, false, false], "a group of several regions is one group");
        let mut one = cluster(&[("a", &[1])]);
        one.outlier.max_ejected_percent = 0;
        assert!(fail(&one, 0, 0, at(1)).is_some());
        one.outlier.consecutive_failures = 0;
        assert_eq!(failed(&one, &one.regions[0].endpoints[0], at(100)), None, "0: never");
    }

    #[test]
    fn a_region_that_fails_whole_is_left_whole_where_another_can_take_over() {
        let cluster = cluster(&[("a", &[1; 8]), ("b", &[1])]);
        for n in 0..8 {
            fail(&cluster, 0, n, at(1));
        }
        for endpoint in &cluster.regions[0].endpoints {
            failed(&cluster, endpoint, at(1));
        }
        let all = |region: usize, wanted| {
            let mut endpoints = cluster.regions[region].endpoints.iter();
            endpoints.all(|e| standing(&cluster.outlier, &e.health, at(2)) == wanted)
        };
        assert!(all(0, Standing::Ejected));
        assert_eq!(fail(&cluster, 1, 0, at(2)), None, "the last region is not");
        assert!(all(1, Standing::OnProbation));
    }

    #[test]
    fn of_many_workers_one_ejects() {
        let cluster = cluster(&[("a", &[1, 1])]);
        let endpoint = &cluster.regions[0].endpoints[0];
        let ejections: usize = std::thread::scope(|scope| {
            let worker = || (0..1_000).filter(|_| failed(&cluster, endpoint, at(1)).is_some()).count();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(ejections, 1);
    }

    #[test]
    fn what_a_gateway_says_counts_and_what_the_application_says_does_not() {
        for (status, counted) in
            [(200, false), (404, false), (500, false), (502, true), (503, true), (504, true)]
        {
            assert_eq!(is_failure(StatusCode::from_u16(status).unwrap()), counted, "{status}");
        }
        let counts = |failure: Failure| counts(&failure, true);
        assert!(counts(Failure::before(Reason::ConnectFailed)));
        assert!(!counts(Failure::before(Reason::UpstreamRefused)), "a draining endpoint does as it should");
        assert!(!counts(Failure::after(Reason::DownstreamClosed)));
    }

    #[test]
    fn time_that_ran_out_counts_only_where_the_endpoint_alone_was_waited_for() {
        for reason in [Reason::RequestTimeout, Reason::BackendRequestTimeout] {
            assert!(counts(&Failure::after(reason), true), "{reason}");
            assert!(!counts(&Failure::after(reason), false), "{reason}");
        }
        assert!(
            counts(&Failure::before(Reason::ConnectTimeout), false),
            "that is the endpoint's in any case"
        );
    }
}
