//! What a rule does: filters, backends, time-outs, retries.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};
use trama_proto::{
    document::Document,
    duration,
    policy::v1::{
        PathModifier, RequestRedirect, RouteRule, UrlRewrite as UrlRewriteMessage, path_modifier,
        route_filter::Filter,
    },
};

use super::{
    cluster::Clusters,
    findings::{Findings, quoted},
    headers,
    service::Services,
};
use crate::config::snapshot::{
    Backend, Cluster, FilterChain, FilterSpec, PathRewrite, Redirect, RetryPolicy, Rule, RuleAction,
    RuleTimeouts, UrlRewrite,
};

/// Compiles one rule for one parent port, and for one matched prefix where a filter replaces it.
pub(super) struct Compiler<'a, 'd> {
    pub(super) document: &'d Document,
    pub(super) message: &'a RouteRule,
    /// The rule's place.
    pub(super) field: String,
    /// `namespace/route/rule`.
    pub(super) name: Arc<str>,
    pub(super) services: &'a Services<'d>,
    pub(super) clusters: &'a Clusters<'d>,
}

/// A parent's port and what a match found.
pub(super) struct Context<'a> {
    /// Who serves the parent's port. `None`: the parent is wrong, and the rule is only checked.
    pub(super) cluster: Option<&'a Arc<Cluster>>,
    /// The prefix that matched, if it was one.
    pub(super) prefix: Option<&'a str>,
}

impl Compiler<'_, '_> {
    /// Whether the rule depends on the prefix that matched.
    pub(super) fn replaces_prefix(&self) -> bool {
        self.message.filters.iter().any(|filter| {
            let path = match &filter.filter {
                Some(Filter::UrlRewrite(it)) => it.path.as_ref(),
                Some(Filter::RequestRedirect(it)) => it.path.as_ref(),
                _ => None,
            };
            matches!(path, Some(PathModifier { path: Some(path_modifier::Path::ReplacePrefixMatch(_)) }))
        })
    }

    /// The rule, or what is wrong with it.
    pub(super) fn compile(&self, context: &Context<'_>, findings: &mut Findings) -> Arc<Rule> {
        let mut filters = Vec::new();
        let mut redirect = None;
        let mut rewrite = None;
        let mut rewrites = 0;
        for (at, filter) in self.message.filters.iter().enumerate() {
            let field = format!("{}.filters[{at}]", self.field);
            match &filter.filter {
                Some(Filter::RequestHeaderModifier(it)) => {
                    let field = format!("{field}.requestHeaderModifier");
                    filters.push(FilterSpec::RequestHeaders(headers::modifier(
                        self.document,
                        &field,
                        it,
                        findings,
                    )));
                }
                Some(Filter::ResponseHeaderModifier(it)) => {
                    let field = format!("{field}.responseHeaderModifier");
                    filters.push(FilterSpec::ResponseHeaders(headers::modifier(
                        self.document,
                        &field,
                        it,
                        findings,
                    )));
                }
                Some(Filter::UrlRewrite(it)) => {
                    rewrites += 1;
                    rewrite = Some(self.rewrite(&field, it, context, findings));
                }
                Some(Filter::RequestRedirect(it)) => {
                    if redirect.is_some() {
                        findings.add(self.document, &field, "", "a second redirect", "keep one");
                    }
                    redirect = Some(self.redirect(&field, it, context, findings));
                }
                // The first is refused as unsupported, and the schema lets no filter be empty.
                Some(Filter::PluginChain(_)) | None => {}
            }
        }
        if rewrites > 1 {
            let field = format!("{}.filters", self.field);
            findings.add(self.document, &field, "", "several urlRewrite filters", "join them into one");
        }
        let action = match redirect {
            Some(redirect) => self.only_redirect(redirect, rewrites, findings),
            None => RuleAction::Forward(self.backends(context, findings)),
        };
        Arc::new(Rule {
            name: Arc::clone(&self.name),
            rewrite,
            filters: (!filters.is_empty()).then(|| Arc::new(FilterChain(filters))),
            action,
            timeouts: self.timeouts(findings),
            retry: self.retry(findings),
        })
    }

    fn only_redirect(&self, redirect: Redirect, rewrites: usize, findings: &mut Findings) -> RuleAction {
        let remedy = "a redirect answers at once: remove it or what comes with it";
        if !self.message.backend_refs.is_empty() {
            findings.add(self.document, &self.at("backendRefs"), "", "backends beside a redirect", remedy);
        }
        if rewrites > 0 {
            findings.add(self.document, &self.at("filters"), "", "urlRewrite beside a redirect", remedy);
        }
        RuleAction::Redirect(redirect)
    }

    fn backends(&self, context: &Context<'_>, findings: &mut Findings) -> Vec<Backend> {
        if self.message.backend_refs.is_empty() {
            let own = context.cluster.map(|cluster| Backend { weight: 1, cluster: Arc::clone(cluster) });
            return own.into_iter().collect();
        }
        let mut backends = Vec::new();
        for (at, backend) in self.message.backend_refs.iter().enumerate() {
            let field = |name: &str| self.at(&format!("backendRefs[{at}].{name}"));
            let named = self.services.named(
                self.document,
                &field("service"),
                &backend.namespace,
                &backend.service,
                findings,
            );
            let Some(service) = named else { continue };
            let port = match (backend.port, service.ports.as_slice(), context.cluster) {
                (Some(port), ..) => port,
                (None, [only], _) => only.port.into(),
                (None, _, Some(parent)) => parent.port.into(),
                (None, _, None) => continue,
            };
            let cluster = u16::try_from(port).ok().and_then(|port| self.clusters.of(&service.name, port));
            match cluster {
                Some(cluster) => {
                    let weight = backend.weight.unwrap_or(1);
                    backends.push(Backend { weight, cluster: Arc::clone(cluster) });
                }
                None => {
                    let problem = format!("no port of service `{}`", service.name);
                    let known: Vec<_> = service.ports.iter().map(|port| port.port.to_string()).collect();
                    let remedy = format!("name one of: {}", known.join(", "));
                    findings.add(self.document, &field("port"), port.to_string(), problem, remedy);
                }
            }
        }
        if self.message.backend_refs.iter().all(|backend| backend.weight == Some(0)) {
            let remedy = "give one of them a weight";
            findings.add(self.document, &self.at("backendRefs"), "", "every weight is 0", remedy);
        }
        backends
    }

    fn timeouts(&self, findings: &mut Findings) -> RuleTimeouts {
        let length =
            |message: Option<&_>| message.map(duration::of).filter(|length| *length > Duration::ZERO);
        let (message, retry) = (self.message.timeouts.as_ref(), self.message.retry.as_ref());
        let request = length(message.and_then(|timeouts| timeouts.request.as_ref()));
        let of_rule = length(message.and_then(|timeouts| timeouts.backend_request.as_ref()));
        let of_retry = length(retry.and_then(|retry| retry.per_try_timeout.as_ref()));
        let backend_request = of_retry.or(of_rule);
        if let (Some(whole), Some(one)) = (request, backend_request)
            && one > whole
        {
            let name = if of_retry.is_some() { "retry.perTryTimeout" } else { "timeouts.backendRequest" };
            let problem = format!("longer than `timeouts.request` ({})", duration::format(whole));
            let value = quoted(&duration::format(one));
            findings.add(self.document, &self.at(name), value, problem, "shorten it");
        }
        RuleTimeouts { request, backend_request }
    }

    fn retry(&self, findings: &mut Findings) -> RetryPolicy {
        let default = RetryPolicy::default();
        let Some(message) = &self.message.retry else { return default };
        let mut codes = Vec::new();
        for (at, code) in message.codes.iter().enumerate() {
            let status = u16::try_from(*code).ok().and_then(|code| StatusCode::from_u16(code).ok());
            match status.filter(|status| status.is_client_error() || status.is_server_error()) {
                Some(status) => codes.push(status),
                None => {
                    let field = self.at(&format!("retry.codes[{at}]"));
                    let remedy = "write a status from 400 to 599";
                    findings.add(self.document, &field, code.to_string(), "no status of a failure", remedy);
                }
            }
        }
        RetryPolicy {
            attempts: message.attempts.unwrap_or(default.attempts),
            codes,
            backoff: message.backoff.as_ref().map_or(default.backoff, duration::of),
        }
    }

    fn rewrite(
        &self,
        field: &str,
        message: &UrlRewriteMessage,
        context: &Context<'_>,
        findings: &mut Findings,
    ) -> UrlRewrite {
        let field = format!("{field}.urlRewrite");
        let host = (!message.hostname.is_empty()).then(|| HeaderValue::from_str(&message.hostname).ok());
        UrlRewrite { host: host.flatten(), path: self.path(&field, message.path.as_ref(), context, findings) }
    }

    fn redirect(
        &self,
        field: &str,
        message: &RequestRedirect,
        context: &Context<'_>,
        findings: &mut Findings,
    ) -> Redirect {
        let field = format!("{field}.requestRedirect");
        if !["", "http", "https"].contains(&message.scheme.as_str()) {
            let value = quoted(&message.scheme);
            let place = format!("{field}.scheme");
            findings.add(self.document, &place, value, "not an HTTP scheme", "write `http` or `https`");
        }
        let code = message.status_code.unwrap_or(302);
        let status = u16::try_from(code).ok().filter(|code| [301, 302, 303, 307, 308].contains(code));
        if status.is_none() {
            let remedy = "write 301, 302, 303, 307 or 308";
            let place = format!("{field}.statusCode");
            findings.add(self.document, &place, code.to_string(), "not a redirect's status", remedy);
        }
        let text = |text: &str| (!text.is_empty()).then(|| text.into());
        let port = message.port.and_then(|port| findings.port(self.document, &format!("{field}.port"), port));
        Redirect {
            status: status.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::FOUND),
            scheme: text(&message.scheme),
            host: text(&message.hostname),
            port,
            path: self.path(&field, message.path.as_ref(), context, findings),
        }
    }

    fn path(
        &self,
        field: &str,
        message: Option<&PathModifier>,
        context: &Context<'_>,
        findings: &mut Findings,
    ) -> Option<PathRewrite> {
        match message?.path.as_ref()? {
            path_modifier::Path::ReplaceFullPath(path) => Some(PathRewrite::Full(path.as_str().into())),
            path_modifier::Path::ReplacePrefixMatch(path) => {
                let Some(prefix) = context.prefix else {
                    let place = format!("{field}.path.replacePrefixMatch");
                    let remedy = "match by PATH_PREFIX only, or use `replaceFullPath`";
                    findings.add(
                        self.document,
                        &place,
                        quoted(path),
                        "a match of the rule is no prefix",
                        remedy,
                    );
                    return None;
                };
                let replacement = path.trim_end_matches('/').into();
                Some(PathRewrite::Prefix { matched: prefix.into(), replacement })
            }
        }
    }

    fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.field)
    }
}
