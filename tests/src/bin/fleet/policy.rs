//! The mesh of the fleet: services with endpoints and routes, each sidecar beside an endpoint of one of them and calling
//! some others.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// A thousand routes: with each service one Route of as many rules.
const SERVICES: usize = 100;
const ROUTES_EACH: usize = 10;
const ENDPOINTS_EACH: usize = 10;
/// The services that a sidecar calls. The first one is called by all.
const CALLED: usize = 10;

/// The identity of a sidecar: that of the service which it serves.
pub(crate) fn identity(sidecar: usize) -> String {
    trama_tests::control_plane::identity("bench", &format!("service-{}", sidecar % SERVICES))
}

/// The services that a sidecar calls, `namespace/name`.
pub(crate) fn calls(sidecar: usize) -> BTreeSet<Arc<str>> {
    let others = (1..CALLED).map(|next| (sidecar + next) % SERVICES);
    others.chain([0]).map(|service| format!("bench/service-{service}").into()).collect()
}

/// All of it.
pub(crate) fn mesh() -> String {
    (0..SERVICES).fold(String::new(), |mut text, service| {
        let identity = identity(service);
        let _ = write!(
            text,
            "---\nkind: Service\nmetadata: {{ name: service-{service}, namespace: bench }}\n\
             spec: {{ ports: [{{ port: 80, appProtocol: HTTP }}] }}\n\
             ---\nkind: EndpointSet\nmetadata: {{ name: service-{service}, namespace: bench }}\n\
             spec:\n  service: service-{service}\n  endpoints:\n"
        );
        for endpoint in 0..ENDPOINTS_EACH {
            let address = format!("10.{service}.0.{endpoint}");
            let _ = writeln!(
                text,
                "    - {{ address: {address}, port: 8080, identity: '{identity}', mesh: {{ address: '{address}:15008' }} }}"
            );
        }
        text + "---\n" + &routes(service, 0)
    })
}

/// A change that concerns all sidecars, different for each value.
pub(crate) fn changed(value: u64) -> String {
    routes(0, value)
}

fn routes(service: usize, value: u64) -> String {
    let mut text = format!(
        "kind: Route\nmetadata: {{ name: service-{service}, namespace: bench }}\n\
         spec:\n  parentRefs: [{{ service: service-{service} }}]\n  rules:\n"
    );
    for route in 0..ROUTES_EACH {
        let _ = writeln!(
            text,
            "    - matches: [{{ path: {{ value: /route-{route} }} }}]\n      \
             filters: [{{ responseHeaderModifier: {{ set: [{{ name: x-value, value: '{value}' }}] }} }}]"
        );
    }
    text
}
