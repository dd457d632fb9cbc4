//! The explanations in the book are what a sidecar with the page's policy says to the page's requests.

use std::{sync::atomic::Ordering, time::Duration};

use clap::Parser;
use trama_proto::{
    document::Document,
    explain::v1::{Explanation, Knowledge, knowledge},
    explanation,
};
use trama_sidecar::{
    authz::Gate,
    balance::{Event, Loads},
    config::{
        convert::{self, Local},
        snapshot::{Snapshot, SpiffeId, state::Registry},
    },
    explain::{Described, Description, Incoming, View, explain},
};

use crate::pages::{self, Block, Page};

const NOW: Duration = Duration::from_secs(60);

/// The page's command line.
#[derive(Parser)]
struct Line {
    url: String,
    #[command(flatten)]
    description: Description,
}

fn page() -> Page {
    let path = pages::book().join("explain.md");
    Page { text: std::fs::read_to_string(&path).unwrap(), path }
}

/// The only block that begins so.
fn only(page: &Page, language: &str, begin: &str) -> Block {
    let mut blocks = pages::blocks(page, language);
    blocks.retain(|block| block.text.starts_with(begin));
    assert_eq!(
        blocks.len(),
        1,
        "{}: one block of {language} that begins with `{begin}`",
        page.path.display()
    );
    blocks.remove(0)
}

/// The policy of the first blocks of the page.
fn compiled(page: &Page, blocks: usize) -> Snapshot {
    let policy = &pages::blocks(page, "yaml")[..blocks];
    let documents = policy.iter().flat_map(|block| {
        Document::parse(&block.place, &block.text).unwrap_or_else(|all| panic!("{all:#?}"))
    });
    let local = Local { namespace: "shop".to_owned(), region: "sao-paulo".to_owned() };
    convert::convert(&documents.collect::<Vec<_>>(), &local, &mut Registry::default(), 3).unwrap()
}

/// As a sidecar of the page says it whose worker has learned this.
fn told(described: &Described, snapshot: &Snapshot, loads: Loads) -> Explanation {
    let own = SpiffeId::parse("spiffe://mesh.example/ns/shop/sa/orders").unwrap();
    let incoming = Incoming { gate: &Gate::default(), identity: Some(&own), service: "shop/orders" };
    let source = knowledge::Source::Sidecar.into();
    let knowledge = Knowledge { source, worker: Some(0), workers: 2, ..Knowledge::default() };
    let view = View { snapshot, loads, now: NOW, incoming: Some(incoming), knowledge };
    explain(described, view, described.draw.unwrap())
}

/// The page's block in this place is what is said now.
fn published(page: &Page, place: usize, present: &Explanation) {
    let (shown, present) = (pages::blocks(page, "text").remove(place), present.to_string());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        // What was written for the block before is to stay.
        let text = std::fs::read_to_string(&page.path).unwrap();
        let text = text.replace(&format!("```text\n{}```", shown.text), &format!("```text\n{present}```"));
        return std::fs::write(&page.path, text).unwrap();
    }
    assert!(shown.text == present, "{}: run `cargo xtask reference`; a sidecar says\n{present}", shown.place);
}

#[test]
fn the_published_explanations_are_what_a_sidecar_says() {
    let page = page();
    let snapshot = compiled(&page, 1);
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
    let request = only(&page, "json", "{");
    let described =
        explanation::read(&request.place, request.text.as_bytes()).unwrap_or_else(|p| panic!("{p}"));
    let described = Described::read(&described).unwrap_or_else(|problems| panic!("{problems}"));
    published(&page, 0, &told(&described, &snapshot, loads));

    // Who may call, by the page's own command line.
    let line = only(&page, "sh", "trama-sidecar explain /admin ").text;
    let Line { url, description } = Line::parse_from(line.split_whitespace().skip(1));
    let described = Described::read(&description.of(url)).unwrap_or_else(|problems| panic!("{problems}"));
    published(&page, 1, &told(&described, &compiled(&page, 2), Loads::default()));
    // The others are of `tramactl`, whose own tests hold them.
}
