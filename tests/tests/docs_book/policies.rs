//! Every policy in the documentation is one that the sidecar would take.

use trama_proto::document::Document;

use crate::pages;

#[test]
fn every_policy_is_valid() {
    let blocks = pages::all().into_iter().flat_map(|page| pages::blocks(&page, "yaml"));
    let policies: Vec<_> = blocks.filter(|block| block.text.contains("apiVersion: trama.dev/")).collect();
    assert!(!policies.is_empty(), "no policy was found: the fences must read ```yaml");
    for policy in policies {
        let documents = Document::parse(&policy.place, &policy.text).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        });
        assert!(!documents.is_empty(), "{}", policy.place);
    }
}
