//! Why a request would go where it would go: a sidecar that would send it says so, or else policy alone.

mod asking;
mod sender;

use std::sync::Arc;

use prost::Message;
use tokio::task;
use tonic::Status;
use trama_proto::{
    QualifiedName,
    admin::v1::{
        ExplainRequest, ExplainResponse, ExplainTraceRequest, ExplainedTrace, GetTraceRequest, Unheard,
    },
    did_you_mean,
    discovery::v1::{Node, ResourceName, ask::Kind},
    document::Document,
    explain::v1::{DescribedRequest, Explanation, outcome},
};
use trama_sidecar::{config::convert::Local, explain::Described};

use super::{Shared, error, proxy::Proxy};
use crate::{
    explain::{self, Runs, Sender},
    model::Service,
    reason::Reason,
    stream::PATIENCE,
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

/// What a sidecar has answered.
struct Heard {
    proxy: Proxy,
    told: Explanation,
}

impl Shared {
    pub(super) async fn explain(&self, mut request: ExplainRequest) -> Result<ExplainResponse, Status> {
        self.ready()?;
        let asked = Asked::read(request.request.take().unwrap_or_default(), &request.region)?;
        if !request.sidecar.is_empty() {
            sender::only_one(&request)?;
            let proxy = self.proxy(&request.sidecar)?;
            let told = self.explained_by(&proxy, &asked, PATIENCE).await;
            let told = told.map_err(|why| error::unanswered(&proxy.name(), asking::FIELD, &why))?;
            return self.as_told(Heard { proxy, told }, asked).await;
        }
        let sender = sender::of(&request)?;
        let policy = self.policy();
        let runs = self.runs(&sender, &asked, &policy.documents)?;
        let right = |proxy: &Proxy| asked.region.is_empty() || proxy.node.region == asked.region;
        let mut proxies = self.proxies(|seat| runs.has(seat.session.place()));
        proxies.retain(right);
        // Who cannot answer is asked last, to be told of.
        proxies.sort_by_key(|proxy| !proxy.answers(Kind::Explain));
        let others = proxies.len().saturating_sub(1) as u32;
        let first = proxies.first().map(|proxy| proxy.node.clone());
        let (heard, unheard) = self.first_to_answer(proxies, &asked).await?;
        if let Some(heard) = heard {
            let told = self.as_told(heard, asked).await?;
            return Ok(ExplainResponse { others, unheard, ..told });
        }
        let local = match &first {
            Some(node) => local(node),
            None => sender.local(&sender::place(&sender, &asked, &runs.regions)?),
        };
        let by_policy = reason(&sender, &runs, &unheard, &local);
        let explanation = Some(told_by_policy(policy, local, asked).await?);
        Ok(ExplainResponse { explanation, sidecar: first, others, by_policy, unheard })
    }

    /// What the sidecar says. Of a service that it was never asked for it knows the name alone: then policy tells what it will
    /// know when the first request comes.
    async fn as_told(&self, Heard { proxy, told }: Heard, asked: Asked) -> Result<ExplainResponse, Status> {
        let (explanation, by_policy) = if is_unknown(&told) {
            let why = "the sidecar knows only the service's name until a first request asks for the rest";
            (told_by_policy(self.policy(), local(&proxy.node), asked).await?, why.to_owned())
        } else {
            (told, String::new())
        };
        let (explanation, sidecar) = (Some(explanation), Some(proxy.node));
        Ok(ExplainResponse { explanation, sidecar, by_policy, ..ExplainResponse::default() })
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
            let remedy =
                near.map_or_else(|| sender::listed(&known), |near| format!("did you mean `{near}`?"));
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

impl Asked {
    fn read(request: DescribedRequest, region: &str) -> Result<Self, Status> {
        if request.encoded_len() > LARGEST {
            let size = request.encoded_len().to_string();
            let problem = format!("more than {LARGEST} bytes; leave out what nothing in the policy asks for");
            return Err(error::field("request", &size, &problem));
        }
        let described = Described::read(&request).map_err(|problems| error::described(&problems))?;
        Ok(Self { request, described, region: region.to_owned() })
    }
}

/// Why policy alone tells it.
fn reason(sender: &Sender, runs: &Runs, unheard: &[Unheard], local: &Local) -> String {
    let mut why = match (unheard, sender) {
        // Its sidecars may well be connected: what they say of themselves is no proof that they serve it.
        ([], Sender::Service(service)) if runs.is_nowhere() => {
            let label = service.label();
            format!("which sidecars serve {label} is not known: no EndpointSet of {label} has an endpoint")
        }
        ([], Sender::Service(service)) => format!(
            "no sidecar that would send it is connected: it would have the `identity` of an endpoint of {}, or be at \
             the address of one without",
            service.label()
        ),
        ([], Sender::Workload(_)) => "no sidecar that would send it is connected".to_owned(),
        _ => "no sidecar that would send it answers".to_owned(),
    };
    if local.region.is_empty() {
        why += "; where it runs is not known, so that no region is near: say its `region` (tramactl: `--region`)";
    }
    why
}

fn qualified(Service { namespace, name }: &Service) -> QualifiedName<'_> {
    QualifiedName { namespace, name }
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

fn is_unknown(told: &Explanation) -> bool {
    let outcome = told.outcome.clone().unwrap_or_default();
    outcome.result() == outcome::Result::Undecided && outcome.reason == "service_pending"
}

#[cfg(test)]
mod tests {
    use trama_proto::document::Document;

    use super::*;

    #[test]
    fn a_service_without_a_connected_sidecar_is_told_how_one_would_be_known() {
        let sender = Sender::Service(Service::new("shop", "orders"));
        let said = |text: &str, unheard: &[Unheard], region: &str| {
            let documents: Vec<_> =
                Document::parse("test", text).unwrap().into_iter().map(Arc::new).collect();
            reason(&sender, &sender.runs(&documents), unheard, &sender.local(region))
        };
        let set = |endpoints: &str| {
            format!(
                "kind: EndpointSet\nmetadata: {{ name: orders, namespace: shop }}\n\
                 spec: {{ service: orders, endpoints: [{endpoints}] }}\n"
            )
        };
        let nowhere = said("", &[], "");
        assert!(nowhere.contains("no EndpointSet of shop/orders has an endpoint"), "{nowhere}");
        assert!(nowhere.contains("`--region`"), "{nowhere}");
        let absent = said(&set("{ address: 10.0.0.1 }"), &[], "rio");
        assert!(
            absent.ends_with("of an endpoint of shop/orders, or be at the address of one without"),
            "{absent}"
        );
        let silent = said(&set("{ address: 10.0.0.1 }"), &[Unheard::default()], "rio");
        assert_eq!(silent, "no sidecar that would send it answers");
    }
}
