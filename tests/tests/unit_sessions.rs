//! What a control plane holds for each sidecar does not grow with the mesh: the heap is counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use trama_control_plane::distribute::Session;
use trama_control_plane::model::{Service, World};
use trama_control_plane::store::Stamp;
use trama_proto::discovery::v1::{Ack, HeldResource, Hello, Node, ResourceName};
use trama_proto::document::Document;

const SIDECARS: usize = 100;
const CALLED: usize = 10;
/// 200 MB by 10,000 sidecars, of which the connection needs the most.
const MOST: i64 = 8 * 1024;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

#[allow(unsafe_code, reason = "an allocator can only be watched by being one")]
// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size() as i64);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as i64);
        // SAFETY: the caller keeps `dealloc`'s contract, and `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn service(number: usize) -> String {
    let name = format!("service-{number}");
    let endpoints: Vec<_> =
        (0..10).map(|it| format!("{{ address: 10.{}.{}.{it} }}", number / 250, number % 250)).collect();
    format!(
        "kind: Service\nmetadata: {{ name: {name}, namespace: bench }}\nspec: {{ ports: [{{ port: 80 }}] }}\n---\n\
         kind: EndpointSet\nmetadata: {{ name: {name}, namespace: bench }}\n\
         spec: {{ service: {name}, endpoints: [{}] }}\n",
        endpoints.join(", ")
    )
}

fn write(world: &mut World, revision: u64, text: &str) {
    for document in Document::parse("test", text).unwrap() {
        world.change(revision, document.id, Some(document.resource));
    }
}

fn world(services: usize) -> World {
    let mut world = World::new(Stamp { epoch: 1, revision: 0 });
    (0..services).for_each(|number| write(&mut world, number as u64 + 1, &service(number)));
    world
}

/// A session that calls some services and has taken all that there is.
fn settled(world: &World, number: usize, hello: &Hello) -> Session {
    let mut session = Session::new(hello, &Node::default(), world).unwrap();
    session
        .subscribe((number..number + CALLED).map(|it| Service::new("bench", format!("service-{it}"))))
        .unwrap();
    while let Some(push) = session.next(world) {
        session.ack(Ack { nonce: push.nonce, ..Ack::default() }).unwrap();
    }
    session
}

/// Bytes that each of them holds.
fn each(make: impl Fn(usize) -> Session) -> (Vec<Session>, i64) {
    let mut sessions = Vec::with_capacity(SIDECARS);
    let before = HELD.get();
    sessions.extend((0..SIDECARS).map(make));
    let held = (HELD.get() - before) / SIDECARS as i64;
    (sessions, held)
}

#[test]
fn a_session_costs_what_its_sidecar_asks_for_and_not_what_there_is() {
    let mut world = world(2_000);
    let (mut sessions, fresh) = each(|number| settled(&world, number, &Hello::default()));
    assert!(fresh < MOST, "{fresh} bytes for one that had nothing");

    // Those that come back with all of it.
    let held = world.resources().filter(|(id, _)| id.kind == "Service").map(|(id, held)| {
        let name =
            ResourceName { kind: id.kind.into(), namespace: id.namespace.clone(), name: id.name.clone() };
        HeldResource { name: Some(name), version: held.told.number, hash: held.told.hash.to_vec() }
    });
    let hello = Hello { held: held.collect(), ..Hello::default() };
    let (_again, again) = each(|number| settled(&world, number, &hello));
    assert!(again < MOST, "{again} bytes for one that has come back");

    // Changes of everybody's, with pushes on their way meanwhile.
    let before = HELD.get();
    for revision in 3_000..3_050 {
        write(
            &mut world,
            revision,
            &service(1_000).replace("10.4.0.1 ", &format!("10.200.0.{} ", revision - 3_000)),
        );
        for session in &mut sessions {
            let push = session.next(&world).unwrap();
            session.ack(Ack { nonce: push.nonce, ..Ack::default() }).unwrap();
        }
    }
    let grown = (HELD.get() - before) / SIDECARS as i64;
    assert!(grown < 1024, "{grown} bytes more for each after 50 changes");
}
