//! Lines of files and functions, tests left out. A line is a line: comments and blank ones are read, too.

use std::path::PathBuf;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Source, attributes, for_tests, lines};

/// A file or a function, and its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) lines: usize,
    pub(super) path: PathBuf,
    /// Empty for a file.
    pub(super) function: String,
}

pub(super) fn print(sources: &[Source]) {
    println!("{:10} {:>6} {:>7} {:>5} {:>8}  largest one", "", "count", "median", "90th", "largest");
    for (what, sizes) in [("files", files(sources)), ("functions", functions(sources))] {
        let Some(largest) = sizes.last() else { continue };
        let (median, ninetieth) = (percentile(&sizes, 50), percentile(&sizes, 90));
        let name = format!("{} {}", largest.path.display(), largest.function);
        println!("{what:10} {:>6} {median:>7} {ninetieth:>5} {:>8}  {name}", sizes.len(), largest.lines);
    }
}

/// Smallest first.
pub(super) fn files(sources: &[Source]) -> Vec<Size> {
    let size = |source: &Source| {
        let tests = source.syntax.items.iter().filter(|item| for_tests(attributes(item)));
        let tests: usize = tests.map(|item| lines(item).len()).sum();
        let lines = source.text.lines().count() - tests;
        Size { lines, path: source.path.clone(), function: String::new() }
    };
    sorted(sources.iter().map(size).collect())
}

/// Smallest first.
pub(super) fn functions(sources: &[Source]) -> Vec<Size> {
    let mut sizes = Vec::new();
    for source in sources {
        let mut visitor = Functions { source, sizes: &mut sizes };
        visitor.visit_file(&source.syntax);
    }
    sorted(sizes)
}

/// The nearest rank, of sizes that are sorted.
fn percentile(sizes: &[Size], percent: usize) -> usize {
    let rank = (sizes.len() * percent).div_ceil(100).max(1);
    sizes[rank - 1].lines
}

fn sorted(mut sizes: Vec<Size>) -> Vec<Size> {
    sizes.sort_by_key(|size| size.lines);
    sizes
}

struct Functions<'a> {
    source: &'a Source,
    sizes: &'a mut Vec<Size>,
}

impl Functions<'_> {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines = block.span().end().line + 1 - signature.span().start().line;
        let (path, function) = (self.source.path.clone(), signature.ident.to_string());
        self.sizes.push(Size { lines, path, function });
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
fn one() {
    two();
}

#[cfg(test)]
mod tests {
    fn not_counted() {}
}

struct S;
impl S {
    fn two(
        &self,
    ) {
    }
}
";

    fn source() -> [Source; 1] {
        let syntax = syn::parse_file(TEXT).unwrap();
        [Source { path: "a.rs".into(), text: TEXT.to_owned(), syntax }]
    }

    #[test]
    fn tests_do_not_count_in_a_file() {
        assert_eq!(files(&source())[0].lines, TEXT.lines().count() - 4);
    }

    #[test]
    fn functions_count_from_the_signature_to_the_brace() {
        let sizes: Vec<_> =
            functions(&source()).into_iter().map(|size| (size.function, size.lines)).collect();
        assert_eq!(sizes, [("one".to_owned(), 3), ("two".to_owned(), 4)]);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sizes: Vec<Size> =
            (1..=10).map(|lines| Size { lines, path: PathBuf::new(), function: String::new() }).collect();
        assert_eq!((percentile(&sizes, 50), percentile(&sizes, 90)), (5, 9));
        assert_eq!(percentile(&sizes[..1], 50), 1);
    }
}
