//! Which top-level module of a crate names which other, found in `use` items, in paths and in macros' tokens.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::{Source, paths};

/// `file` belongs to module `from` and names module `to`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    pub(super) from: String,
    /// The module named, with its next segment if there is one: `http::body`.
    pub(super) to: Vec<String>,
    pub(super) file: String,
    pub(super) line: usize,
}

/// All imports from one top-level module to another in the sources of one crate, under `folder`.
pub(super) fn imports(sources: &[Source], folder: &str, krate: &str) -> BTreeSet<Import> {
    let mut found = BTreeSet::new();
    for source in sources {
        let module = module_path(&source.path, folder);
        let from = module.first().cloned().unwrap_or_else(|| "lib".to_owned());
        let file = source.path.display().to_string();
        for named in paths::named(&source.syntax) {
            let module = [&*module, &*named.within].concat();
            if let Some(to) = leads_to(&named.path, krate, &module).filter(|to| to[0] != from) {
                found.insert(Import { from: from.clone(), to, file: file.clone(), line: named.line });
            }
        }
    }
    found
}

/// `sidecar/src/tls/server.rs` is `tls::server`; lib.rs is the root, main.rs a module of its own.
fn module_path(file: &Path, folder: &str) -> Vec<String> {
    let inner = file.strip_prefix(folder).unwrap_or(file).with_extension("");
    let segments = inner.components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str().map(str::to_owned),
        _ => None,
    });
    segments.filter(|name| name != "mod" && name != "lib").collect()
}

/// The module that a path in `module` leads to, if it leads there by `crate`, the crate's own name or `super`s.
fn leads_to(path: &[String], krate: &str, module: &[String]) -> Option<Vec<String>> {
    let first = path.first()?;
    let rest = if first == "crate" || first == krate {
        path[1..].to_vec()
    } else {
        let ups = path.iter().take_while(|segment| *segment == "super").count();
        if ups == 0 {
            return None;
        }
        let stay = module.len().saturating_sub(ups);
        module[..stay].iter().chain(&path[ups..]).cloned().collect()
    };
    let lower = |segment: &String| segment.starts_with(|letter: char| letter.is_lowercase());
    if !rest.first().is_some_and(lower) {
        return None;
    }
    let modules = rest.into_iter().take(2).enumerate();
    Some(modules.filter(|(at, name)| *at == 0 || lower(name)).map(|(_, name)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let source =
            Source { path: path.into(), text: text.to_owned(), syntax: syn::parse_file(text).unwrap() };
        let imports = imports(&[source], "sidecar/src", "trama_sidecar");
        imports.iter().map(|import| format!("{} -> {}", import.from, import.to.join("::"))).collect()
    }

    #[test]
    fn groups_globs_and_renames_are_found() {
        let text = "use crate::{tls::Client, http::{self, body::Body}, route::*, balance as b};";
        let expected = ["up -> balance", "up -> http::body", "up -> http::self", "up -> route", "up -> tls"];
        assert_eq!(found("sidecar/src/up/pool.rs", text), expected);
    }

    #[test]
    fn paths_in_code_and_in_macros_are_found() {
        let text = "fn f() -> crate::error::Error { select! { _ = x => crate::drain::now(), y }; vec![crate::tls::A] }";
        assert_eq!(found("sidecar/src/up.rs", text), ["up -> drain::now", "up -> error", "up -> tls"]);
    }

    #[test]
    fn supers_are_followed() {
        let text = "use super::super::tls; use super::own; mod inner { use super::super::super::route; }";
        assert_eq!(found("sidecar/src/up/pool.rs", text), ["up -> route", "up -> tls"]);
    }

    #[test]
    fn the_binary_names_the_library() {
        assert_eq!(found("sidecar/src/main.rs", "use trama_sidecar::app;"), ["main -> app"]);
    }

    #[test]
    fn tests_and_ones_own_module_do_not_count() {
        let text =
            "use crate::up::x; #[cfg(test)] mod tests { use crate::tls; } #[test] fn t() { crate::tls::x() }";
        assert_eq!(found("sidecar/src/up/pool.rs", text), Vec::<String>::new());
    }
}
