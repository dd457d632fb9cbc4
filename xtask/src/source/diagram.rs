//! A crate's dependency diagram: which of its modules may name which. What is not in the list is refused.

use std::collections::BTreeSet;

use super::{load, modules};

/// A module, and what it may name: modules, `module::part`, groups, or `*`.
pub(super) type Line = (&'static str, &'static [&'static str]);

pub(super) struct Diagram {
    /// Where the crate's sources lie.
    pub(super) folder: &'static str,
    pub(super) krate: &'static str,
    pub(super) may_name: &'static [Line],
    /// Names for several modules.
    pub(super) groups: &'static [Line],
}

impl Diagram {
    pub(super) fn allows(&self, from: &str, to: &[String]) -> bool {
        let Some((_, may)) = self.may_name.iter().find(|(module, _)| *module == from) else { return false };
        may.iter().any(|entry| match self.groups.iter().find(|(group, _)| group == entry) {
            _ if *entry == "*" => true,
            Some((_, modules)) => modules.contains(&to[0].as_str()),
            None => to.join("::") == *entry || to[0] == *entry,
        })
    }

    /// Fails on an import that the diagram does not allow.
    pub(super) fn judge_imports(&self) {
        let known: BTreeSet<&str> = self.may_name.iter().map(|(module, _)| *module).collect();
        let imports = modules::imports(&load(self.folder).unwrap(), self.folder, self.krate);
        let wrong = imports.iter().filter(|it| known.contains(&*it.to[0]) && !self.allows(&it.from, &it.to));
        let wrong: Vec<_> = wrong
            .map(|it| format!("{}:{}: {} names {}", it.file, it.line, it.from, it.to.join("::")))
            .collect();
        assert!(wrong.is_empty(), "outside the diagram of {}:\n{}", self.folder, wrong.join("\n"));
    }

    /// Fails on a module that the diagram does not know.
    pub(super) fn judge_modules(&self) {
        for source in load(self.folder).unwrap() {
            let inner = source.path.strip_prefix(self.folder).unwrap().with_extension("");
            let module = inner.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
            let known = self.may_name.iter().any(|(known, _)| *known == module);
            assert!(known || module == "bin", "{}: add `{module}` to the diagram", source.path.display());
        }
    }

    /// Fails on a line of the diagram that names what stands further up: then two modules could name each other.
    pub(super) fn judge_order(&self) {
        let at = |module: &str| self.may_name.iter().position(|(known, _)| *known == module);
        for (place, (module, may)) in self.may_name.iter().enumerate() {
            let named = may.iter().flat_map(|entry| {
                let group = self.groups.iter().find(|(group, _)| group == entry);
                group.map_or_else(|| vec![*entry], |(_, modules)| modules.to_vec())
            });
            for named in named.filter(|named| *named != "*") {
                let bare = named.split("::").next().unwrap_or(named);
                let below = at(bare).unwrap_or_else(|| panic!("{module}: there is no module `{bare}`"));
                assert!(below > place, "{module} may name {named}, which stands above it");
            }
        }
    }
}
