//! The chains of filters that policy puts before a service.

use std::{collections::HashMap, sync::Arc};

use trama_proto::{
    document::Document,
    policy::v1::{
        PluginChainSpec, SourceRanges as SourceRangesMessage, chain_filter, plugin_chain_spec::Direction,
    },
};

use super::{
    Extent,
    findings::{Claims, Findings, quoted},
    headers,
    index::Index,
    service::Services,
};
use crate::config::snapshot::{Cidr, FilterChain, FilterSpec, ServiceName, SourceRanges};

/// The chains by service and direction.
#[derive(Default)]
pub(super) struct Chains(HashMap<(Arc<str>, Direction), Arc<FilterChain>>);

impl Chains {
    /// The chain of a service.
    pub(super) fn of(&self, service: &ServiceName, direction: Direction) -> Option<Arc<FilterChain>> {
        self.by_label(&service.label, direction)
    }

    /// The chain of a service by its label.
    pub(super) fn by_label(&self, label: &Arc<str>, direction: Direction) -> Option<Arc<FilterChain>> {
        self.0.get(&(Arc::clone(label), direction)).map(Arc::clone)
    }

    /// All inbound chains.
    pub(super) fn inbound(&self) -> impl Iterator<Item = (Arc<str>, Arc<FilterChain>)> {
        let inbound = self.0.iter().filter(|((_, direction), _)| *direction == Direction::Inbound);
        inbound.map(|((label, _), chain)| (Arc::clone(label), Arc::clone(chain)))
    }
}

/// Reads every chain. Two for one service and direction are refused: nothing would say which comes first.
pub(super) fn read(
    index: &Index<'_>,
    services: &Services<'_>,
    extent: Extent<'_>,
    findings: &mut Findings,
) -> Chains {
    let mut chains = Chains::default();
    let mut claims = Claims::default();
    for &(document, spec) in &index.chains {
        let filters = filters(document, spec, findings);
        if spec.service.is_empty() {
            let problem = "left out, and this version lets no route name a chain";
            findings.add(
                document,
                "spec.service",
                "",
                problem,
                "name the service whose requests pass the chain",
            );
            continue;
        }
        let Some(service) = services.named(document, "spec.service", "", &spec.service, findings) else {
            continue;
        };
        let key = (Arc::clone(&service.name.label), spec.direction());
        if let Some(claim) = claims.claim(key.clone(), document, "spec.service") {
            let problem = format!("has its {} chain from {claim}", spec.direction().as_str_name());
            findings.add(document, "spec.service", quoted(&spec.service), problem, "join the two chains");
        }
        chains.0.insert(key, Arc::new(FilterChain(filters)));
    }
    for service in extent.part().into_iter().flat_map(|part| &part.shut) {
        chains.0.insert((Arc::clone(service), Direction::Inbound), Arc::new(nobody()));
    }
    chains
}

/// A chain that lets nobody through.
fn nobody() -> FilterChain {
    let deny = vec![Cidr::EVERY_IPV4, Cidr::EVERY_IPV6];
    FilterChain(vec![FilterSpec::Sources(SourceRanges { allow: Vec::new(), deny })])
}

fn filters(document: &Document, spec: &PluginChainSpec, findings: &mut Findings) -> Vec<FilterSpec> {
    let mut filters = Vec::new();
    for (at, filter) in spec.filters.iter().enumerate() {
        let field = |name: &str| format!("spec.filters[{at}].{name}");
        match &filter.filter {
            Some(chain_filter::Filter::RequestHeaderModifier(it)) => {
                let changes = headers::modifier(document, &field("requestHeaderModifier"), it, findings);
                filters.push(FilterSpec::RequestHeaders(changes));
            }
            Some(chain_filter::Filter::ResponseHeaderModifier(it)) => {
                let changes = headers::modifier(document, &field("responseHeaderModifier"), it, findings);
                filters.push(FilterSpec::ResponseHeaders(changes));
            }
            Some(chain_filter::Filter::Sources(it)) => {
                filters.push(FilterSpec::Sources(sources(document, &field("sources"), it, findings)));
            }
            // The first is refused as unsupported, and the schema lets no filter be empty.
            Some(chain_filter::Filter::Plugin(_)) | None => {}
        }
    }
    filters
}

fn sources(
    document: &Document,
    field: &str,
    message: &SourceRangesMessage,
    findings: &mut Findings,
) -> SourceRanges {
    let mut read = |list: &str, texts: &[String]| {
        let ranges = texts.iter().enumerate().filter_map(|(at, text)| {
            let place = format!("{field}.{list}[{at}]");
            let what = "an IP address, or a range such as `10.0.0.0/8`";
            findings.parse::<Cidr>(document, &place, text, what)
        });
        ranges.collect()
    };
    let ranges = SourceRanges { allow: read("allow", &message.allow), deny: read("deny", &message.deny) };
    if message.allow.is_empty() && message.deny.is_empty() {
        findings.add(
            document,
            field,
            "",
            "without a range",
            "name some in `allow` or `deny`, or remove the filter",
        );
    }
    ranges
}
