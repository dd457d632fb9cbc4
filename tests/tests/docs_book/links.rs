//! Every link of the documentation leads somewhere, and every chapter is in the book's table of contents.

use std::path::{Path, PathBuf};

use crate::pages;

/// The target of each `[text](target)` outside code, with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((number + 1, target.to_owned()));
            }
        }
    }
    found
}

/// The anchors of a page: its headings as mdBook and GitHub spell them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
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
            if let Some(why) = broken(&page.path, &target) {
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
}
