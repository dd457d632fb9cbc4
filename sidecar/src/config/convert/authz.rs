//! Who may call a service.

use std::{collections::HashMap, sync::Arc};

use http::Method;
use trama_proto::{
    document::Document,
    policy::v1::{
        AuthzPolicySpec, AuthzRule as Message,
        authz_policy_spec::{Action, Enforcement},
    },
    spiffe::SpiffeId,
};

use super::{
    findings::{Findings, quoted},
    index::Index,
    service::{Service, Services},
};
use crate::config::snapshot::{Authorization, AuthzAction, AuthzPolicy, AuthzRule, TextPattern};

/// The policies by service.
#[derive(Default)]
pub(super) struct Authorizations(HashMap<Arc<str>, Arc<Authorization>, foldhash::fast::FixedState>);

impl Authorizations {
    /// Who may call a service, by its label.
    pub(super) fn by_label(&self, label: &Arc<str>) -> Option<Arc<Authorization>> {
        self.0.get(label).map(Arc::clone)
    }

    /// All of them.
    pub(super) fn into_inner(self) -> HashMap<Arc<str>, Arc<Authorization>, foldhash::fast::FixedState> {
        self.0
    }
}

/// What both of two services' callers have to pass: the policies of both.
pub(super) fn both(
    first: Option<Arc<Authorization>>,
    second: Option<Arc<Authorization>>,
) -> Option<Arc<Authorization>> {
    match (first, second) {
        (Some(first), Some(second)) => {
            let more =
                second.0.iter().filter(|policy| !first.0.iter().any(|known| Arc::ptr_eq(known, policy)));
            Some(Arc::new(Authorization(first.0.iter().chain(more).cloned().collect())))
        }
        (first, second) => first.or(second),
    }
}

/// Reads every policy, and gives each service those that name it or its whole namespace.
pub(super) fn read(index: &Index<'_>, services: &Services<'_>, findings: &mut Findings) -> Authorizations {
    let trust_domain = index.mesh.map_or("", |(_, mesh)| mesh.trust_domain.as_str());
    let mut by_service: HashMap<Arc<str>, Vec<Arc<AuthzPolicy>>> = HashMap::new();
    for &(document, spec) in &index.authz {
        let whose: Vec<&Service<'_>> = if spec.service.is_empty() {
            services.iter().filter(|service| *service.name.namespace == *document.id.namespace).collect()
        } else {
            services.named(document, "spec.service", "", &spec.service, findings).into_iter().collect()
        };
        let mut reader = Reader { document, trust_domain, findings };
        let policy = Arc::new(reader.policy(spec));
        for service in whose {
            if !spec.service.is_empty() {
                reader.ports(spec, service);
            }
            by_service.entry(Arc::clone(&service.name.label)).or_default().push(Arc::clone(&policy));
        }
    }
    let of = |(label, policies)| (label, Arc::new(Authorization(policies)));
    Authorizations(by_service.into_iter().map(of).collect())
}

struct Reader<'d, 'f> {
    document: &'d Document,
    trust_domain: &'d str,
    findings: &'f mut Findings,
}

impl Reader<'_, '_> {
    fn policy(&mut self, spec: &AuthzPolicySpec) -> AuthzPolicy {
        let id = &self.document.id;
        AuthzPolicy {
            name: format!("{}/{}", id.namespace, id.name).into(),
            action: if spec.action() == Action::Deny { AuthzAction::Deny } else { AuthzAction::Allow },
            enforced: spec.enforcement() == Enforcement::Enforce,
            rules: spec.rules.iter().enumerate().map(|(at, rule)| self.rule(at, rule)).collect(),
        }
    }

    fn rule(&mut self, at: usize, rule: &Message) -> AuthzRule {
        for (place, identity) in rule.identities.iter().enumerate() {
            self.identity(&format!("spec.rules[{at}].identities[{place}]"), identity);
        }
        for (place, path) in rule.paths.iter().enumerate() {
            self.one_star(&format!("spec.rules[{at}].paths[{place}]"), path);
        }
        // The schema has seen to it that these are methods and ports.
        AuthzRule {
            identities: rule.identities.iter().map(|identity| TextPattern::new(identity)).collect(),
            methods: rule
                .methods
                .iter()
                .filter_map(|method| Method::from_bytes(method.as_bytes()).ok())
                .collect(),
            paths: rule.paths.iter().map(|path| TextPattern::new(path)).collect(),
            ports: rule.ports.iter().filter_map(|port| u16::try_from(*port).ok()).collect(),
        }
    }

    /// An id that nobody can have would be a rule that never matches: a DENY that does not, or an ALLOW that locks out.
    fn identity(&mut self, field: &str, text: &str) {
        let words = "a SPIFFE id such as `spiffe://trama.local/ns/shop/sa/orders`, or its beginning and `*`";
        let wrong = match text.strip_suffix('*') {
            Some(prefix) if prefix.contains('*') => Some("only the last letter may be `*`"),
            Some("") => None,
            Some(prefix) if prefix.starts_with("spiffe://") => None,
            Some(_) => Some("a SPIFFE id begins with spiffe://"),
            None => SpiffeId::parse(text).err(),
        };
        if let Some(wrong) = wrong {
            return self.findings.add(self.document, field, quoted(text), wrong, format!("write {words}"));
        }
        let rest = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
        if let Some((domain, _)) = rest
            && !self.trust_domain.is_empty()
            && domain != self.trust_domain
        {
            let problem = format!(
                "of another trust domain than the mesh's, `{}`: nobody of it can call",
                self.trust_domain
            );
            let remedy = format!("write `spiffe://{}/...`", self.trust_domain);
            self.findings.add(self.document, field, quoted(text), problem, remedy);
        }
    }

    fn one_star(&mut self, field: &str, text: &str) {
        if text.strip_suffix('*').unwrap_or(text).contains('*') {
            let problem = "only the last letter may be `*`";
            self.findings.add(
                self.document,
                field,
                quoted(text),
                problem,
                "name one path, or a beginning and `*`",
            );
        }
    }

    /// A port that the application does not have is a slip: mostly the service's own port, where it has another one.
    fn ports(&mut self, spec: &AuthzPolicySpec, service: &Service<'_>) {
        for (at, rule) in spec.rules.iter().enumerate() {
            for (place, port) in rule.ports.iter().enumerate() {
                if service.ports.iter().any(|it| u32::from(it.target) == *port) {
                    continue;
                }
                let targets: Vec<_> = service.ports.iter().map(|it| it.target.to_string()).collect();
                let problem = format!("no port that the application of {} listens on", service.name);
                let remedy = format!("write the service port's `targetPort`, one of: {}", targets.join(", "));
                let field = format!("spec.rules[{at}].ports[{place}]");
                self.findings.add(self.document, &field, port.to_string(), problem, remedy);
            }
        }
    }
}
