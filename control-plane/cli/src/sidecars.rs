//! What the control plane knows of its sidecars, in the words in which it is shown.

use serde::Serialize;
use trama_proto::{
    admin::v1::SidecarStatus,
    discovery::v1::{HeldResource, Node, Refusal, ResourceName},
};

use crate::output::printable;

/// All of them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Known {
    /// Rises when the store begins afresh.
    pub(crate) epoch: u64,
    /// The last change.
    pub(crate) revision: u64,
    /// Those with a stream, in the order of their names.
    pub(crate) sidecars: Vec<Sidecar>,
}

/// A sidecar with a stream.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sidecar {
    /// Namespace and name.
    pub(crate) sidecar: String,
    pub(crate) identity: String,
    pub(crate) region: String,
    pub(crate) zone: String,
    /// Of its program.
    pub(crate) version: String,
    /// Since 1970.
    pub(crate) connected_at_millis: u64,
    /// The last revision of which it has everything that it needs and can use.
    pub(crate) acknowledged: u64,
    /// How long its last answer took.
    pub(crate) answered_in_micros: u64,
    /// Whether it has acknowledged the last change, refuses nothing and knows all of it.
    pub(crate) in_sync: bool,
    pub(crate) refusals: Vec<Refused>,
    pub(crate) not_understood: Vec<NotUnderstood>,
    /// The services that it asked for, `namespace/name`.
    pub(crate) services: Vec<String>,
}

/// What a sidecar could not use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refused {
    /// Namespace and name.
    pub(crate) sidecar: String,
    /// Such as `Route shop/orders`.
    pub(crate) resource: String,
    /// The version that is refused: the revision that wrote it.
    pub(crate) revision: u64,
    pub(crate) field: String,
    /// What is wrong and what would be right.
    pub(crate) problem: String,
}

/// What a sidecar of an earlier version does not know all of: the kind, or a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotUnderstood {
    /// Namespace and name.
    pub(crate) sidecar: String,
    /// Such as `Route shop/orders`.
    pub(crate) resource: String,
    /// The version: the revision that wrote it.
    pub(crate) revision: u64,
}

impl Sidecar {
    /// `revision` is the last change.
    pub(crate) fn of(status: SidecarStatus, revision: u64) -> Self {
        let Node { identity, name, namespace, region, zone, version, .. } = status.node.unwrap_or_default();
        let sidecar = format!("{namespace}/{name}");
        let refusals: Vec<_> =
            status.refusals.into_iter().map(|refusal| Refused::of(&sidecar, refusal)).collect();
        let not_understood = status.not_understood.into_iter();
        let not_understood: Vec<_> = not_understood.map(|held| NotUnderstood::of(&sidecar, held)).collect();
        Self {
            identity,
            region,
            zone,
            version,
            connected_at_millis: status.connected_at,
            acknowledged: status.acknowledged,
            answered_in_micros: status.acknowledged_in,
            in_sync: status.acknowledged >= revision && refusals.is_empty() && not_understood.is_empty(),
            refusals,
            not_understood,
            services: status.services.into_iter().map(|it| format!("{}/{}", it.namespace, it.name)).collect(),
            sidecar,
        }
    }

    /// In a word or two, seen from the last change.
    pub(crate) fn state(&self, revision: u64) -> String {
        let behind = (self.acknowledged < revision).then(|| "behind".to_owned());
        let refuses = (!self.refusals.is_empty()).then(|| format!("refuses {}", self.refusals.len()));
        let lacks = (!self.not_understood.is_empty())
            .then(|| format!("does not understand {}", self.not_understood.len()));
        let found: Vec<_> = behind.into_iter().chain(refuses).chain(lacks).collect();
        if found.is_empty() { "in sync".to_owned() } else { found.join(", ") }
    }
}

impl Refused {
    pub(crate) fn of(sidecar: &str, refusal: Refusal) -> Self {
        Self {
            sidecar: sidecar.to_owned(),
            resource: spelled(refusal.name),
            revision: refusal.version,
            field: refusal.path,
            problem: refusal.problem,
        }
    }

    /// As a line.
    pub(crate) fn line(&self) -> String {
        let Self { sidecar, resource, revision, field, problem } = self;
        let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
        printable(&format!("{sidecar} refuses {resource} (revision {revision}): {field}{problem}")) + "\n"
    }
}

impl NotUnderstood {
    fn of(sidecar: &str, held: HeldResource) -> Self {
        Self { sidecar: sidecar.to_owned(), resource: spelled(held.name), revision: held.version }
    }

    /// As a line.
    pub(crate) fn line(&self) -> String {
        let Self { sidecar, resource, revision } = self;
        let remedy = "its version is too old for it, what it does not know is not in force there; upgrade it";
        printable(&format!("{sidecar} does not understand all of {resource} (revision {revision}): {remedy}"))
            + "\n"
    }
}

pub(crate) fn spelled(name: Option<ResourceName>) -> String {
    let ResourceName { kind, namespace, name } = name.unwrap_or_default();
    format!("{kind} {namespace}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(acknowledged: u64, refusals: usize) -> SidecarStatus {
        let node = Node { name: "a-1".into(), namespace: "shop".into(), ..Node::default() };
        let name = ResourceName { kind: "Route".into(), namespace: "shop".into(), name: "orders".into() };
        let refusal = Refusal {
            name: Some(name),
            version: 6,
            path: "spec.rules[0]".into(),
            problem: "no\u{1b}[2J good; mend it".into(),
            hash: Vec::new(),
        };
        SidecarStatus {
            node: Some(node),
            acknowledged,
            refusals: vec![refusal; refusals],
            ..SidecarStatus::default()
        }
    }

    #[test]
    fn a_sidecar_is_in_sync_behind_or_refuses() {
        for (acknowledged, refusals, state) in [
            (7, 0, "in sync"),
            (8, 0, "in sync"),
            (6, 0, "behind"),
            (7, 1, "refuses 1"),
            (6, 2, "behind, refuses 2"),
        ] {
            let sidecar = Sidecar::of(status(acknowledged, refusals), 7);
            assert_eq!((sidecar.state(7).as_str(), sidecar.in_sync), (state, state == "in sync"));
        }
    }

    #[test]
    fn what_is_not_understood_counts_against_it_and_names_the_remedy() {
        let name = ResourceName { kind: "Route".into(), namespace: "shop".into(), name: "orders".into() };
        let held = HeldResource { name: Some(name), version: 6, hash: vec![7; 32] };
        let sidecar = Sidecar::of(SidecarStatus { not_understood: vec![held], ..status(7, 0) }, 7);
        assert_eq!((sidecar.state(7).as_str(), sidecar.in_sync), ("does not understand 1", false));
        let line = sidecar.not_understood[0].line();
        assert!(
            line.starts_with("shop/a-1 does not understand all of Route shop/orders (revision 6): "),
            "{line}"
        );
        assert!(line.ends_with("upgrade it\n"), "{line}");
    }

    #[test]
    fn a_refusal_names_who_what_where_and_why() {
        let sidecar = Sidecar::of(status(7, 1), 7);
        assert_eq!(
            sidecar.refusals[0].line(),
            "shop/a-1 refuses Route shop/orders (revision 6): spec.rules[0]: no\\u{1b}[2J good; mend it\n"
        );
    }
}
