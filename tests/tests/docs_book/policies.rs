//! Every policy in the documentation is one that the sidecar would take.

use trama_proto::document::Document;
use trama_sidecar::config::{
    convert::{self, Local},
    snapshot::state::Registry,
};

use crate::pages::{self, Page};

/// The examples of a page together are one policy: a later one may speak of the services of an earlier one.
fn documents(page: &Page) -> Vec<Document> {
    let mut documents = Vec::new();
    for block in pages::blocks(page, "yaml").iter().filter(|it| it.text.contains("apiVersion: trama.dev/")) {
        match Document::parse(&block.place, &block.text) {
            Ok(found) => documents.extend(found),
            Err(problems) => {
                panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
        }
    }
    documents
}

#[test]
fn every_policy_is_valid() {
    let local = Local { namespace: "shop".to_owned(), region: "sao-paulo".to_owned() };
    let mut policies = 0;
    for page in pages::all() {
        let documents = documents(&page);
        policies += documents.len();
        if let Err(problems) = convert::convert(&documents, &local, &mut Registry::default(), 1) {
            panic!("{problems}");
        }
    }
    assert_ne!(policies, 0, "no policy was found: the fences must read ```yaml");
}
