//! What the policy model can say and this sidecar cannot do. It is refused, because a policy that is taken and not
//! kept is worse than none.

use trama_proto::{
    document::{Document, Resource},
    policy::v1::{OutlierDetection, access_log, chain_filter, regional_policy_spec, route_filter},
};

use super::findings::Findings;

/// Adds a problem for each field that has no effect in this version.
pub(super) fn check(documents: &[&Document], findings: &mut Findings) {
    for document in documents {
        for field in fields(&document.resource) {
            let remedy = "remove it: this version of the sidecar would not keep it";
            findings.add(document, &field, "", "not supported", remedy);
        }
    }
}

fn fields(resource: &Resource) -> Vec<String> {
    match resource {
        Resource::PluginChain(chain) => chain.spec.as_ref().map_or_else(Vec::new, |spec| {
            let is_plugin = |it: &Option<_>| matches!(it, Some(chain_filter::Filter::Plugin(_)));
            let plugins = spec.filters.iter().enumerate().filter(|(_, filter)| is_plugin(&filter.filter));
            plugins.map(|(at, _)| format!("spec.filters[{at}].plugin")).collect()
        }),
        Resource::Service(service) => service.spec.as_ref().map_or_else(Vec::new, |spec| {
            let mut fields = outlier(spec.outlier.as_ref());
            fields.extend(named(&[
                ("spec.pool", spec.pool.is_some()),
                ("spec.loadBalancing", spec.load_balancing.is_some()),
            ]));
            fields
        }),
        Resource::Route(route) => route.spec.iter().flat_map(|spec| &spec.rules).enumerate().fold(
            Vec::new(),
            |mut fields, (at, rule)| {
                if rule.retry.as_ref().is_some_and(|retry| !retry.conditions.is_empty()) {
                    fields.push(format!("spec.rules[{at}].retry.conditions"));
                }
                let chains = rule.filters.iter().enumerate().filter(|(_, filter)| {
                    matches!(filter.filter, Some(route_filter::Filter::PluginChain(_)))
                });
                fields.extend(
                    chains.map(|(place, _)| format!("spec.rules[{at}].filters[{place}].pluginChain")),
                );
                fields
            },
        ),
        Resource::RegionalPolicy(policy) => policy.spec.as_ref().map_or_else(Vec::new, |spec| {
            let mut fields = outlier(spec.outlier.as_ref());
            fields.extend(named(&[
                ("spec.mode", spec.mode() != regional_policy_spec::Mode::Ordered),
                ("spec.targets", !spec.targets.is_empty()),
                ("spec.preferred", spec.preferred.is_some()),
                ("spec.spill", spec.spill.is_some()),
                ("spec.failoverBudget", spec.failover_budget.is_some()),
                ("spec.warm", spec.warm.is_some()),
                ("spec.weights", !spec.weights.is_empty()),
                ("spec.manualRegion", !spec.manual_region.is_empty()),
            ]));
            fields
        }),
        Resource::Telemetry(telemetry) => telemetry.spec.as_ref().map_or_else(Vec::new, |spec| {
            let elsewhere = spec.tracing.as_ref().is_some_and(|tracing| !tracing.otlp_endpoint.is_empty());
            let failures =
                spec.access_log.as_ref().is_some_and(|log| log.mode() == access_log::Mode::Failures);
            named(&[("spec.tracing.otlpEndpoint", elsewhere), ("spec.accessLog.mode", failures)])
        }),
        Resource::AuthzPolicy(_)
        | Resource::EndpointSet(_)
        | Resource::RegionTopology(_)
        | Resource::MeshSettings(_) => Vec::new(),
    }
}

fn outlier(message: Option<&OutlierDetection>) -> Vec<String> {
    message.map_or_else(Vec::new, |it| {
        named(&[
            ("spec.outlier.minReadyEndpoints", it.min_ready_endpoints.is_some()),
            ("spec.outlier.minSuccessPercent", it.min_success_percent.is_some()),
            ("spec.outlier.latencyFactor", it.latency_factor.is_some()),
            ("spec.outlier.minimumRequests", it.minimum_requests.is_some()),
            ("spec.outlier.honourRetryAfter", it.honour_retry_after.is_some()),
        ])
    })
}

fn named(fields: &[(&str, bool)]) -> Vec<String> {
    fields.iter().filter(|(_, there)| *there).map(|(field, _)| (*field).to_owned()).collect()
}
