//! The explanation in the book is what a sidecar with the page's policy says to the page's request.

use std::{sync::atomic::Ordering, time::Duration};

use trama_proto::{
    document::Document,
    explain::v1::{Knowledge, knowledge},
    explanation,
};
use trama_sidecar::{
    balance::{Event, Loads},
    config::{
        convert::{self, Local},
        snapshot::state::Registry,
    },
    explain::{Described, View, explain},
};

use crate::pages::{self, Block, Page};

const NOW: Duration = Duration::from_secs(60);

fn only(page: &Page, language: &str) -> Block {
    let mut blocks = pages::blocks(page, language);
    assert_eq!(blocks.len(), 1, "{}: one block of {language}", page.path.display());
    blocks.remove(0)
}

#[test]
fn the_published_explanation_is_what_a_sidecar_says() {
    let path = pages::book().join("explain.md");
    let page = Page { text: std::fs::read_to_string(&path).unwrap(), path };
    let policy = only(&page, "yaml");
    let documents = Document::parse(&policy.place, &policy.text).unwrap_or_else(|all| panic!("{all:#?}"));
    let local = Local { namespace: "shop".to_owned(), region: "sao-paulo".to_owned() };
    let snapshot = convert::convert(&documents, &local, &mut Registry::default(), 3).unwrap();

    let cluster = &snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap().cluster;
    let dead = &cluster.regions[0].endpoints[0].health;
    dead.consecutive_failures.store(5, Ordering::Relaxed);
    dead.ejected_until.store(NOW.as_micros() as u64 + 7_200_000, Ordering::Relaxed);
    let mut loads = Loads::default();
    for (endpoint, after) in cluster.regions[1].endpoints.iter().zip([11, 14]) {
        let after = Duration::from_millis(after);
        loads.observe(endpoint, Event::Started, Duration::ZERO);
        loads.observe(endpoint, Event::Answered { after }, NOW);
        loads.observe(endpoint, Event::Ended, NOW);
    }

    let request = only(&page, "json");
    let described =
        explanation::read(&request.place, request.text.as_bytes()).unwrap_or_else(|p| panic!("{p}"));
    let described = Described::read(&described).unwrap_or_else(|problems| panic!("{problems}"));
    let source = knowledge::Source::Sidecar.into();
    let knowledge = Knowledge { source, worker: Some(0), workers: 2, ..Knowledge::default() };
    let view = View { snapshot: &snapshot, loads, now: NOW, incoming: None, knowledge };
    let present = explain(&described, view, described.draw.unwrap()).to_string();

    // The others are of `tramactl`, whose own tests hold them.
    let shown = pages::blocks(&page, "text").remove(0);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text =
            page.text.replace(&format!("```text\n{}```", shown.text), &format!("```text\n{present}```"));
        return std::fs::write(&page.path, text).unwrap();
    }
    assert!(shown.text == present, "{}: run `cargo xtask reference`; a sidecar says\n{present}", shown.place);
}
