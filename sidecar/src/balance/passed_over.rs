//! Why a request went to its region and not to others, for its span. Asked for kept traces only: it costs what choosing
//! does not.

use std::{sync::Arc, time::Duration};

use super::{
    Attempts, Choice, Loads, Why,
    outlier::{self, Standing},
};
use crate::{
    config::snapshot::{Cluster, RegionGroup},
    telemetry::{PassedOver, Placement},
};

impl Why {
    /// Its name in spans.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preferred => "preferred",
            Self::Failover => "failover",
            Self::Moved => "moved",
            Self::Again => "again",
            Self::Panic => "panic",
        }
    }
}

impl Loads {
    /// What a choice, or that there was none, says of the cluster's regions: those that stand before the chosen one were
    /// passed over for what holds of them now, those that may never be used for what policy says.
    pub fn placement(
        &self,
        cluster: &Cluster,
        attempts: &Attempts,
        choice: Option<&Choice>,
        now: Duration,
    ) -> Placement {
        let chosen = choice.map_or(usize::MAX, |choice| usize::from(choice.decision.region_rank));
        let before = cluster.regions.iter().take(chosen).map(|group| PassedOver {
            region: Arc::clone(&group.region),
            why: self.why_not(cluster, group, attempts, now),
        });
        let never = cluster
            .skipped
            .iter()
            .map(|skipped| PassedOver { region: Arc::clone(&skipped.region), why: skipped.why });
        Placement {
            why: choice.map(|choice| choice.decision.why.name()),
            passed_over: before.chain(never).collect(),
        }
    }

    /// What keeps a request from a region now: the first of its endpoints that it has not tried says it, else that it has
    /// tried them all.
    fn why_not(
        &self,
        cluster: &Cluster,
        group: &RegionGroup,
        attempts: &Attempts,
        now: Duration,
    ) -> &'static str {
        let fresh = group.endpoints.iter().filter(|endpoint| !attempts.tried(endpoint.health.id));
        let mut standings = fresh.map(|endpoint| outlier::standing(&cluster.outlier, &endpoint.health, now));
        match standings.next() {
            None => "tried",
            Some(Standing::Ejected) => "ejected",
            Some(Standing::OnProbation) => "on_probation",
            // It has endpoints that nothing is against, and so many others of it could not be reached.
            Some(Standing::Good) => "unreachable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sim, *};
    use crate::config::snapshot::{SkippedRegion, state::Registry};

    const AT: Duration = Duration::from_secs(1);

    fn told(loads: &mut Loads, cluster: &Cluster, attempts: &Attempts, now: Duration) -> String {
        let choice = loads.pick(cluster, attempts, now, 1).ok();
        let Placement { why, passed_over } = loads.placement(cluster, attempts, choice.as_ref(), now);
        let passed_over = passed_over.iter().map(|it| format!(" {}: {}", it.region, it.why));
        format!("{}{}", why.unwrap_or("nobody"), passed_over.collect::<String>())
    }

    fn fail(cluster: &Cluster, region: usize, endpoint: usize) {
        for _ in 0..cluster.outlier.consecutive_failures {
            outlier::failed(cluster, &cluster.regions[region].endpoints[endpoint], AT);
        }
    }

    #[test]
    fn each_region_before_the_chosen_one_is_told_with_what_holds_of_it() {
        let mut registry = Registry::default();
        let mut cluster =
            sim::cluster(&mut registry, &[("rio", &[1]), ("lima", &[1, 1, 1]), ("quito", &[1])]);
        cluster.skipped.push(SkippedRegion { region: "us".into(), why: "residency" });
        let mut loads = Loads::default();
        let fresh = Attempts::default();
        assert_eq!(told(&mut loads, &cluster, &fresh, AT), "preferred us: residency");

        let mut tried = Attempts::default();
        let choice = loads.pick(&cluster, &tried, AT, 1).unwrap();
        tried.failed(&choice, true);
        assert_eq!(told(&mut loads, &cluster, &tried, AT), "moved rio: tried us: residency");
        for _ in 0..2 {
            let choice = loads.pick(&cluster, &tried, AT, 1).unwrap();
            assert_eq!(&*choice.endpoint.region, "lima");
            tried.failed(&choice, true);
        }
        let expected = "moved rio: tried lima: unreachable us: residency";
        assert_eq!(told(&mut loads, &cluster, &tried, AT), expected);

        fail(&cluster, 0, 0);
        assert_eq!(told(&mut loads, &cluster, &fresh, AT), "failover rio: ejected us: residency");
        // Back from ejection, and its one request is under way.
        let later = AT + cluster.outlier.base_ejection + AT;
        loads.observe(&cluster.regions[0].endpoints[0], super::super::Event::Started, later);
        assert_eq!(told(&mut loads, &cluster, &fresh, later), "failover rio: on_probation us: residency");
    }

    #[test]
    fn where_nobody_is_asked_every_region_is_told() {
        let mut cluster = sim::cluster(&mut Registry::default(), &[]);
        cluster.skipped.push(SkippedRegion { region: "us".into(), why: "no_ready_endpoint" });
        let told = told(&mut Loads::default(), &cluster, &Attempts::default(), AT);
        assert_eq!(told, "nobody us: no_ready_endpoint");
    }
}
