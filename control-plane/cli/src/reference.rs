//! How resources are named on the command line: `Route orders`, `routes shop/orders`.

use std::ffi::OsStr;

use clap::{
    Arg, Command, Error,
    builder::{PossibleValue, TypedValueParser},
    error::ErrorKind,
};
use trama_proto::{
    QualifiedName, did_you_mean,
    document::{KINDS, ResourceId},
};

use crate::failure::Failure;

/// What stands for every kind.
const ALL: &str = "all";

/// Which kinds are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// Every kind.
    All,
    /// One of [`KINDS`].
    One(&'static str),
}

impl Kinds {
    /// As the Admin API wants it: an empty text for every kind.
    pub(crate) fn filter(self) -> &'static str {
        match self {
            Self::All => "",
            Self::One(kind) => kind,
        }
    }
}

/// Reads one kind.
#[derive(Clone)]
pub(crate) struct OneKind;

/// Reads one kind or `all`.
#[derive(Clone)]
pub(crate) struct AnyKinds;

impl TypedValueParser for OneKind {
    type Value = &'static str;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<&'static str, Error> {
        kind(&value.to_string_lossy())
            .map_err(|problem| Error::raw(ErrorKind::InvalidValue, problem + "\n").with_cmd(command))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(KINDS.iter().copied().map(PossibleValue::new)))
    }
}

impl TypedValueParser for AnyKinds {
    type Value = Kinds;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<Kinds, Error> {
        if value == ALL {
            return Ok(Kinds::All);
        }
        OneKind.parse_ref(command, argument, value).map(Kinds::One)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new([ALL].into_iter().chain(KINDS.iter().copied()).map(PossibleValue::new)))
    }
}

/// A kind as people write it: `Route`, `route`, `routes`, `regional-policies`.
fn kind(text: &str) -> Result<&'static str, String> {
    let bare = text.to_lowercase().replace(['-', '_'], "");
    let found = KINDS.iter().copied().find(|kind| {
        let kind = kind.to_lowercase();
        bare == plural(&kind) || bare == kind
    });
    found.ok_or_else(|| {
        let near = did_you_mean(&bare, KINDS.iter().copied());
        let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        format!("there is no kind `{text}`; {near}Known: {}", KINDS.join(", "))
    })
}

fn plural(kind: &str) -> String {
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with('s') => kind.to_owned(),
        None => format!("{kind}s"),
    }
}

/// A resource by `NAME` or `NAMESPACE/NAME`.
pub(crate) fn resource(
    kind: &'static str,
    namespace: Option<&str>,
    text: &str,
) -> Result<ResourceId, Failure> {
    let (within, name) = match QualifiedName::parse(text) {
        Ok(QualifiedName { namespace, name }) => (Some(namespace), name),
        Err(_) if text.is_empty() || text.contains('/') => {
            return Err(Failure::Usage(format!("{kind}: `{text}` is no name; write NAME or NAMESPACE/NAME")));
        }
        Err(_) => (None, text),
    };
    if let (Some(within), Some(namespace)) = (within, namespace)
        && within != namespace
    {
        let problem =
            format!("`{text}` is in namespace `{within}`, and --namespace says `{namespace}`; leave one out");
        return Err(Failure::Usage(problem));
    }
    let namespace = within.or(namespace).unwrap_or("default");
    if namespace.is_empty() {
        return Err(Failure::Usage("--namespace: `` is no name; write one, or leave it out".to_owned()));
    }
    Ok(ResourceId { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

/// `namespace/name` of what is no resource of a kind, or is named by its service.
pub(crate) fn label(what: &'static str, namespace: Option<&str>, text: &str) -> Result<String, Failure> {
    resource(what, namespace, text).map(|id| format!("{}/{}", id.namespace, id.name))
}

/// `namespace/name` of a sidecar, with the identity behind an `@` if there is one: the control plane says when it is needed.
pub(crate) fn sidecar(namespace: Option<&str>, text: &str) -> Result<String, Failure> {
    let (name, identity) = match text.split_once('@') {
        Some((name, identity)) => (name, format!("@{identity}")),
        None => (text, String::new()),
    };
    label("Sidecar", namespace, name).map(|label| label + &identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_however_people_write_them() {
        for (text, known) in [
            ("Route", "Route"),
            ("routes", "Route"),
            ("SERVICE", "Service"),
            ("regional-policies", "RegionalPolicy"),
            ("region_topology", "RegionTopology"),
            ("meshsettings", "MeshSettings"),
            ("telemetries", "Telemetry"),
        ] {
            assert_eq!(kind(text), Ok(known), "{text}");
        }
        let unknown = kind("rout").unwrap_err();
        assert!(
            unknown.starts_with("there is no kind `rout`; did you mean `Route`? Known: Service, "),
            "{unknown}"
        );
        assert!(kind("pods").unwrap_err().starts_with("there is no kind `pods`; Known: "));
    }

    #[test]
    fn a_name_may_carry_its_namespace() {
        let id = |namespace, text| resource("Route", namespace, text).map(|id| id.to_string());
        assert_eq!(id(None, "orders").unwrap(), "Route default/orders");
        assert_eq!(id(Some("shop"), "orders").unwrap(), "Route shop/orders");
        assert_eq!(id(None, "shop/orders").unwrap(), "Route shop/orders");
        assert_eq!(id(Some("shop"), "shop/orders").unwrap(), "Route shop/orders");
        assert!(id(Some("other"), "shop/orders").unwrap_err().to_string().contains("leave one out"));
        for bad in ["", "/", "shop/", "/orders", "a//b", "a/b/c"] {
            let Err(Failure::Usage(problem)) = id(None, bad) else { panic!("{bad}") };
            assert_eq!(problem, format!("Route: `{bad}` is no name; write NAME or NAMESPACE/NAME"));
        }
        assert!(matches!(id(Some(""), "orders"), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_sidecar_may_be_named_with_its_identity() {
        let of = "@spiffe://mesh.example/ns/shop/sa/orders";
        for (namespace, name) in [(None, "shop/orders-1"), (Some("shop"), "orders-1")] {
            assert_eq!(sidecar(namespace, name).unwrap(), "shop/orders-1");
            assert_eq!(sidecar(namespace, &format!("{name}{of}")).unwrap(), format!("shop/orders-1{of}"));
        }
        assert!(matches!(sidecar(None, of), Err(Failure::Usage(_))));
    }
}
