//! What mdBook would refuse or warn of: it is not built here, so its rules are asked one by one.
//!
//! <https://rust-lang.github.io/mdBook/format/summary.html>

use std::collections::BTreeSet;
use std::path::{Component, Path};

use crate::pages::{self, Page};

/// What is wrong with a table of contents: it has headings of parts, and chapters as list items, each of a file within
/// the book and each once.
fn wrong_contents(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut listed = BTreeSet::new();
    let mut depth = 0;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut say = |what: &str| wrong.push(format!("line {}: {what}: {line}", number + 1));
        if line.starts_with("# ") {
            depth = 0;
            continue;
        }
        let item = line.trim_start();
        let indent = line.len() - item.len();
        let chapter = item.strip_prefix("- [").and_then(|rest| rest.strip_suffix(')'));
        let Some((title, file)) = chapter.and_then(|chapter| chapter.split_once("](")) else {
            say("neither a heading of a part nor a chapter");
            continue;
        };
        if indent % 2 != 0 || indent / 2 > depth {
            say("not below a chapter");
        }
        depth = indent / 2 + 1;
        if title.trim().is_empty() {
            say("without a title");
        }
        if !is_within(Path::new(file)) || !file.ends_with(".md") {
            say("no page of the book");
        }
        if !listed.insert(file) {
            say("listed twice");
        }
    }
    wrong
}

fn is_within(file: &Path) -> bool {
    file.components().all(|part| matches!(part, Component::Normal(_)))
}

/// What is wrong with a page as a chapter of a built book, where nothing lies outside.
fn wrong_page(page: &Page) -> Vec<String> {
    let mut wrong = Vec::new();
    let titles = pages::prose(&page.text).filter(|(_, line)| line.starts_with("# ")).count();
    if titles != 1 {
        wrong.push(format!("{titles} titles, `# …`, instead of one"));
    }
    if page.text.lines().filter(|line| line.trim_start().starts_with("```")).count() % 2 != 0 {
        wrong.push("a block of code that does not end".to_owned());
    }
    for (number, line) in page.text.lines().enumerate().filter(|(_, line)| line.contains("{{#")) {
        wrong
            .push(format!("line {}: a directive to mdBook, which GitHub shows as it is: {line}", number + 1));
    }
    for (number, line) in pages::prose(&page.text) {
        for tag in tags(line) {
            wrong.push(format!("line {number}: <{tag}> is taken for HTML; write `<{tag}>`"));
        }
    }
    wrong
}

/// What looks like an element of HTML outside of code, but for line breaks, comments and addresses.
fn tags(line: &str) -> Vec<&str> {
    let text = line.split('`').step_by(2);
    let angles = text.flat_map(|part| part.split('<').skip(1)).filter_map(|part| part.split_once('>'));
    let tags = angles.map(|(tag, _)| tag).filter(|tag| {
        tag.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
            && *tag != "br"
            && !tag.starts_with("https://")
    });
    tags.collect()
}

#[test]
fn the_table_of_contents_can_be_read() {
    let text = std::fs::read_to_string(pages::book().join("SUMMARY.md")).unwrap();
    let wrong = wrong_contents(&text);
    assert!(wrong.is_empty(), "SUMMARY.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_chapter_stands_by_itself() {
    let mut wrong = Vec::new();
    for page in pages::chapters() {
        wrong.extend(wrong_page(&page).into_iter().map(|what| format!("{}: {what}", page.path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Its fields are few; one that mdBook does not know stops it.
#[test]
fn the_books_settings_are_known_ones() {
    let known = ["[book]", "title", "description", "language", "src", "[build]", "create-missing"];
    let text = std::fs::read_to_string(pages::root().join("docs/book.toml")).unwrap();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let name = line.split_once(" = ").map_or(line, |(name, _)| name);
        assert!(known.contains(&name), "docs/book.toml: {line}");
    }
    assert!(text.contains("src = \"src\"\n") && text.contains("create-missing = false\n"), "{text}");
}

#[test]
fn what_is_wrong_is_found() {
    assert!(
        wrong_contents("# Summary\n\n- [A](a.md)\n  - [B](b/c.md)\n\n# Part\n\n- [D](d.md)\n").is_empty()
    );
    for bad in [
        "text",
        "- [A](a.md)\n- [A again](a.md)",
        "- [](a.md)",
        "- [A](../a.md)",
        "- [A](a.html)",
        "    - [A](a.md)",
        "- [A](a.md)\n      - [B](b.md)",
    ] {
        assert_eq!(wrong_contents(bad).len(), 1, "{bad}: {:?}", wrong_contents(bad));
    }
    let page = |text: &str| wrong_page(&Page { path: "p.md".into(), text: text.to_owned() });
    assert!(page("# A\n<https://a.b/> a<br>b `<c>` 1 < 2 <!-- d -->\n```sh\n# e <f>\n```\n").is_empty());
    for bad in ["a", "# A\n# B", "# A\n```\n", "# A\n{{#include b}}", "# A\n<name>"] {
        assert_eq!(page(bad).len(), 1, "{bad}: {:?}", page(bad));
    }
}
