//! The two ends of a policy stream against each other, without a stream: the control plane's session and the sidecar's
//! subscriber, in thousands of random steps of a world that is wrong in every way, with lost connections and restarts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use fastrand::Rng;
use trama_control_plane::{
    distribute::{Session, parts},
    model::{Place, Service, World, told_hash},
    store::Stamp,
};
use trama_proto::{
    Problems,
    discovery::v1::{Hello, Node, Push, ResourceName, ServiceName, SidecarMessage, sidecar_message::Message},
    document::{Document, Resource, ResourceId},
};
use trama_sidecar::{
    config::{
        convert::{Extent, Local, convert_part},
        snapshot::{Snapshot, state::Registry},
    },
    discovery::{Parts, Subscriber},
};

const SEEDS: u64 = 60;
const STEPS: u64 = 150;
/// About the most bytes of a part of a push: of a few resources there are several.
const PART: usize = 200;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn compile(documents: &[&Document], extent: Extent<'_>, number: u64) -> Result<Snapshot, Problems> {
    convert_part(documents, extent, &Local::default(), &mut Registry::default(), number)
}

/// A sidecar that serves whatever has an endpoint there.
fn node() -> Node {
    Node { namespace: "shop".into(), addresses: vec![vec![10, 0, 0, 1]], ..Node::default() }
}

fn place() -> Place {
    Place { namespace: "shop".into(), addresses: vec![[10, 0, 0, 1].into()], ..Place::default() }
}

fn id_of(name: &ResourceName) -> ResourceId {
    ResourceId::new(&name.kind, &name.namespace, &name.name).unwrap()
}

/// Both ends, and what is on its way between them.
struct Pair {
    world: World,
    revision: u64,
    session: Session,
    subscriber: Subscriber,
    /// In parts.
    pushes: VecDeque<Push>,
    parts: Parts,
    said: VecDeque<SidecarMessage>,
    /// What the sidecar was told last of each resource; `None`: its end.
    told: BTreeMap<ResourceId, Option<[u8; 32]>>,
    /// The policy in force.
    snapshot: Option<Snapshot>,
}

impl Pair {
    /// A sidecar that knows nothing yet.
    fn new(world: World) -> Self {
        let session = Session::new(&Hello::default(), &node(), &world).unwrap();
        let subscriber = Subscriber::new(BTreeSet::from([Arc::from("shop/a")]));
        let (pushes, parts, said) = Default::default();
        let (revision, told) = (world.stamp().revision, BTreeMap::new());
        let snapshot = None;
        let mut pair = Self { world, revision, session, subscriber, pushes, parts, said, told, snapshot };
        pair.connect();
        pair
    }

    /// A new stream. What was on its way is lost.
    fn connect(&mut self) {
        self.pushes.clear();
        self.parts = Parts::default();
        let [hello, subscribe] = self.subscriber.begin(node());
        let Some(Message::Hello(hello)) = hello.message else { panic!("a Hello") };
        self.session = Session::new(&hello, &node(), &self.world).unwrap();
        self.said = VecDeque::from([subscribe]);
    }

    /// The sidecar's process ends, and begins with what it had kept.
    fn restart(&mut self) {
        let kept = self.subscriber.kept();
        self.subscriber = Subscriber::of_kept(&kept, BTreeSet::from([Arc::from("shop/a")])).unwrap();
        self.subscriber.restore(compile).ok();
        self.connect();
    }

    fn change(&mut self, id: ResourceId, resource: Option<Resource>) {
        self.revision += 1;
        self.world.change(self.revision, id, resource);
    }

    /// The control plane hears one message and says what it has to say. Whether anything happened.
    fn control(&mut self) -> bool {
        let said = self.said.pop_front();
        let heard = said.is_some();
        let services =
            |services: Vec<ServiceName>| services.into_iter().map(|it| Service::new(it.namespace, it.name));
        match said.and_then(|said| said.message) {
            Some(Message::Subscribe(it)) => self.session.subscribe(services(it.services)).unwrap(),
            Some(Message::Unsubscribe(it)) => {
                self.session.unsubscribe(&services(it.services).collect::<Vec<_>>());
            }
            Some(Message::Ack(it)) => self.session.ack(it).unwrap(),
            Some(Message::Nack(it)) => self.session.nack(it, &self.world).unwrap(),
            Some(Message::Hello(_)) => panic!("a second Hello"),
            Some(Message::Told(_)) => panic!("nothing was asked"),
            None => {}
        }
        let push = self.session.next(&self.world);
        let pushed = push.is_some();
        self.pushes.extend(push.into_iter().flat_map(|push| parts(push, PART)));
        heard || pushed
    }

    /// The sidecar takes a part of a push. Whether there was one.
    fn sidecar(&mut self) -> bool {
        let Some(part) = self.pushes.pop_front() else { return false };
        let Some(push) = self.parts.add(part).unwrap() else { return true };
        for pushed in &push.resources {
            let resource = pushed.resource.as_ref().unwrap().kind.as_ref().unwrap();
            let id = ResourceId::of(resource);
            let told = Some(told_hash(resource, &pushed.endpoints));
            let before = self.told.insert(id.clone(), told);
            assert_ne!(before, Some(told), "{id} is told again");
        }
        for name in &push.tombstones {
            let before = self.told.insert(id_of(name), None);
            assert!(matches!(before, Some(Some(_))), "the end of {name:?} is told again");
        }
        let answer = self.subscriber.push(push, compile).unwrap();
        self.snapshot = Some(answer.snapshot.expect("what can be used makes a policy"));
        self.said.extend(answer.messages);
        true
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !(self.control() | self.sidecar()) {
                return;
            }
        }
        panic!("they never agree");
    }

    /// Nothing is on its way: both know the same of each other, and the sidecar uses all that can be used.
    fn agree(&self) {
        let hello = self.subscriber.hello(node());
        let held: BTreeMap<_, _> =
            hello.held.iter().map(|it| (id_of(it.name.as_ref().unwrap()), it.hash.clone())).collect();
        let refused: BTreeMap<_, _> =
            hello.refused.iter().map(|it| (id_of(it.name.as_ref().unwrap()), it.hash.clone())).collect();
        let known: BTreeMap<_, _> = self
            .session
            .refused()
            .iter()
            .map(|(id, it)| (id.clone(), it.version.map_or_else(Vec::new, |version| version.hash.to_vec())))
            .collect();
        assert_eq!(known, refused, "the control plane knows what is refused");

        let mut needed = self.world.needed(self.session.services(), &place()).resources;
        needed.extend(self.world.everybodys().map(|(id, _)| id.clone()));
        for id in &needed {
            let told = refused.get(id).or_else(|| held.get(id));
            let is = self.world.get(id).unwrap().told.hash.to_vec();
            assert_eq!(told, Some(&is), "{id}: {refused:?}");
        }
        let keeps = refused.keys().any(|id| id.kind == "Route" && needed.contains(id));
        for id in held.keys().chain(refused.keys()).filter(|id| !needed.contains(id)) {
            let ends = refused.get(id).is_some_and(Vec::is_empty);
            assert!(ends || (keeps && self.world.get(id).is_some()), "{id} is none of its business");
        }
        let documents: Vec<_> = needed.iter().map(|id| self.received(id)).collect();
        let good = documents.iter().all(Option::is_some) && {
            let documents: Vec<_> = documents.iter().flatten().collect();
            compile(&documents, Extent::Whole, 1).is_ok()
        };
        if good {
            assert!(refused.is_empty(), "all is good: {:#?}", hello.refused);
            assert!(held.keys().eq(&needed));
        }
    }

    /// Calls to a service of whose routes one is refused are not carried as if there were none.
    fn serves_nothing_without_what_is_refused(&self) {
        let snapshot = self.snapshot.as_ref().unwrap();
        for name in self.subscriber.hello(node()).refused.into_iter().filter_map(|refused| refused.name) {
            let Some(held) = self.world.get(&id_of(&name)).filter(|_| name.kind == "Route") else { continue };
            let Resource::Route(route) = held.resource() else { continue };
            for parent in &route.spec.as_ref().unwrap().parent_refs {
                let label = Arc::from(format!("shop/{}", parent.service));
                let ports =
                    [80, 81].into_iter().filter_map(|port| snapshot.destinations.of_name(&label, port));
                ports.for_each(|port| assert!(!port.whole, "{label} without {name:?}"));
            }
        }
    }

    fn received(&self, id: &ResourceId) -> Option<Document> {
        Document::received("the world", self.world.get(id)?.resource().clone()).ok()
    }

    /// Takes away whatever is wrong with the world.
    fn mend(&mut self) {
        loop {
            let ids: Vec<_> = self.world.resources().map(|(id, _)| id.clone()).collect();
            let (good, unreadable): (Vec<_>, Vec<_>) =
                ids.into_iter().partition(|id| self.received(id).is_some());
            unreadable.into_iter().for_each(|id| self.change(id, None));
            let documents: Vec<_> = good.iter().filter_map(|id| self.received(id)).collect();
            let documents: Vec<_> = documents.iter().collect();
            let Err(problems) = compile(&documents, Extent::Whole, 1) else { return };
            for id in good {
                if problems.0.iter().any(|problem| problem.resource == id.to_string()) {
                    self.change(id, None);
                }
            }
        }
    }
}

/// A resource drawn by lot, good or bad by itself or together with others.
fn drawn(draw: &mut Rng) -> Resource {
    let (name, other) = (NAMES[draw.usize(0..4)], NAMES[draw.usize(0..4)]);
    let number = draw.u8(1..5);
    let port = 80 + draw.u8(0..2);
    let (kind, name, spec) = match draw.u8(0..14) {
        0..=2 => {
            let ports =
                if draw.bool() { "[{ port: 80 }]" } else { "[{ port: 80, name: x }, { port: 81, name: y }]" };
            ("Service", name.to_owned(), format!("ports: {ports}, addresses: [10.9.0.{number}]"))
        }
        3 | 4 => (
            "EndpointSet",
            name.to_owned(),
            format!("service: {name}, endpoints: [{{ address: 10.0.0.{number} }}]"),
        ),
        5..=8 => {
            let retry = if draw.u8(0..4) == 0 { ", retry: { conditions: [CONNECT_FAILURE] }" } else { "" };
            let path = format!("matches: [{{ path: {{ value: /{number} }} }}]");
            let rules = format!("[{{ {path}, backendRefs: [{{ service: {other}, port: {port} }}]{retry} }}]");
            (
                "Route",
                format!("{name}-{}", draw.u8(0..2)),
                format!("parentRefs: [{{ service: {name} }}], rules: {rules}"),
            )
        }
        9 | 10 => {
            let more = if draw.u8(0..3) == 0 { ", manualRegion: eu" } else { "" };
            (
                "RegionalPolicy",
                format!("{name}{}", draw.u8(0..2)),
                format!("service: {name}, residency: {{ allow: [r{number}] }}{more}"),
            )
        }
        11 | 12 => {
            let direction = if draw.bool() { "INBOUND" } else { "OUTBOUND" };
            let ranges = if draw.u8(0..3) == 0 { "" } else { "allow: [10.0.0.0/8]" };
            let filters = format!("[{{ sources: {{ {ranges} }} }}]");
            (
                "PluginChain",
                format!("{name}{}", draw.u8(0..2)),
                format!("service: {name}, direction: {direction}, filters: {filters}"),
            )
        }
        _ => (
            "MeshSettings",
            format!("mesh{}", draw.u8(0..2)),
            format!("inbound: {{ strictPorts: [{number}] }}"),
        ),
    };
    let text = format!("kind: {kind}\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ {spec} }}\n");
    let mut resource =
        Document::parse("drawn", &text).unwrap_or_else(|found| panic!("{text}{found:?}")).remove(0).resource;
    if let Resource::EndpointSet(set) = &mut resource
        && draw.u8(0..4) == 0
    {
        // What no file could hold.
        set.spec.as_mut().unwrap().endpoints[0].address = "\0".to_owned();
    }
    resource
}

#[test]
fn they_agree_whatever_happens_and_nothing_is_told_twice() {
    for seed in 0..SEEDS {
        let mut draw = Rng::with_seed(seed);
        let mut pair = Pair::new(World::new(Stamp { epoch: 1, revision: 0 }));
        for _ in 0..STEPS {
            match draw.u8(0..20) {
                0..=5 => {
                    let resource = drawn(&mut draw);
                    pair.change(ResourceId::of(&resource), Some(resource));
                }
                6..=8 => {
                    let ids: Vec<_> = pair.world.resources().map(|(id, _)| id.clone()).collect();
                    if let Some(id) = draw.choice(ids) {
                        pair.change(id, None);
                    }
                }
                9 => {
                    let label = format!("shop/{}", NAMES[draw.usize(0..4)]);
                    pair.said.extend(pair.subscriber.want([Arc::from(label)]));
                }
                10 => pair.connect(),
                11 => pair.restart(),
                12..=14 => drop(pair.control()),
                15..=17 => drop(pair.sidecar()),
                _ => {
                    pair.settle();
                    pair.agree();
                }
            }
        }
        let mut fresh = Pair::new(pair.world.clone());
        for name in NAMES {
            fresh.said.extend(fresh.subscriber.want([Arc::from(format!("shop/{name}"))]));
        }
        fresh.settle();
        fresh.agree();
        fresh.serves_nothing_without_what_is_refused();

        pair.mend();
        pair.settle();
        pair.agree();
        let refused = pair.subscriber.hello(node()).refused;
        assert!(refused.is_empty(), "seed {seed}: {refused:#?}");
    }
}
