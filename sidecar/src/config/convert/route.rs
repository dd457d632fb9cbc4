//! Routes: the rules of each port of a service.

use std::{collections::HashMap, sync::Arc};

use trama_proto::{
    document::Document,
    policy::v1::{ParentRef, RouteMatch, RouteSpec},
};

use super::{
    cluster::Clusters,
    findings::{Claims, Findings, quoted},
    index::Index,
    matches::{self, Condition, Key},
    rule::{Compiler, Context},
    service::Services,
};
use crate::config::snapshot::{AppProtocol, Cluster, PathMatch, RouteTable};

/// The table of each service's port.
pub(super) type Tables = HashMap<(Arc<str>, u16), RouteTable>;

/// A parent's port, a host and a condition: what only one route may claim.
type Claimed = (Arc<str>, u16, String, Key);

/// Builds the tables. Two routes whose conditions are the same are refused: no rule of precedence decides between
/// them. Within one route the first rule wins (Gateway API, HTTPRouteRule `matches`).
pub(super) fn build<'d>(
    index: &Index<'d>,
    services: &Services<'d>,
    clusters: &Clusters<'d>,
    findings: &mut Findings,
) -> Tables {
    let mut builder = Builder { services, clusters, tables: Tables::new(), claims: Claims::default() };
    for &(document, spec) in &index.routes {
        builder.route(document, spec, findings);
    }
    builder.tables
}

struct Builder<'a, 'd> {
    services: &'a Services<'d>,
    clusters: &'a Clusters<'d>,
    tables: Tables,
    claims: Claims<'d, Claimed>,
}

impl<'d> Builder<'_, 'd> {
    fn route(&mut self, document: &'d Document, spec: &RouteSpec, findings: &mut Findings) {
        let parents = self.parents(document, &spec.parent_refs, findings);
        for (at, rule) in spec.rules.iter().enumerate() {
            let matched = conditions(document, at, &rule.matches, findings);
            let label = if rule.name.is_empty() { at.to_string() } else { rule.name.clone() };
            if !rule.name.is_empty() && spec.rules[..at].iter().any(|other| other.name == rule.name) {
                let field = format!("spec.rules[{at}].name");
                findings.add(
                    document,
                    &field,
                    quoted(&rule.name),
                    "used twice",
                    "give each rule its own name",
                );
            }
            let compiler = Compiler {
                document,
                message: rule,
                field: format!("spec.rules[{at}]"),
                name: format!("{}/{}/{label}", document.id.namespace, document.id.name).into(),
                services: self.services,
                clusters: self.clusters,
            };
            if parents.is_empty() {
                compiler.compile(&Context { cluster: None, prefix: Some("") }, findings);
            }
            for parent in &parents {
                self.insert(&compiler, parent, &spec.hostnames, &matched, findings);
            }
        }
    }

    fn insert(
        &mut self,
        compiler: &Compiler<'_, 'd>,
        parent: &Arc<Cluster>,
        hostnames: &[String],
        matched: &[(String, Condition)],
        findings: &mut Findings,
    ) {
        let mut compiled = HashMap::new();
        for (field, Condition { condition, key }) in matched {
            let prefix = match &condition.path {
                PathMatch::Prefix(prefix) if compiler.replaces_prefix() => Some(&**prefix),
                _ => None,
            };
            let context = Context { cluster: Some(parent), prefix };
            let rule = compiled.entry(prefix).or_insert_with(|| compiler.compile(&context, findings));
            let hosts = hostnames.iter().map(|host| Some(host.as_str()));
            let any = hostnames.is_empty().then_some(None);
            for host in hosts.chain(any) {
                let port = (Arc::clone(&parent.service.label), parent.port);
                let claimed = (Arc::clone(&port.0), port.1, host.unwrap_or_default().to_owned(), key.clone());
                match self.claims.claim(claimed, compiler.document, field) {
                    Some(claim) if claim.first.id != compiler.document.id => {
                        let problem = format!("matches the same requests as {claim}");
                        let remedy = "join the two routes, or let one match more narrowly";
                        findings.add(compiler.document, field, "", problem, remedy);
                    }
                    // Never reached: an earlier rule of this route takes every request.
                    Some(_) => {}
                    None => {
                        let table = self.tables.entry(port).or_default();
                        table.insert(host, condition.clone(), Arc::clone(rule));
                    }
                }
            }
        }
    }

    /// The parent ports of a route.
    fn parents(
        &self,
        document: &'d Document,
        refs: &[ParentRef],
        findings: &mut Findings,
    ) -> Vec<Arc<Cluster>> {
        let mut parents: Vec<Arc<Cluster>> = Vec::new();
        for (at, parent) in refs.iter().enumerate() {
            let field = |name: &str| format!("spec.parentRefs[{at}].{name}");
            let named = self.services.named(
                document,
                &field("service"),
                &parent.namespace,
                &parent.service,
                findings,
            );
            let Some(service) = named else { continue };
            let wanted = |port: u16| parent.port.is_none_or(|wanted| wanted == u32::from(port));
            let ports: Vec<_> = service.ports.iter().filter(|port| wanted(port.port)).collect();
            if ports.is_empty() {
                let known: Vec<_> = service.ports.iter().map(|port| port.port.to_string()).collect();
                let problem = format!("no port of service `{}`", service.name);
                let value = parent.port.unwrap_or_default().to_string();
                let remedy = format!("name one of: {}", known.join(", "));
                findings.add(document, &field("port"), value, problem, remedy);
            } else if ports.iter().all(|port| port.protocol == AppProtocol::Tcp) {
                let remedy = "a route needs a port with HTTP; change its `appProtocol` or remove the parent";
                let value = quoted(&parent.service);
                findings.add(document, &field("service"), value, "opaque TCP, which has no requests", remedy);
            }
            let http = ports.iter().filter(|port| port.protocol != AppProtocol::Tcp);
            for cluster in http.filter_map(|port| self.clusters.of(&service.name, port.port)) {
                if parents.iter().any(|other| Arc::ptr_eq(other, cluster)) {
                    let value = quoted(&parent.service);
                    findings.add(document, &field("service"), value, "named twice", "name each parent once");
                }
                parents.push(Arc::clone(cluster));
            }
        }
        parents
    }
}

/// The conditions of a rule and their places. A rule without matches takes every request.
fn conditions(
    document: &Document,
    at: usize,
    messages: &[RouteMatch],
    findings: &mut Findings,
) -> Vec<(String, Condition)> {
    let any = [RouteMatch::default()];
    let messages = if messages.is_empty() { &any[..] } else { messages };
    let read = messages.iter().enumerate().filter_map(|(place, message)| {
        let field = format!("spec.rules[{at}].matches[{place}]");
        matches::read(document, &field, message, findings).map(|condition| (field, condition))
    });
    read.collect()
}
