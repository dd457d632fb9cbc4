//! A session with a sidecar that does what its messages say, and with one that does not.

use std::collections::{BTreeMap, BTreeSet};

use trama_proto::{
    discovery::{
        LONGEST_PROBLEM,
        v1::{
            Ack, HeldResource, Hello, Nack, Node, Push, Refusal as Refused, ResourceName, VersionedResource,
        },
    },
    document::{Document, Resource, ResourceId},
};

use super::*;
use crate::{
    model::{Place, Service, World, told_hash},
    store::Stamp,
};

const EPOCH: u64 = 3;

/// A sidecar as far as the stream is concerned: what it has, and what it cannot use.
#[derive(Default)]
struct Sidecar {
    /// With the version and the hash that it was told.
    has: BTreeMap<ResourceId, (u64, [u8; 32], Resource)>,
    /// Resources with this label are refused.
    refuses: bool,
    refused: BTreeMap<ResourceId, Refused>,
    pushes: Vec<Push>,
    node: Node,
}

impl Sidecar {
    fn hello(&self) -> Hello {
        let held = self.has.iter().map(|(id, (version, hash, _))| HeldResource {
            name: Some(named(id)),
            version: *version,
            hash: hash.to_vec(),
        });
        let refused = self.refused.values().cloned().collect();
        Hello { held: held.collect(), refused, ..Hello::default() }
    }

    /// Takes all that the session has to say.
    fn settle(&mut self, session: &mut Session, world: &World) {
        while let Some(push) = session.next(world) {
            assert!(session.next(world).is_none(), "one push at a time");
            assert!(self.pushes.len() < 10_000, "it never settles");
            self.take(session, push, world);
        }
    }

    fn take(&mut self, session: &mut Session, push: Push, world: &World) {
        let mut refusals = Vec::new();
        for VersionedResource { version, resource, endpoints, hash: pushed } in push.resources.clone() {
            let resource = resource.unwrap().kind.unwrap();
            let (id, hash) = (ResourceId::of(&resource), told_hash(&resource, &endpoints));
            assert_eq!(pushed, hash, "{id}");
            let has = self.has.get(&id).map(|(_, hash, _)| hash.to_vec());
            let told = self.refused.get(&id).map(|refused| refused.hash.clone()).or(has);
            assert!(told != Some(hash.to_vec()), "{id} is told again");
            if self.refuses && is_bad(&resource) {
                let (path, problem) = ("spec".to_owned(), "no".to_owned());
                let hash = hash.to_vec();
                let refused = Refused { name: Some(named(&id)), version, path, problem, hash };
                refusals.push(refused.clone());
                self.refused.insert(id, refused);
            } else {
                self.refused.remove(&id);
                self.has.insert(id, (version, hash, resource));
            }
        }
        for gone in &push.tombstones {
            let id = ResourceId::new(&gone.kind, &gone.namespace, &gone.name).unwrap();
            let (had, refused) = (self.has.remove(&id), self.refused.remove(&id));
            assert!(had.is_some() || refused.is_some(), "{id} was not there");
        }
        if refusals.is_empty() {
            session.ack(ack(push.nonce)).unwrap();
        } else {
            session.nack(Nack { refusals, ..nack(push.nonce) }, world).unwrap();
        }
        self.pushes.push(push);
    }

    fn names(&self) -> Vec<String> {
        self.has.keys().map(ToString::to_string).collect()
    }
}

fn ack(nonce: u64) -> Ack {
    Ack { nonce, ..Ack::default() }
}

fn nack(nonce: u64) -> Nack {
    Nack { nonce, ..Nack::default() }
}

fn named(id: &ResourceId) -> ResourceName {
    ResourceName { kind: id.kind.to_owned(), namespace: id.namespace.clone(), name: id.name.clone() }
}

fn is_bad(resource: &Resource) -> bool {
    resource.metadata().is_some_and(|metadata| metadata.labels.contains_key("bad"))
}

fn write(world: &mut World, revision: u64, text: &str) {
    for document in Document::parse("test", text).unwrap() {
        world.change(revision, document.id, Some(document.resource));
    }
}

fn service(name: &str) -> String {
    format!(
        "kind: Service\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ ports: [{{ port: 80 }}] }}\n"
    )
}

fn endpoints(name: &str, address: &str) -> String {
    format!(
        "kind: EndpointSet\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ service: {name}, \
         endpoints: [{{ address: {address} }}] }}\n"
    )
}

fn route(parent: &str, backend: &str) -> String {
    format!(
        "kind: Route\nmetadata: {{ name: {parent}-{backend}, namespace: shop }}\nspec: {{ parentRefs: [{{ service: \
         {parent} }}], rules: [{{ backendRefs: [{{ service: {backend} }}] }}] }}\n"
    )
}

fn world() -> World {
    let mut world = World::new(Stamp { epoch: EPOCH, revision: 0 });
    for (revision, name) in ["orders", "prices", "stock"].into_iter().enumerate() {
        write(&mut world, revision as u64 + 1, &service(name));
        write(&mut world, revision as u64 + 1, &endpoints(name, "10.0.0.1"));
    }
    write(&mut world, 4, &route("orders", "stock"));
    world
}

fn orders() -> Service {
    Service::new("shop", "orders")
}

fn connect(sidecar: &mut Sidecar, world: &World, services: &[Service]) -> Session {
    let mut session = Session::new(&sidecar.hello(), &sidecar.node, world).unwrap();
    session.subscribe(services.iter().cloned()).unwrap();
    sidecar.settle(&mut session, world);
    session
}

#[test]
fn everybody_gets_services_and_the_rest_by_need() {
    let world = world();
    let mut sidecar = Sidecar::default();
    let mut session = connect(&mut sidecar, &world, &[]);
    assert_eq!(sidecar.names(), ["Service shop/orders", "Service shop/prices", "Service shop/stock"]);
    assert_eq!((sidecar.pushes[0].epoch, sidecar.pushes[0].revision), (EPOCH, 4));
    assert_eq!(session.acknowledged(), 4);

    session.subscribe([orders()]).unwrap();
    sidecar.settle(&mut session, &world);
    let more: Vec<_> = sidecar.names().into_iter().filter(|name| !name.starts_with("Service")).collect();
    assert_eq!(more, ["EndpointSet shop/orders", "EndpointSet shop/stock", "Route shop/orders-stock"]);

    session.unsubscribe([&orders()]);
    sidecar.settle(&mut session, &world);
    assert_eq!(sidecar.pushes[2].tombstones.len(), 3);
    assert_eq!(sidecar.names().len(), 3);
}

/// Before anybody calls it: who may is nothing that a sidecar could ask for by the name of a service that it does not know.
#[test]
fn who_serves_a_service_is_told_of_it_without_asking() {
    let chain = "kind: PluginChain\nmetadata: { name: c, namespace: shop }\n\
                 spec: { service: orders, filters: [{ sources: { deny: [10.0.0.0/8] } }] }\n";
    let policy = "kind: AuthzPolicy\nmetadata: { name: all, namespace: shop }\n\
                  spec: { action: ALLOW, rules: [{ methods: [GET] }] }\n";
    let mut world = world();
    write(&mut world, 5, chain);
    write(&mut world, 6, policy);
    let who = "spiffe://mesh.test/ns/shop/sa/orders";
    let mut by_identity =
        Sidecar { node: Node { identity: who.to_owned(), ..Node::default() }, ..Sidecar::default() };
    let mut session = connect(&mut by_identity, &world, &[]);
    assert_eq!(by_identity.names().len(), 3, "it serves nothing yet");
    let named = endpoints("orders", "10.0.0.1").replace("10.0.0.1", &format!("10.0.0.1, identity: '{who}'"));
    write(&mut world, 7, &named);
    by_identity.settle(&mut session, &world);
    let serving = ["AuthzPolicy shop/all", "EndpointSet shop/orders", "PluginChain shop/c"];
    assert_eq!(by_identity.names()[..3], serving, "and no route: those are for who calls it");

    let address = |bytes: &[u8]| Node {
        namespace: "shop".to_owned(),
        addresses: vec![bytes.to_vec(), vec![1, 2]],
        ..Node::default()
    };
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
    // Whose the endpoint is, policy says: nobody serves it for saying that he has its address.
    let serves = |node: Node, world: &World| {
        let mut by_address = Sidecar { node, ..Sidecar::default() };
        connect(&mut by_address, world, &[]);
        by_address.names().contains(&"PluginChain shop/c".to_owned())
    };
    for node in [address(&[10, 0, 0, 1]), address(&mapped)] {
        assert!(!serves(node.clone(), &world));
        let mut nameless = world.clone();
        write(&mut nameless, 8, &endpoints("orders", "10.0.0.1"));
        assert!(serves(node.clone(), &nameless));
        assert!(
            !serves(Node { namespace: "bank".to_owned(), ..node }, &nameless),
            "what is in another namespace"
        );
    }
    // What holds for a namespace holds for who is in it, whatever it serves.
    let mut inside =
        Sidecar { node: Node { namespace: "shop".to_owned(), ..Node::default() }, ..Sidecar::default() };
    connect(&mut inside, &world, &[]);
    assert_eq!(inside.names()[0], "AuthzPolicy shop/all");

    // It serves it no more.
    write(&mut world, 8, &endpoints("orders", "10.0.0.9"));
    by_identity.settle(&mut session, &world);
    assert_eq!(by_identity.names().len(), 3);
}

#[test]
fn only_what_changed_is_told_and_only_to_whom_it_concerns() {
    let mut world = world();
    let mut sidecar = Sidecar::default();
    let mut session = connect(&mut sidecar, &world, &[orders()]);
    let told = sidecar.pushes.len();

    write(&mut world, 5, &endpoints("prices", "10.0.0.1, region: eu"));
    sidecar.settle(&mut session, &world);
    assert_eq!((sidecar.pushes.len(), session.acknowledged()), (told, 5), "prices is none of its business");

    write(&mut world, 6, &endpoints("stock", "10.0.0.1, region: eu"));
    sidecar.settle(&mut session, &world);
    let last = sidecar.pushes.last().unwrap();
    assert_eq!((last.resources.len(), last.resources[0].version, last.revision), (1, 6, 6));

    // A route that leads elsewhere brings those endpoints, and takes the others back.
    let old = ResourceId::new("Route", "shop", "orders-stock").unwrap();
    world.change(7, old, None);
    write(&mut world, 7, &route("orders", "prices"));
    sidecar.settle(&mut session, &world);
    let [.., made, broken] = &sidecar.pushes[..] else { panic!("two pushes") };
    let gone = |push: &Push| -> Vec<_> {
        push.tombstones.iter().map(|gone| format!("{} {}", gone.kind, gone.name)).collect()
    };
    assert_eq!((made.resources.len(), gone(made)), (2, vec!["Route orders-stock".to_owned()]));
    assert_eq!((broken.resources.len(), gone(broken)), (0, vec!["EndpointSet stock".to_owned()]));
}

/// Who calls an endpoint by its own address must be known to mean a service, whoever asked for that.
#[test]
fn everybody_is_told_where_endpoints_are_and_by_need_only_how_they_are_reached() {
    let mut world = world();
    let mut sidecar = Sidecar::default();
    let mut session = connect(&mut sidecar, &world, &[]);
    let mut told = |world: &World| {
        sidecar.settle(&mut session, world);
        let push = sidecar.pushes.last().unwrap();
        let [VersionedResource { version, resource: Some(resource), endpoints, .. }] = &push.resources[..]
        else {
            panic!("one resource: {push:?}")
        };
        let id = ResourceId::of(resource.kind.as_ref().unwrap());
        let endpoints = endpoints.iter().map(|it| (it.address.clone(), it.port, it.service_port));
        (*version, id.to_string(), endpoints.collect::<Vec<_>>())
    };
    let orders = "Service shop/orders".to_owned();
    write(&mut world, 5, &endpoints("orders", "10.0.0.7, port: 8080, servicePort: 80"));
    assert_eq!(told(&world), (5, orders.clone(), vec![(vec![10, 0, 0, 7], 8080, 80)]));
    let more = endpoints("orders", "'::ffff:10.0.0.6'").replace("name: orders,", "name: more,");
    write(&mut world, 6, &more);
    let both = vec![(vec![10, 0, 0, 6], 0, 0), (vec![10, 0, 0, 7], 8080, 80)];
    assert_eq!(told(&world), (6, orders.clone(), both.clone()));
    // What changes of an endpoint besides is none of its business.
    write(&mut world, 7, &more.replace("endpoints: [{", "endpoints: [{ weight: 7,"));
    assert_eq!(told(&world), (6, orders.clone(), both));
    world.change(8, ResourceId::new("EndpointSet", "shop", "orders").unwrap(), None);
    assert_eq!(told(&world), (8, orders.clone(), vec![(vec![10, 0, 0, 6], 0, 0)]));
    // A control plane that starts anew tells the same of the same.
    let resources =
        world.resources().map(|(id, held)| (held.version.number, id.clone(), held.resource().clone()));
    let again = World::found(world.stamp(), resources.collect::<Vec<_>>());
    let hash = |world: &World| world.resources().map(|(_, held)| held.told.hash).collect::<Vec<_>>();
    assert_eq!(hash(&again), hash(&world));
}

#[test]
fn a_backend_that_gets_its_endpoints_later_is_noticed() {
    let mut world = world();
    world.change(5, ResourceId::new("EndpointSet", "shop", "stock").unwrap(), None);
    let mut sidecar = Sidecar::default();
    let mut session = connect(&mut sidecar, &world, &[orders()]);
    write(&mut world, 6, &endpoints("stock", "10.0.0.2"));
    sidecar.settle(&mut session, &world);
    assert!(sidecar.names().contains(&"EndpointSet shop/stock".to_owned()));
}

#[test]
fn a_reconnect_sends_nothing_that_is_unchanged() {
    let mut world = world();
    let mut sidecar = Sidecar::default();
    drop(connect(&mut sidecar, &world, &[orders()]));
    let told = sidecar.pushes.len();
    let mut session = Session::new(&sidecar.hello(), &sidecar.node, &world).unwrap();
    assert!(session.next(&world).is_none(), "it has not said yet what it wants");
    session.subscribe([orders()]).unwrap();
    let answer = session.next(&world).unwrap();
    assert_eq!((answer.resources.len(), answer.tombstones.len(), answer.subscribed), (0, 0, 1));
    session.ack(ack(answer.nonce)).unwrap();
    assert!(session.next(&world).is_none(), "a subscription is answered once");
    assert_eq!(session.acknowledged(), 4);
    drop(session);

    write(&mut world, 5, &endpoints("orders", "10.0.0.7"));
    world.change(6, ResourceId::new("Service", "shop", "prices").unwrap(), None);
    connect(&mut sidecar, &world, &[orders()]);
    assert_eq!(sidecar.pushes.len(), told + 1);
    let push = sidecar.pushes.last().unwrap();
    assert_eq!((push.resources.len(), push.tombstones.len(), push.subscribed), (2, 1, 1));
}

#[test]
fn a_subscription_is_answered_also_where_there_is_nothing_to_say() {
    let world = world();
    let mut sidecar = Sidecar::default();
    let mut session = connect(&mut sidecar, &world, &[]);
    for (number, name) in ["orders", "orders", "unheard-of"].into_iter().enumerate() {
        session.subscribe([Service::new("shop", name)]).unwrap();
        sidecar.settle(&mut session, &world);
        let answer = sidecar.pushes.last().unwrap();
        assert_eq!((answer.subscribed, answer.resources.is_empty()), (number as u64 + 2, number > 0));
    }
    // One that comes while a push is on its way is answered by the next one.
    session.subscribe([Service::new("shop", "stock")]).unwrap();
    let push = session.next(&world).unwrap();
    session.subscribe([Service::new("shop", "prices")]).unwrap();
    session.ack(ack(push.nonce)).unwrap();
    let next = session.next(&world).unwrap();
    assert_eq!((push.subscribed, next.subscribed), (5, 6));
    // A push of which something is refused is an answer, too.
    let name = next.resources[0].resource.as_ref().and_then(|it| it.kind.as_ref()).map(ResourceId::of);
    let refusal = Refused { name: name.as_ref().map(named), ..Refused::default() };
    session.nack(Nack { refusals: vec![refusal], ..nack(next.nonce) }, &world).unwrap();
    assert!(session.next(&world).is_none());
}

#[test]
fn changes_behind_a_slow_sidecar_are_told_as_one() {
    let mut world = world();
    let mut session = Session::new(&Hello::default(), &Node::default(), &world).unwrap();
    session.subscribe([orders()]).unwrap();
    let first = session.next(&world).unwrap();
    for revision in 5..5000 {
        write(
            &mut world,
            revision,
            &endpoints("orders", &format!("10.0.{}.{}", revision / 250, revision % 250)),
        );
        assert!(session.next(&world).is_none());
    }
    session.ack(ack(first.nonce)).unwrap();
    let second = session.next(&world).unwrap();
    assert_eq!((second.resources.len(), second.resources[0].version, second.revision), (2, 4999, 4999));
}

#[test]
fn what_was_refused_stays_away_until_its_content_changes_and_the_rest_arrives() {
    let mut world = world();
    let mut sidecar = Sidecar { refuses: true, ..Sidecar::default() };
    let mut session = connect(&mut sidecar, &world, &[orders()]);
    let bad =
        route("orders", "prices").replace("namespace: shop }", "namespace: shop, labels: { bad: yes } }");
    write(&mut world, 5, &bad);
    write(&mut world, 5, &endpoints("orders", "10.0.0.8"));
    sidecar.settle(&mut session, &world);

    let id = ResourceId::new("Route", "shop", "orders-prices").unwrap();
    assert!(!sidecar.has.contains_key(&id));
    assert_eq!(sidecar.has[&ResourceId::new("EndpointSet", "shop", "orders").unwrap()].0, 5);
    let refusal = &session.refused()[&id];
    assert_eq!((refusal.version.unwrap().number, refusal.path.as_str()), (5, "spec"));

    let told = sidecar.pushes.len();
    write(&mut world, 6, &bad);
    sidecar.settle(&mut session, &world);
    assert_eq!(sidecar.pushes.len(), told, "the same content under another revision");

    let mut session = connect(&mut sidecar, &world, &[orders()]);
    assert!(sidecar.pushes[told..].iter().all(|push| push.resources.is_empty()), "nor on another stream");
    assert_eq!(session.refused()[&id].problem, "no");

    write(&mut world, 7, &route("orders", "prices"));
    sidecar.settle(&mut session, &world);
    assert_eq!(sidecar.has[&id].0, 7);
    assert!(session.refused().is_empty());
}

#[test]
fn a_refused_route_costs_the_old_one_no_endpoints() {
    let mut world = world();
    let mut sidecar = Sidecar { refuses: true, ..Sidecar::default() };
    let mut session = connect(&mut sidecar, &world, &[orders()]);
    let bad = route("orders", "stock").replace("{ service: stock }", "{ service: prices }");
    let bad = bad.replace("namespace: shop }", "namespace: shop, labels: { bad: yes } }");
    write(&mut world, 5, &bad);
    sidecar.settle(&mut session, &world);
    write(&mut world, 6, &endpoints("stock", "10.0.0.66"));
    sidecar.settle(&mut session, &world);
    let stock = ResourceId::new("EndpointSet", "shop", "stock").unwrap();
    assert_eq!(sidecar.has[&stock].0, 6);

    write(&mut world, 7, &bad.replace("bad: yes", "good: yes"));
    sidecar.settle(&mut session, &world);
    assert!(!sidecar.has.contains_key(&stock));
}

#[test]
fn answers_to_nothing_are_refused() {
    let world = world();
    let mut session = Session::new(&Hello::default(), &Node::default(), &world).unwrap();
    session.subscribe([]).unwrap();
    assert_eq!(session.ack(ack(1)), Err(SessionError::Nonce { found: 1, expected: None }));
    let push = session.next(&world).unwrap();
    assert_eq!(session.ack(ack(99)), Err(SessionError::Nonce { found: 99, expected: Some(push.nonce) }));
    assert_eq!(session.nack(nack(push.nonce), &world), Err(SessionError::EmptyNack));
    let many = (0..=MOST_SERVICES).map(|number| Service::new("shop", number.to_string()));
    assert!(matches!(session.subscribe(many), Err(SessionError::TooMany { .. })));
    let long = [Service::new("shop", "x".repeat(LONGEST_NAME + 1))];
    assert_eq!(session.subscribe(long), Err(SessionError::LongName { found: LONGEST_NAME + 1 }));
    let held = vec![HeldResource::default(); MOST_HELD + 1];
    assert!(matches!(
        Session::new(&Hello { held, ..Hello::default() }, &Node::default(), &world),
        Err(SessionError::TooMuchHeld { .. })
    ));
}

/// Who has been told nothing for so long cannot be told what is gone; it comes back and says what it has.
#[test]
fn one_who_is_further_behind_than_is_remembered_is_sent_away() {
    let mut world = world();
    let mut sidecar = Sidecar::default();
    let mut session = connect(&mut sidecar, &world, &[]);
    write(&mut world, 5, &service("stock").replace("80", "81"));
    let push = session.next(&world).unwrap();
    for revision in 6..20_000 {
        write(&mut world, revision, &service("orders").replace("80", &(revision % 60_000 + 1).to_string()));
    }
    world.change(20_000, ResourceId::new("Service", "shop", "prices").unwrap(), None);
    sidecar.take(&mut session, push, &world);
    assert!(session.next(&world).is_none() && session.is_lost());

    connect(&mut sidecar, &world, &[]);
    assert_eq!(sidecar.names(), ["Service shop/orders", "Service shop/stock"]);
}

/// A store that was out of reach and is listed again.
#[test]
fn what_changed_while_nobody_looked_is_told_as_any_other_change() {
    let mut world = world();
    let mut sidecar = Sidecar::default();
    let mut session = connect(&mut sidecar, &world, &[orders()]);
    let mut later = World::clone(&world);
    let told = sidecar.pushes.len();
    write(&mut later, 5, &service("orders").replace("80", "81"));
    write(&mut later, 6, &service("more"));
    later.change(7, ResourceId::new("Service", "shop", "prices").unwrap(), None);
    let found =
        later.resources().map(|(id, held)| (held.version.number, id.clone(), held.resource().clone()));
    world.find(later.stamp(), found.collect::<Vec<_>>());
    sidecar.settle(&mut session, &world);
    let push = &sidecar.pushes[told];
    assert_eq!((sidecar.pushes.len(), push.resources.len(), push.tombstones.len()), (told + 1, 2, 1));
    assert_eq!((push.revision, session.acknowledged()), (7, 7));
    let versions: Vec<_> = push.resources.iter().map(|resource| resource.version).collect();
    assert_eq!(versions, [6, 5], "the revisions that wrote them");
}

/// Thousands of steps drawn by lot: whatever happens, a sidecar that has settled has exactly what it needs.
#[test]
fn a_settled_sidecar_has_what_it_needs() {
    for seed in 0..60 {
        let mut draw = fastrand::Rng::with_seed(seed);
        let names = ["a", "b", "c", "d"];
        let mut world = World::new(Stamp { epoch: EPOCH, revision: 0 });
        let mut sidecar = Sidecar { refuses: seed % 2 == 0, ..Sidecar::default() };
        let mut wanted = BTreeSet::new();
        let mut session = connect(&mut sidecar, &world, &[]);
        for step in 1..150 {
            let name = names[draw.usize(0..4)];
            let other = names[draw.usize(0..4)];
            match draw.u8(0..10) {
                0 => write(&mut world, step, &service(name)),
                1 | 2 => write(&mut world, step, &endpoints(name, &format!("10.0.0.{}", draw.u8(1..9)))),
                3 | 4 => {
                    let bad = if draw.bool() { "{ bad: yes }" } else { "{}" };
                    let labels = format!("namespace: shop, labels: {bad} }}");
                    write(&mut world, step, &route(name, other).replacen("namespace: shop }", &labels, 1));
                }
                5 => {
                    let ids: Vec<_> = world.resources().map(|(id, _)| id.clone()).collect();
                    if let Some(id) = draw.choice(ids) {
                        world.change(step, id, None);
                    }
                }
                6 => {
                    wanted.insert(Service::new("shop", name));
                    session.subscribe([Service::new("shop", name)]).unwrap();
                }
                7 => {
                    wanted.remove(&Service::new("shop", name));
                    session.unsubscribe([&Service::new("shop", name)]);
                }
                8 => {
                    session = Session::new(&sidecar.hello(), &sidecar.node, &world).unwrap();
                    session.subscribe(wanted.iter().cloned()).unwrap();
                }
                _ => {}
            }
            if draw.bool() {
                sidecar.settle(&mut session, &world);
                assert_settled(&sidecar, &session, &world, &wanted, seed);
            }
        }
    }
}

fn assert_settled(
    sidecar: &Sidecar,
    session: &Session,
    world: &World,
    wanted: &BTreeSet<Service>,
    seed: u64,
) {
    let mut needed = world.needed(wanted, &Place::default()).resources;
    needed.extend(world.everybodys().map(|(id, _)| id.clone()));
    for id in &needed {
        let resource = world.get(id).unwrap().resource();
        if sidecar.refuses && is_bad(resource) {
            assert!(session.refused().contains_key(id), "seed {seed}: {id}");
        } else {
            assert_eq!(sidecar.has.get(id).map(|(.., had)| had), Some(resource), "seed {seed}: {id}");
        }
    }
    let keeps = session.refused().keys().any(|id| id.kind == "Route");
    for id in sidecar.has.keys() {
        assert!(needed.contains(id) || (keeps && world.get(id).is_some()), "seed {seed}: {id}");
    }
}

/// It is remembered for as long as the stream lives, and shown to whoever asks for the status of all.
#[test]
fn no_more_is_kept_of_a_refusal_than_a_person_reads() {
    let world = world();
    let mut session = Session::new(&Hello::default(), &Node::default(), &world).unwrap();
    session.subscribe([orders()]).unwrap();
    let push = session.next(&world).unwrap();
    let name =
        |name: &str| ResourceName { kind: "Service".into(), namespace: "shop".into(), name: name.into() };
    let refusal = |named: ResourceName| Refused {
        name: Some(named),
        path: "p".repeat(5000),
        problem: "é".repeat(5000),
        ..Refused::default()
    };
    let refusals = vec![refusal(name("orders")), refusal(name(&"x".repeat(LONGEST_NAME + 1)))];
    session.nack(Nack { refusals: refusals.clone(), ..nack(push.nonce) }, &world).unwrap();
    let again =
        Session::new(&Hello { refused: refusals, ..Hello::default() }, &Node::default(), &world).unwrap();
    for session in [session, again] {
        let kept: Vec<_> =
            session.refused().iter().map(|(id, refusal)| (id.name.as_str(), refusal)).collect();
        let [("orders", Refusal { path, problem, .. })] = kept[..] else { panic!("{kept:?}") };
        // A whole number of letters.
        assert_eq!((path.len(), problem.len()), (LONGEST_PROBLEM, LONGEST_PROBLEM - 1));
    }
}
