//! The sidecars themselves: what they are asked on their streams.

use std::{collections::BTreeMap, time::Duration};

use tonic::Status;
use trama_proto::{
    QualifiedName,
    admin::v1::{ProxyConfigRequest, ProxyConfigResponse, ProxyDrainRequest, ProxyDrainResponse},
    discovery::v1::{
        ConfigurationQuestion, DrainQuestion, Node,
        ask::{Kind, Question},
        draining::What,
        told::Answer,
    },
};

use super::{Shared, error};
use crate::stream::{self, Asks, PATIENCE, Seat, Unanswered};

/// What stands between a sidecar's name and its identity, where the name alone does not tell which one is meant.
const OF: char = '@';

/// A sidecar that can be asked.
pub(super) struct Proxy {
    pub(super) node: Node,
    answers: Vec<Kind>,
    asks: Asks,
}

impl Proxy {
    /// `namespace/name`.
    pub(super) fn name(&self) -> String {
        name(&self.node).to_string()
    }

    /// Whether it says that it answers such questions.
    pub(super) fn answers(&self, kind: Kind) -> bool {
        self.answers.contains(&kind)
    }
}

impl Shared {
    /// The sidecars with a stream that are right, in the order of their names. Of several streams of one identity and name,
    /// which one that comes back may have for a while, the latest counts. Another identity is another sidecar, whatever it
    /// calls itself.
    pub(super) fn proxies(&self, right: impl Fn(&Seat) -> bool) -> Vec<Proxy> {
        let found = self.seats.look(|seat| {
            right(seat).then(|| Proxy {
                node: seat.node.clone(),
                answers: seat.answers.clone(),
                asks: seat.asks.clone(),
            })
        });
        let by_name = found.into_iter().map(|proxy| {
            let Node { namespace, name, identity, .. } = proxy.node.clone();
            ((namespace, name, identity), proxy)
        });
        // The latest of one key is the last.
        by_name.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// The sidecar of this name.
    pub(super) fn proxy(&self, wanted: &str) -> Result<Proxy, Status> {
        let (label, identity) = wanted.split_once(OF).unwrap_or((wanted, ""));
        let label = QualifiedName::parse(label).map_err(|remedy| error::field("sidecar", wanted, remedy))?;
        let is_meant =
            |node: &Node| name(node) == label && (identity.is_empty() || node.identity == identity);
        let mut found = self.proxies(|seat| is_meant(&seat.node));
        if found.len() > 1 {
            // One of them is not who the asker thinks it is, and nothing here says which.
            let candidates = found.iter().map(|proxy| format!("{label}{OF}{}", proxy.node.identity));
            return Err(error::ambiguous_sidecar(label, &candidates.collect::<Vec<_>>()));
        }
        found.pop().ok_or_else(|| {
            let known = self.proxies(|_| true);
            error::no_sidecar(label, label.near(known.iter().map(|proxy| name(&proxy.node))))
        })
    }

    /// What a sidecar answers while there is patience.
    pub(super) async fn asked(
        &self,
        proxy: &Proxy,
        question: Question,
        patience: Duration,
    ) -> Result<Answer, Unanswered> {
        let kind = stream::kind(&question);
        let answer = match proxy.answers(kind) {
            true => proxy.asks.ask(question, patience).await,
            false => Err(Unanswered::Unable),
        };
        self.metrics.asked(word(kind), answer.as_ref().map_or_else(Unanswered::name, |_| "ok"));
        answer.inspect_err(|why| {
            tracing::warn!(sidecar = proxy.name(), question = word(kind), "asked in vain: {why}");
        })
    }

    pub(super) async fn proxy_config(
        &self,
        ProxyConfigRequest { sidecar, service }: ProxyConfigRequest,
    ) -> Result<ProxyConfigResponse, Status> {
        if !service.is_empty() {
            QualifiedName::parse(&service).map_err(|remedy| error::field("service", &service, remedy))?;
        }
        let proxy = self.proxy(&sidecar)?;
        let question = Question::Configuration(ConfigurationQuestion { service });
        match self.asked(&proxy, question, PATIENCE).await {
            Ok(Answer::Configuration(configuration)) => {
                Ok(ProxyConfigResponse { sidecar: Some(proxy.node), configuration: Some(configuration) })
            }
            other => Err(vain(&proxy, other)),
        }
    }

    pub(super) async fn proxy_drain(
        &self,
        ProxyDrainRequest { sidecar, what }: ProxyDrainRequest,
    ) -> Result<ProxyDrainResponse, Status> {
        let what = match What::try_from(what) {
            // Everything is the end of the process: nobody gets that by leaving something out.
            Ok(What::Unspecified) | Err(_) => {
                return Err(error::field("what", &what.to_string(), "say INBOUND or ALL"));
            }
            Ok(what) => what,
        };
        let proxy = self.proxy(&sidecar)?;
        tracing::info!(sidecar, ?what, "an admin has a sidecar drain");
        let question = Question::Drain(DrainQuestion { what: what.into() });
        match self.asked(&proxy, question, PATIENCE).await {
            Ok(Answer::Draining(draining)) => {
                Ok(ProxyDrainResponse { sidecar: Some(proxy.node), draining: Some(draining) })
            }
            other => Err(vain(&proxy, other)),
        }
    }
}

fn name(node: &Node) -> QualifiedName<'_> {
    QualifiedName { namespace: &node.namespace, name: &node.name }
}

/// The refusal where a sidecar has said nothing, or what was not asked.
fn vain(proxy: &Proxy, answer: Result<Answer, Unanswered>) -> Status {
    error::unanswered(&proxy.name(), "", &answer.err().unwrap_or(Unanswered::Foreign))
}

/// A question's name, for the count.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "other",
        Kind::Explain => "explain",
        Kind::Configuration => "configuration",
        Kind::Drain => "drain",
    }
}
