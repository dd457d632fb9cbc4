//! Why a request would go where it would go: the sidecar that would send it says so, or else policy alone.

use std::{collections::BTreeSet, sync::Arc};

use prost::Message;
use tokio::task;
use tonic::Status;
use trama_proto::{
    QualifiedName,
    admin::v1::{ExplainRequest, ExplainResponse, ExplainTraceRequest, ExplainedTrace, GetTraceRequest},
    did_you_mean,
    discovery::v1::{
        Node, ResourceName,
        ask::{Kind, Question},
        told::Answer,
    },
    document::Document,
    explain::v1::{DescribedRequest, Explanation, outcome},
    spiffe::SpiffeId,
};
use trama_sidecar::{config::convert::Local, explain::Described};

use super::{Shared, error, proxy::Proxy};
use crate::{
    explain::{self, Runs, Sender},
    model::Service,
    reason::Reason,
    stream::Unanswered,
    traces,
};

/// As much as a sidecar's admin port takes.
const LARGEST: usize = 64 * 1024;

/// The policy of a moment.
struct Policy {
    documents: Vec<Arc<Document>>,
    revision: u64,
}

/// A request that can be explained.
struct Asked {
    request: DescribedRequest,
    described: Described,
    region: String,
}

impl Shared {
    pub(super) async fn explain(&self, mut request: ExplainRequest) -> Result<ExplainResponse, Status> {
        self.ready()?;
        let described = request.request.take().unwrap_or_default();
        if described.encoded_len() > LARGEST {
            let size = described.encoded_len().to_string();
            let problem = format!("more than {LARGEST} bytes; leave out what nothing in the policy asks for");
            return Err(error::field("request", &size, &problem));
        }
        let read = Described::read(&described).map_err(|problems| error::described(&problems))?;
        let asked = Asked { request: described, described: read, region: request.region.clone() };
        if !request.sidecar.is_empty() {
            one_sender(&request)?;
            let proxy = self.proxy(&request.sidecar)?;
            return self.by_sidecar(proxy, 0, asked).await;
        }
        let sender = sender(&request)?;
        let policy = self.policy();
        let runs = self.runs(&sender, &asked, &policy.documents)?;
        let right = |proxy: &Proxy| asked.region.is_empty() || proxy.node.region == asked.region;
        let mut proxies = self.proxies(|seat| runs.has(seat.session.place()));
        proxies.retain(right);
        let others = proxies.len().saturating_sub(1) as u32;
        let first = proxies.iter().position(|proxy| proxy.answers(Kind::Explain));
        if let Some(first) = first {
            return self.by_sidecar(proxies.swap_remove(first), others, asked).await;
        }
        let (sidecar, why) = match proxies.into_iter().next() {
            Some(proxy) => {
                let why = format!("{} is connected, and {}", proxy.name(), Unanswered::Unable);
                (Some(proxy.node), why)
            }
            None => (None, "no sidecar that would send it is connected".to_owned()),
        };
        let local = match &sidecar {
            Some(node) => local(node),
            None => sender.local(&place(&sender, &asked, &runs.regions)?),
        };
        let why = match local.region.as_str() {
            "" => why + "; where it runs is not known, so that no region is near: say `region`",
            _ => why,
        };
        let explanation = told_by_policy(policy, local, asked).await?;
        Ok(ExplainResponse { explanation: Some(explanation), sidecar, others, by_policy: why })
    }

    /// What the sidecar says. Of a service that it was never asked for it knows the name alone: then policy tells what it will
    /// know when the first request comes.
    async fn by_sidecar(&self, proxy: Proxy, others: u32, asked: Asked) -> Result<ExplainResponse, Status> {
        let question = Question::Explain(asked.request.clone());
        let Answer::Explanation(told) = self.asked(&proxy, question).await? else {
            return Err(error::unanswered(&proxy.name(), &Unanswered::Foreign));
        };
        let (explanation, by_policy) = if is_unknown(&told) {
            let why = "the sidecar knows only the service's name until a first request asks for the rest";
            (told_by_policy(self.policy(), local(&proxy.node), asked).await?, why.to_owned())
        } else {
            (told, String::new())
        };
        Ok(ExplainResponse { explanation: Some(explanation), sidecar: Some(proxy.node), others, by_policy })
    }

    pub(super) fn explain_trace(
        &self,
        ExplainTraceRequest { id }: ExplainTraceRequest,
    ) -> Result<ExplainedTrace, Status> {
        self.get_trace(&GetTraceRequest { id }).map(traces::explained)
    }

    fn policy(&self) -> Policy {
        self.mirror.look(|world| Policy { documents: world.documents(), revision: world.stamp().revision })
    }

    /// Where the sender runs. What names nothing is refused, or its slip would be answered.
    fn runs(&self, sender: &Sender, asked: &Asked, documents: &[Arc<Document>]) -> Result<Runs, Status> {
        let known = explain::regions(documents);
        if !asked.region.is_empty() && !known.contains(&asked.region) {
            let near = did_you_mean(&asked.region, known.iter().map(String::as_str));
            let remedy = near.map_or_else(|| listed(&known), |near| format!("did you mean `{near}`?"));
            return Err(error::field("region", &asked.region, &format!("no such region; {remedy}")));
        }
        if let Sender::Service(service) = sender
            && explain::services(documents).all(|other| other != *service)
        {
            let known: Vec<_> = explain::services(documents).collect();
            let near = qualified(service).near(known.iter().map(qualified));
            let Service { namespace, name } = service.clone();
            let missing = ResourceName { kind: "Service".to_owned(), namespace, name };
            return Err(error::not_found_but(&missing, near));
        }
        Ok(sender.runs(documents))
    }
}

/// Takes a moment where the policy is large: nobody waits for it but who asks.
async fn told_by_policy(
    Policy { documents, revision }: Policy,
    local: Local,
    asked: Asked,
) -> Result<Explanation, Status> {
    let draw = fastrand::u64(..);
    let told = task::spawn_blocking(move || {
        explain::by_policy(&documents, revision, &local, &asked.described, draw)
    });
    let told =
        told.await.map_err(|ended| Reason::Internal.status(format!("the explanation broke off: {ended}")))?;
    told.map_err(|problems| {
        Reason::PolicyBroken.status(format!("the policy in force is not good, mend it: {problems}"))
    })
}

/// What a sidecar is to policy.
fn local(node: &Node) -> Local {
    Local { namespace: node.namespace.clone(), region: node.region.clone() }
}

/// The region to see the policy from. `runs`: where the sender does.
fn place(sender: &Sender, asked: &Asked, runs: &BTreeSet<String>) -> Result<String, Status> {
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

fn listed(regions: &BTreeSet<String>) -> String {
    if regions.is_empty() {
        return "policy names none: leave it out".to_owned();
    }
    format!(
        "say one of {}",
        regions.iter().map(|region| format!("`{region}`")).collect::<Vec<_>>().join(", ")
    )
}

fn qualified(Service { namespace, name }: &Service) -> QualifiedName<'_> {
    QualifiedName { namespace, name }
}

fn is_unknown(told: &Explanation) -> bool {
    let outcome = told.outcome.clone().unwrap_or_default();
    outcome.result() == outcome::Result::Undecided && outcome.reason == "service_pending"
}

fn one_sender(request: &ExplainRequest) -> Result<(), Status> {
    let given = [("workload", &request.workload), ("service", &request.service), ("region", &request.region)];
    match given.into_iter().find(|(_, value)| !value.is_empty()) {
        None => Ok(()),
        Some((field, value)) => {
            Err(error::field(field, value, "a sidecar is named already: leave one of the two out"))
        }
    }
}

fn sender(request: &ExplainRequest) -> Result<Sender, Status> {
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

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn who_sends_is_said_once() {
        let none = ExplainRequest::default;
        let id = "spiffe://mesh.test/ns/shop/sa/orders";
        for (request, field) in [
            (none(), "sidecar"),
            (ExplainRequest { workload: "orders".into(), ..none() }, "workload"),
            (ExplainRequest { service: "orders".into(), ..none() }, "service"),
            (ExplainRequest { service: "a/b/c".into(), ..none() }, "service"),
            (ExplainRequest { service: "shop/orders".into(), workload: id.into(), ..none() }, "service"),
        ] {
            let status = sender(&request).unwrap_err();
            let details = status.get_error_details();
            assert_eq!(details.bad_request().unwrap().field_violations[0].field, field, "{status}");
        }
        let good = ExplainRequest { workload: id.into(), ..none() };
        assert_eq!(sender(&good).unwrap().local("").namespace, "shop");
        assert!(
            one_sender(&ExplainRequest { sidecar: "shop/a".into(), region: "rio".into(), ..none() }).is_err()
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
