//! `namespace/name`: how people and messages name what is in a namespace.

use std::fmt::{self, Display, Formatter};

use crate::did_you_mean;

/// A name, and the namespace that it is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QualifiedName<'t> {
    /// The namespace.
    pub namespace: &'t str,
    /// The name within it.
    pub name: &'t str,
}

impl<'t> QualifiedName<'t> {
    /// Parses `namespace/name`: neither of both is empty, and there is no second slash. The error says how to write it.
    pub fn parse(text: &'t str) -> Result<Self, &'static str> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace, name })
            }
            _ => Err("write it as `namespace/name`"),
        }
    }

    /// What was probably meant where there is none of this name: the same name in another namespace, or one of its own
    /// namespace that looks like it.
    pub fn near<'k>(
        self,
        known: impl Iterator<Item = QualifiedName<'k>> + Clone,
    ) -> Option<QualifiedName<'k>> {
        if let Some(elsewhere) = known.clone().find(|other| other.name == self.name) {
            return Some(elsewhere);
        }
        let mut beside = known.filter(move |other| other.namespace == self.namespace);
        let name = did_you_mean(self.name, beside.clone().map(|other| other.name))?;
        beside.find(|other| other.name == name)
    }
}

impl Display for QualifiedName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_slash_and_something_on_both_sides_of_it() {
        let named = QualifiedName::parse("shop/orders").unwrap();
        assert_eq!((named.namespace, named.name, &*named.to_string()), ("shop", "orders", "shop/orders"));
        for bad in ["", "/", "orders", "shop/", "/orders", "a//b", "/a/b", "a/b/", "a/b/c"] {
            assert_eq!(QualifiedName::parse(bad), Err("write it as `namespace/name`"), "{bad}");
        }
    }

    #[test]
    fn a_name_that_is_not_there_is_looked_for_elsewhere_and_then_by_its_looks() {
        let known = ["bank/ledger", "shop/orders", "shop/prices"];
        let near = |wanted| {
            let known = known.iter().filter_map(|text| QualifiedName::parse(text).ok());
            QualifiedName::parse(wanted).unwrap().near(known).map(|near| near.to_string())
        };
        assert_eq!(near("default/orders").as_deref(), Some("shop/orders"));
        assert_eq!(near("shop/ordres").as_deref(), Some("shop/orders"));
        assert_eq!(near("shop/something"), None);
        assert_eq!(near("default/ordres"), None);
    }
}
