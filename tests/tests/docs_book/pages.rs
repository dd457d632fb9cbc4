//! The pages of the documentation, and the blocks of code in them.

use std::path::{Path, PathBuf};

pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A fenced block: where it begins, and what it holds.
pub(crate) struct Block {
    pub(crate) place: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

pub(crate) fn book() -> PathBuf {
    root().join("docs/src")
}

/// The book's chapters and the pages at the top of the repository.
pub(crate) fn all() -> Vec<Page> {
    let mut pages = chapters();
    pages.extend(markdown(std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path())));
    pages
}

/// The book's chapters, without its table of contents.
pub(crate) fn chapters() -> Vec<Page> {
    let mut files = Vec::new();
    walk(&book(), &mut files);
    files.retain(|path| !path.ends_with("SUMMARY.md"));
    markdown(files.into_iter())
}

/// The blocks of a page whose fence names a language.
pub(crate) fn blocks(page: &Page, language: &str) -> Vec<Block> {
    let fence = format!("```{language}");
    let mut found = Vec::new();
    let mut block: Option<Block> = None;
    for (number, line) in page.text.lines().enumerate() {
        match &mut block {
            None if line.trim() == fence => {
                let place = format!("{}, the block at line {}", page.path.display(), number + 1);
                block = Some(Block { place, text: String::new() });
            }
            Some(_) if line.trim() == "```" => found.extend(block.take()),
            Some(block) => block.text += &format!("{line}\n"),
            None => {}
        }
    }
    found
}

/// The lines of a page outside fenced blocks, with their numbers.
pub(crate) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        (!fence && !in_code).then_some((number + 1, line))
    })
}

fn markdown(files: impl Iterator<Item = PathBuf>) -> Vec<Page> {
    let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| Page { text: std::fs::read_to_string(&path).unwrap(), path }).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}
