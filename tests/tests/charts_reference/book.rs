//! The values in the book and in the READMEs are ones that the chart takes.

use std::path::{Path, PathBuf};

use trama_tests::charts::{folder, template};

/// What the blocks begin with.
const MARK: &str = "```yaml\n# values.yaml\n";

fn pages() -> [PathBuf; 2] {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    [root.join("docs/src/kubernetes.md"), folder().join("trama/README.md")]
}

#[test]
fn every_example_is_taken() {
    let mut count = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for block in text.split(MARK).skip(1) {
            let values = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(values.path(), block.split("\n```").next().unwrap()).unwrap();
            let told = template("trama", &["--values", values.path().to_str().unwrap()]);
            assert!(told.is_ok(), "{}: {told:?}", page.display());
            count += 1;
        }
    }
    assert!(count > 0, "the blocks must begin with {MARK:?}");
}

/// Whoever reads a command in the book can type it.
#[test]
fn every_value_that_is_named_is_there() {
    let known: Vec<String> = crate::values::entries().into_iter().map(|entry| entry.path).collect();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for named in text.split("`controlPlane.").skip(1).filter_map(|rest| rest.split('`').next()) {
            let path = format!("controlPlane.{}", named.split(['=', ' ']).next().unwrap());
            let found = known.contains(&path) || path.starts_with("controlPlane.config.");
            assert!(found, "{}: {path} is no value of the chart", page.display());
        }
    }
}
