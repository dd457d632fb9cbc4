//! Who would send a request, and where that runs.

use std::collections::BTreeSet;

use tonic::Status;
use trama_proto::{QualifiedName, admin::v1::ExplainRequest, spiffe::SpiffeId};

use super::Asked;
use crate::{admin::error, explain::Sender, model::Service};

/// The sender, where no certain sidecar is named.
pub(super) fn of(request: &ExplainRequest) -> Result<Sender, Status> {
    let ExplainRequest { workload, service, .. } = request;
    match (workload.as_str(), service.as_str()) {
        ("", "") => Err(error::field(
            "sidecar",
            "",
            "who would send it? Say a `sidecar`, a `workload` or a `service`",
        )),
        (workload, "") => match SpiffeId::parse(workload) {
            Ok(id) => Ok(Sender::Workload(id)),
            Err(rule) => Err(error::field("workload", workload, rule)),
        },
        ("", service) => match QualifiedName::parse(service) {
            Ok(QualifiedName { namespace, name }) => Ok(Sender::Service(Service::new(namespace, name))),
            Err(remedy) => Err(error::field("service", service, remedy)),
        },
        (_, service) => {
            Err(error::field("service", service, "a workload is named already: leave one of the two out"))
        }
    }
}

/// Beside a sidecar nobody else is named.
pub(super) fn only_one(request: &ExplainRequest) -> Result<(), Status> {
    let given = [("workload", &request.workload), ("service", &request.service), ("region", &request.region)];
    match given.into_iter().find(|(_, value)| !value.is_empty()) {
        None => Ok(()),
        Some((field, value)) => {
            Err(error::field(field, value, "a sidecar is named already: leave one of the two out"))
        }
    }
}

/// The region to see the policy from. `runs`: where the sender does.
pub(super) fn place(sender: &Sender, asked: &Asked, runs: &BTreeSet<String>) -> Result<String, Status> {
    if !asked.region.is_empty() {
        return Ok(asked.region.clone());
    }
    let mut regions = runs.iter();
    match (regions.next(), regions.next()) {
        (only, None) => Ok(only.cloned().unwrap_or_default()),
        _ => {
            let who = match sender {
                Sender::Workload(id) => id.to_string(),
                Sender::Service(service) => service.label(),
            };
            let problem = format!("{who} runs in several regions; {}", listed(runs));
            Err(error::field("region", "", &problem))
        }
    }
}

/// The regions that may be said.
pub(super) fn listed(regions: &BTreeSet<String>) -> String {
    if regions.is_empty() {
        return "policy names none: leave it out".to_owned();
    }
    format!(
        "say one of {}",
        regions.iter().map(|region| format!("`{region}`")).collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;
    use trama_proto::explain::v1::DescribedRequest;
    use trama_sidecar::explain::Described;

    use super::*;

    #[test]
    fn who_sends_is_said_once() {
        let none = ExplainRequest::default;
        let id = "spiffe://mesh.test/ns/shop/sa/orders";
        for (request, field) in [
            (none(), "sidecar"),
            (ExplainRequest { workload: "orders".into(), ..none() }, "workload"),
            (ExplainRequest { service: "orders".into(), ..none() }, "service"),
            (ExplainRequest { service: "a//b".into(), ..none() }, "service"),
            (ExplainRequest { service: "a/b/c".into(), ..none() }, "service"),
            (ExplainRequest { service: "shop/orders".into(), workload: id.into(), ..none() }, "service"),
        ] {
            let status = of(&request).unwrap_err();
            let details = status.get_error_details();
            assert_eq!(details.bad_request().unwrap().field_violations[0].field, field, "{status}");
        }
        let good = ExplainRequest { workload: id.into(), ..none() };
        assert_eq!(of(&good).unwrap().local("").namespace, "shop");
        assert!(
            only_one(&ExplainRequest { sidecar: "shop/a".into(), region: "rio".into(), ..none() }).is_err()
        );
    }

    #[test]
    fn one_who_runs_in_several_regions_is_asked_where() {
        let sender = Sender::Service(Service::new("shop", "orders"));
        let read = |region: &str| {
            let request =
                DescribedRequest { url: "http://orders.shop/".into(), ..DescribedRequest::default() };
            let described = Described::read(&request).unwrap();
            Asked { request, described, region: region.to_owned() }
        };
        let runs = |regions: &[&str]| regions.iter().map(|region| (*region).to_owned()).collect();
        assert_eq!(place(&sender, &read(""), &runs(&[])).unwrap(), "");
        assert_eq!(place(&sender, &read(""), &runs(&["rio"])).unwrap(), "rio");
        assert_eq!(place(&sender, &read("lima"), &runs(&["rio", "lima"])).unwrap(), "lima");
        let refused = place(&sender, &read(""), &runs(&["rio", "lima"])).unwrap_err();
        assert!(refused.message().contains("several regions; say one of `lima`, `rio`"), "{refused}");
    }
}
