//! Every link of the documentation leads somewhere, and every chapter is in the book's table of contents.

use std::path::{Component, Path, PathBuf};

use crate::pages;

/// The target of each `[text](target)` outside code, with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let targets = pages::prose(text).flat_map(|(number, line)| {
        let parts = line.split("](").skip(1).filter_map(|part| part.split_once(')'));
        parts.map(move |(target, _)| (number, target.to_owned()))
    });
    targets.collect()
}

/// The anchors of a page: its headings as mdBook and GitHub spell them, the same ones numbered from the second on.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in pages::prose(text).filter(|(_, line)| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let same = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(same).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

/// Whether a chapter's target lies outside the book: what GitHub shows beside it, a built book has not.
fn leads_out(page: &Path, target: &str) -> bool {
    let file = target.split('#').next().unwrap_or_default();
    let depth = page.strip_prefix(pages::book()).map(|inner| inner.components().count() - 1);
    let Ok(depth) = depth else { return false };
    !target.contains("://")
        && Path::new(file).components().filter(|c| *c == Component::ParentDir).count() > depth
}

fn broken(page: &Path, target: &str) -> Option<String> {
    if target.starts_with("https://") || target.starts_with("http://") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
    if !file.exists() {
        return Some(format!("{} does not exist", file.display()));
    }
    if anchor.is_empty() || anchors(&std::fs::read_to_string(&file).unwrap()).iter().any(|a| a == anchor) {
        return None;
    }
    Some(format!("{} has no heading #{anchor}", file.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for page in pages::all() {
        for (line, target) in links(&page.text) {
            let out = leads_out(&page.path, &target).then(|| "it lies outside the book".to_owned());
            if let Some(why) = out.or_else(|| broken(&page.path, &target)) {
                wrong.push(format!("{}:{line}: {target}: {why}", page.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_chapter_is_in_the_table_of_contents() {
    let contents = std::fs::read_to_string(pages::book().join("SUMMARY.md")).unwrap();
    let listed: Vec<PathBuf> =
        links(&contents).into_iter().map(|(_, target)| pages::book().join(target)).collect();
    for chapter in pages::chapters() {
        assert!(listed.contains(&chapter.path), "{} is not in SUMMARY.md", chapter.path.display());
    }
}

#[test]
fn links_are_found_and_code_is_left_alone() {
    let text = "see [a](b.md) and [c](#d)\n```\n[not](this)\n```\n[e](f)";
    let targets: Vec<String> = links(text).into_iter().map(|(_, target)| target).collect();
    assert_eq!(targets, ["b.md", "#d", "f"]);
    let page = pages::book().join("SUMMARY.md");
    assert!(broken(&page, "no-such-chapter.md").is_some());
    assert!(broken(&page, "#no-such-heading").is_some());
    assert!(broken(&page, "#summary").is_none());
    assert_eq!(anchors("# A b\n```\n# code\n```\n## A b\n## `c-d`, e"), ["a-b", "a-b-1", "c-d-e"]);
    assert!(leads_out(&page, "../book.toml") && !leads_out(&page, "reference/errors.md#top"));
    let inner = pages::book().join("reference/errors.md");
    assert!(leads_out(&inner, "../../book.toml") && !leads_out(&inner, "../policy.md"));
}
