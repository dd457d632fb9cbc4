//! Which top-level module of a crate names which other, found in `use` items, in paths and in macros' tokens.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::{Source, attributes, for_tests};

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
        let mut finder = Finder { krate, module, found: Vec::new() };
        finder.visit_file(&source.syntax);
        let file = source.path.display().to_string();
        for (to, line) in finder.found {
            if to[0] != from {
                found.insert(Import { from: from.clone(), to, file: file.clone(), line });
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

struct Finder<'a> {
    krate: &'a str,
    module: Vec<String>,
    found: Vec<(Vec<String>, usize)>,
}

impl Finder<'_> {
    /// Notes a path if it leads out of our module: through `crate`, the crate's own name or `super`s.
    fn note(&mut self, path: &[String], line: usize) {
        let Some(first) = path.first() else { return };
        let rest = if first == "crate" || first == self.krate {
            path[1..].to_vec()
        } else {
            let ups = path.iter().take_while(|segment| *segment == "super").count();
            if ups == 0 {
                return;
            }
            let stay = self.module.len().saturating_sub(ups);
            self.module[..stay].iter().chain(&path[ups..]).cloned().collect()
        };
        let lower = |segment: &String| segment.starts_with(|letter: char| letter.is_lowercase());
        if rest.first().is_some_and(lower) {
            let modules = rest.into_iter().take(2).enumerate();
            self.found
                .push((modules.filter(|(at, name)| *at == 0 || lower(name)).map(|(_, n)| n).collect(), line));
        }
    }

    fn note_tree(&mut self, tree: &syn::UseTree, path: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.note_tree(&inner.tree, path);
                path.pop();
            }
            syn::UseTree::Name(name) => self.note_leaf(&name.ident, path),
            syn::UseTree::Rename(rename) => self.note_leaf(&rename.ident, path),
            syn::UseTree::Glob(glob) => self.note(path, glob.star_token.spans[0].start().line),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.note_tree(item, path)),
        }
    }

    fn note_leaf(&mut self, ident: &syn::Ident, path: &mut Vec<String>) {
        path.push(ident.to_string());
        self.note(path, ident.span().start().line);
        path.pop();
    }

    /// Paths within a macro's tokens, which are not parsed.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        for tree in tokens {
            match tree {
                TokenTree::Ident(ident) => {
                    // Two words without `::` between them are two paths.
                    if path.last().is_some_and(|last| last != "::") {
                        self.note_spelled(&mut path, line);
                    }
                    line = ident.span().start().line;
                    path.push(ident.to_string());
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    if path.last().is_some_and(|last| last != "::") {
                        path.push("::".to_owned());
                    }
                }
                TokenTree::Group(group) => {
                    self.note_spelled(&mut path, line);
                    self.note_tokens(group.stream());
                }
                _ => self.note_spelled(&mut path, line),
            }
        }
        self.note_spelled(&mut path, line);
    }

    fn note_spelled(&mut self, path: &mut Vec<String>, line: usize) {
        path.retain(|segment| segment != "::");
        self.note(path, line);
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.note(&segments, line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.note_tokens(invocation.tokens.clone());
        visit::visit_macro(self, invocation);
    }
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
