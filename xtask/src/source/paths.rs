//! Every path that a file names outside of its tests: in `use` items, in code and in macros' tokens.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::{attributes, for_tests};

/// A path as it is spelled; a glob is the path before its star.
pub(super) struct Named {
    /// The modules within the file around it.
    pub(super) within: Vec<String>,
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

pub(super) fn named(file: &syn::File) -> Vec<Named> {
    let mut finder = Finder { within: Vec::new(), found: Vec::new() };
    finder.visit_file(file);
    finder.found
}

struct Finder {
    within: Vec<String>,
    found: Vec<Named>,
}

impl Finder {
    fn note(&mut self, path: &[String], line: usize) {
        if !path.is_empty() {
            self.found.push(Named { within: self.within.clone(), path: path.to_vec(), line });
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

impl<'ast> Visit<'ast> for Finder {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.within.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.within.pop();
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
