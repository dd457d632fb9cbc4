//! The values of the chart as `values.yaml` writes them: each with its comment.

use std::collections::BTreeSet;

use serde_json::Value;
use trama_tests::charts::folder;

/// A value or a section of values.
pub(crate) struct Entry {
    /// Such as `controlPlane.image.tag`.
    pub(crate) path: String,
    pub(crate) comment: String,
    /// As it is written. None: a section.
    pub(crate) default: Option<String>,
}

impl Entry {
    pub(crate) fn parent(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    pub(crate) fn name(&self) -> &str {
        self.path.rsplit_once('.').map_or(self.path.as_str(), |(_, name)| name)
    }
}

/// All of them, in the order of the file. Every line of it is a comment, a key in its line, or empty.
pub(crate) fn entries() -> Vec<Entry> {
    let text = std::fs::read_to_string(folder().join("trama/values.yaml")).unwrap();
    let mut entries = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut path: Vec<&str> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        if let Some(part) = trimmed.strip_prefix("# ") {
            comment.push(part);
        } else if trimmed.is_empty() {
            comment.clear();
        } else {
            let (name, value) =
                trimmed.split_once(':').unwrap_or_else(|| panic!("write it in one line: {line}"));
            path.truncate((line.len() - trimmed.len()) / 2);
            path.push(name);
            let default = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            entries.push(Entry { path: path.join("."), comment: comment.join(" "), default });
            comment.clear();
        }
    }
    entries
}

#[test]
fn every_value_has_a_comment() {
    let silent: Vec<String> =
        entries().into_iter().filter(|it| it.comment.is_empty()).map(|it| it.path).collect();
    assert!(silent.is_empty(), "without a comment just above: {silent:?}");
}

#[test]
fn the_lines_are_read_as_yaml_reads_them() {
    let values = read("trama/values.yaml");
    for entry in entries() {
        let found =
            at(&values, &entry.path).unwrap_or_else(|| panic!("{} is read from no value", entry.path));
        if let Some(default) = &entry.default {
            assert_eq!(found, &serde_saphyr::from_str::<Value>(default).unwrap(), "{}", entry.path);
        }
    }
}

/// What the golden of all values leaves at its default is not shown to be of any effect.
#[test]
fn the_golden_of_all_values_sets_each() {
    let (defaults, full) = (read("trama/values.yaml"), read("golden/full-values.yaml"));
    // These have one value with which the rest is rendered; the other one leaves things out.
    let switches = [
        "podDisruptionBudget.enabled",
        "persistence.enabled",
        "persistence.existingClaim",
        "serviceAccount.create",
    ];
    let switches: BTreeSet<String> = switches.iter().map(|name| format!("controlPlane.{name}")).collect();
    for entry in entries().iter().filter(|entry| entry.default.is_some()) {
        let set = at(&full, &entry.path).unwrap_or_else(|| panic!("{} is missing", entry.path));
        let same = at(&defaults, &entry.path) == Some(set);
        assert_eq!(same, switches.contains(&entry.path), "{} is {set}", entry.path);
    }
}

fn read(file: &str) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(folder().join(file)).unwrap()).unwrap()
}

fn at<'a>(values: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(values, |value, name| value.get(name))
}
