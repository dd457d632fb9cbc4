//! Every policy in the documentation can be applied as it stands: `tramactl` and a control plane take it.

use std::fs;

use trama_tests::control_plane::ControlPlane;

use crate::pages::{self, Page};

/// As a reader does who goes through a page from its top: each example after those before it.
async fn apply_in_order(page: &Page) -> usize {
    let policies = pages::blocks(page, "yaml").into_iter();
    let policies: Vec<_> = policies.filter(|block| block.text.contains("apiVersion: trama.dev/")).collect();
    if policies.is_empty() {
        return 0;
    }
    let control = ControlPlane::spawn().await;
    let folder = tempfile::tempdir().unwrap();
    for block in &policies {
        fs::write(folder.path().join("example.yaml"), &block.text).unwrap();
        for (command, said) in [("validate", "valid: "), ("apply", " (revision ")] {
            let ran = control.tramactl(folder.path(), &format!("{command} -f example.yaml")).await;
            assert!(ran.code == 0 && ran.out.contains(said), "{}: {command}: {ran:?}", block.place);
        }
    }
    policies.len()
}

#[tokio::test]
async fn every_policy_can_be_applied_after_those_before_it() {
    let mut applied = 0;
    for page in pages::all() {
        applied += apply_in_order(&page).await;
    }
    assert!(applied > 10, "{applied} policies were found: the fences must read ```yaml");
}
