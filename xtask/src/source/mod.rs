//! What our own source looks like: how large its files and functions are, and which module names which. The rules
//! are tests here, so `cargo xtask test dependencies` judges them.

#[cfg(test)]
mod control_plane;
#[cfg(test)]
mod diagram;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod modules;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod rules;
mod sizes;
#[cfg(test)]
mod statuses;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use syn::spanned::Spanned;

use crate::error::{Error, Result};
use crate::process::{root, target};

/// The folders with code that ships or that people run; tests/tests and tests/benches are tests from end to end.
const FOLDERS: &[&str] =
    &["proto/src", "sidecar/src", "control-plane/src", "control-plane/cli/src", "tests/src", "xtask/src"];

/// A parsed source file.
pub(crate) struct Source {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
    syntax: syn::File,
}

/// `cargo xtask sizes`.
pub(crate) fn report() -> Result<ExitCode> {
    let mut sources = Vec::new();
    for folder in FOLDERS {
        sources.extend(load(folder)?);
    }
    sizes::print(&sources);
    print_program(&target()?.join("release/trama-sidecar"));
    Ok(ExitCode::SUCCESS)
}

/// How large the sidecar is as it is shipped, where it was built.
fn print_program(program: &Path) {
    let name = program.display();
    match std::fs::metadata(program) {
        Ok(found) => println!("program    {:>6.1} MB  {name}", found.len() as f64 / 1e6),
        Err(_) => {
            println!("program    not built: cargo build --release --package trama-sidecar makes {name}")
        }
    }
}

/// Every file under a folder, without those that only tests include.
fn load(folder: &str) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    walk(&root().join(folder), &mut files)?;
    files.sort();
    let mut sources = files.iter().map(|file| parse(file)).collect::<Result<Vec<_>>>()?;
    let tests: Vec<PathBuf> = sources.iter().flat_map(test_modules).collect();
    sources.retain(|source| !tests.iter().any(|test| belongs_to(&source.path, test)));
    Ok(sources)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let path = entry.map_err(Error::file("read", folder))?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn parse(file: &Path) -> Result<Source> {
    let path = file.strip_prefix(root()).unwrap_or(file).to_owned();
    let text = std::fs::read_to_string(file).map_err(Error::file("read", file))?;
    let syntax = syn::parse_file(&text).map_err(|source| Error::Syntax { path: path.clone(), source })?;
    Ok(Source { path, text, syntax })
}

/// The paths, without `.rs`, of the modules that a file declares under `#[cfg(test)]`.
fn test_modules(source: &Source) -> Vec<PathBuf> {
    let folder = module_folder(&source.path);
    let declared = source.syntax.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() && for_tests(&module.attrs) => Some(module),
        _ => None,
    });
    declared.map(|module| folder.join(module.ident.to_string())).collect()
}

/// Where the child modules of a file lie: `a/mod.rs` and `a/lib.rs` keep them in `a/`, `a/b.rs` in `a/b/`.
fn module_folder(file: &Path) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default();
    let own = ["mod", "lib", "main"].iter().any(|name| stem == *name);
    if own { file.parent().unwrap_or(file).to_owned() } else { file.with_extension("") }
}

fn belongs_to(file: &Path, module: &Path) -> bool {
    file.with_extension("") == module || file.starts_with(module)
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#[test]`, `#[tokio::test]`.
fn for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let last = attribute.path().segments.last().map(|segment| segment.ident.to_string());
        match (last.as_deref(), &attribute.meta) {
            (Some("test"), _) => true,
            (Some("cfg"), syn::Meta::List(list)) => {
                let condition = list.tokens.to_string();
                condition == "test" || condition.starts_with("all (test")
            }
            _ => false,
        }
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The lines of an item from its first attribute to its end, counted from 1.
fn lines(item: &impl Spanned) -> Range<usize> {
    let span = item.span();
    span.start().line..span.end().line + 1
}
