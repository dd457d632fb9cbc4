//! Pushes good and bad, in every order.

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message as _;
use trama_proto::{
    discovery::v1::{ControlMessage, ResourceName, ServiceName, VersionedResource},
    policy::v1,
};

use super::*;
use crate::{
    config::{
        convert::{Local, convert_part},
        snapshot::{AppProtocol, Destination, FilterSpec, UnknownDestination, state::Registry},
    },
    discovery::stream::held::Version,
};

const ORDERS: &str = "shop/orders";

fn compile(documents: &[&Document], extent: Extent<'_>, number: u64) -> Result<Snapshot, Problems> {
    convert_part(documents, extent, &Local::default(), &mut Registry::default(), number)
}

fn service(name: &str) -> String {
    format!(
        "kind: Service\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ ports: [{{ port: 80 }}] }}\n"
    )
}

fn endpoints(name: &str, address: &str) -> String {
    format!(
        "kind: EndpointSet\nmetadata: {{ name: {name}, namespace: shop }}\n\
         spec: {{ service: {name}, endpoints: [{{ address: {address} }}] }}\n"
    )
}

fn route(name: &str, rule: &str) -> String {
    format!(
        "kind: Route\nmetadata: {{ name: {name}, namespace: shop }}\n\
         spec: {{ parentRefs: [{{ service: orders }}], rules: [{rule}] }}\n"
    )
}

/// The next push of a control plane at epoch 1: its revision, its resources, what is gone, what is answered.
fn push(revision: u64, documents: &[String], gone: &[(&str, &str)], subscribed: u64) -> Push {
    let documents = Document::parse("test", &documents.join("---\n")).unwrap();
    let resources = documents.into_iter().map(|document| VersionedResource {
        version: revision,
        resource: Some(v1::Resource { kind: Some(document.resource) }),
        ..VersionedResource::default()
    });
    let tombstones = gone.iter().map(|(kind, name)| ResourceName {
        kind: (*kind).to_owned(),
        namespace: "shop".to_owned(),
        name: (*name).to_owned(),
    });
    Push {
        epoch: 1,
        revision,
        nonce: revision + 100,
        resources: resources.collect(),
        tombstones: tombstones.collect(),
        subscribed,
        more: false,
    }
}

/// One that holds two services and asked for nothing yet.
fn begun() -> Subscriber {
    let mut subscriber = Subscriber::new(BTreeSet::new());
    subscriber.begin(Node::default());
    take(&mut subscriber, push(1, &[service("orders"), service("prices")], &[], 1));
    subscriber
}

fn take(subscriber: &mut Subscriber, push: Push) -> Snapshot {
    let nonce = push.nonce;
    let answer = subscriber.push(push, compile).unwrap();
    assert_eq!(answer.messages[0], message(Message::Ack(Ack { nonce, ..Ack::default() })));
    assert!(answer.refused.is_none());
    answer.snapshot.unwrap()
}

/// What is refused of a push, as name, path and problem; and what is in force then.
fn refuse(subscriber: &mut Subscriber, push: Push) -> (Vec<(String, String, String)>, Snapshot) {
    let nonce = push.nonce;
    let answer = subscriber.push(push, compile).unwrap();
    assert!(answer.refused.is_some_and(|problems| !problems.0.is_empty()));
    let [SidecarMessage { message: Some(Message::Nack(nack)) }] = &answer.messages[..] else {
        panic!("a refusal: {:?}", answer.messages)
    };
    assert_eq!((nack.nonce, nack.recovered.len()), (nonce, 0));
    let name =
        |refusal: &Refusal| refusal.name.as_ref().map(|it| format!("{} {}", it.kind, it.name)).unwrap();
    let refused = nack.refusals.iter().map(|it| (name(it), it.path.clone(), it.problem.clone()));
    (refused.collect(), answer.snapshot.unwrap())
}

/// What was refused and is in use with this push.
fn recovered(subscriber: &mut Subscriber, push: Push) -> Vec<String> {
    let answer = subscriber.push(push, compile).unwrap();
    let Some(Message::Ack(Ack { recovered, .. })) = &answer.messages[0].message else {
        panic!("an acknowledgement: {:?}", answer.messages)
    };
    recovered.iter().map(|name| format!("{} {}", name.kind, name.name)).collect()
}

fn names(subscriber: &Subscriber) -> Vec<String> {
    subscriber.state.resources.keys().map(|id| format!("{} {}", id.kind, id.name)).collect()
}

fn hello(messages: [SidecarMessage; 2]) -> (Hello, Vec<String>) {
    let [SidecarMessage { message: Some(Message::Hello(hello)) }, subscribe] = messages else {
        panic!("a Hello")
    };
    (hello, subscribed(&subscribe))
}

fn subscribed(said: &SidecarMessage) -> Vec<String> {
    let Some(Message::Subscribe(Subscribe { services })) = &said.message else {
        panic!("a Subscribe: {said:?}")
    };
    services.iter().map(|ServiceName { namespace, name }| format!("{namespace}/{name}")).collect()
}

fn is_whole(snapshot: &Snapshot, label: &str) -> bool {
    snapshot.destinations.of_name(&label.into(), 80).unwrap().whole
}

#[test]
fn names_come_first_and_the_rest_when_it_is_asked_for() {
    let mut subscriber = begun();
    assert!(!is_whole(&subscriber.restore(compile).unwrap(), ORDERS));
    let asked = subscriber.want([ORDERS.into(), ORDERS.into()]).unwrap();
    assert_eq!(subscribed(&asked), [ORDERS]);
    assert!(subscriber.want([ORDERS.into()]).is_none(), "it is asked for once");
    // A push that was on its way before it was heard is no answer.
    let snapshot = take(&mut subscriber, push(2, &[endpoints("orders", "10.0.0.1")], &[], 1));
    assert!(!is_whole(&snapshot, ORDERS));
    let snapshot = take(&mut subscriber, push(2, &[], &[], 2));
    assert!(is_whole(&snapshot, ORDERS) && !is_whole(&snapshot, "shop/prices"));
    assert_eq!(snapshot.revision.number, 2);
}

#[test]
fn a_new_stream_says_what_is_held_and_asks_for_everything_again() {
    let mut subscriber = Subscriber::new(BTreeSet::from(["shop/own".into()]));
    let (first, asked) = hello(subscriber.begin(Node::default()));
    assert!(first.held.is_empty());
    assert_eq!(asked, ["shop/own"]);
    take(&mut subscriber, push(1, &[service("orders"), endpoints("orders", "10.0.0.1")], &[], 1));
    subscriber.want([ORDERS.into()]);
    let (again, asked) = hello(subscriber.begin(Node::default()));
    let names: Vec<_> = again.held.iter().map(|held| held.name.as_ref().unwrap().kind.as_str()).collect();
    assert_eq!((names, again.held[0].version), (vec!["EndpointSet", "Service"], 1));
    assert_eq!(asked, [ORDERS, "shop/own"]);
    // What was asked on the old stream is answered by the first answer on the new one.
    assert!(is_whole(&take(&mut subscriber, push(1, &[], &[], 1)), ORDERS));
}

#[test]
fn what_is_older_is_refused_and_the_same_is_not() {
    let mut subscriber = begun();
    take(&mut subscriber, push(7, &[endpoints("orders", "10.0.0.1")], &[], 1));
    let before = subscriber.state.encode();
    let older = subscriber.push(push(6, &[endpoints("orders", "10.0.0.6")], &[], 1), compile).unwrap_err();
    assert_eq!(older.to_string(), "a push of epoch 1 and revision 6 is older than what is held (1 and 7)");
    assert_eq!(subscriber.state.encode(), before);
    take(&mut subscriber, push(7, &[endpoints("prices", "10.0.0.2")], &[], 1));
    // What was refused counts as well: the one after it must not be older than it.
    refuse(&mut subscriber, push(9, &[route("r", "{ retry: { conditions: [CONNECT_FAILURE] } }")], &[], 1));
    assert!(subscriber.push(push(8, &[], &[], 1), compile).is_err());
    // A store that started afresh.
    take(&mut subscriber, Push { epoch: 2, ..push(1, &[], &[], 1) });
    assert!(subscriber.push(push(10, &[], &[], 1), compile).is_err());
}

#[test]
fn what_cannot_be_used_is_refused_by_resource_and_field_and_the_rest_of_the_push_is_in_use() {
    let mut subscriber = begun();
    let bad = route("bad", "{ backendRefs: [{ service: nowhere }, { service: nobody }] }");
    let (refused, _) =
        refuse(&mut subscriber, push(2, &[endpoints("orders", "10.0.0.1"), bad.clone()], &[], 1));
    let [(name, path, problem)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!((name.as_str(), path.as_str()), ("Route bad", "spec.rules[0].backendRefs[0].service"));
    assert!(problem.starts_with("no such service in namespace `shop`, got \"nowhere\"; "), "{problem}");
    assert!(problem.ends_with("(and 1 more)"), "{problem}");
    assert_eq!(names(&subscriber), ["EndpointSet orders", "Service orders", "Service prices"]);
    // A new stream says what was refused; a push that changes nothing about it does not name it again.
    take(&mut subscriber, push(3, &[endpoints("orders", "10.0.0.2")], &[], 1));
    let (said, _) = hello(subscriber.begin(Node::default()));
    let [refusal] = &said.refused[..] else { panic!("{:?}", said.refused) };
    assert_eq!((refusal.version, refusal.hash.len()), (2, 32));
    // Its new content makes it good.
    take(&mut subscriber, push(4, &[route("bad", "{ backendRefs: [{ service: prices }] }")], &[], 1));
    assert!(hello(subscriber.begin(Node::default())).0.refused.is_empty());
}

#[test]
fn what_was_refused_is_in_use_once_something_else_makes_it_good() {
    let mut subscriber = begun();
    let early = route("early", "{ backendRefs: [{ service: nowhere }] }");
    let hopeless = route("hopeless", "{ retry: { conditions: [CONNECT_FAILURE] } }");
    assert_eq!(refuse(&mut subscriber, push(2, &[early, hopeless], &[], 1)).0.len(), 2);
    // Not even a restart loses it.
    let mut again = Subscriber::of_kept(&subscriber.kept(), BTreeSet::new()).unwrap();
    again.restore(compile).unwrap();
    let refused = |subscriber: &Subscriber| -> Vec<_> {
        let refused = subscriber.hello(Node::default()).refused;
        refused.into_iter().map(|it| (it.name, it.version, it.hash, it.path)).collect()
    };
    assert_eq!(refused(&again), refused(&subscriber));
    for mut subscriber in [subscriber, again] {
        assert_eq!(recovered(&mut subscriber, push(3, &[service("nowhere")], &[], 1)), ["Route early"]);
        assert!(names(&subscriber).contains(&"Route early".to_owned()));
        // And an end makes an end of it.
        assert!(recovered(&mut subscriber, push(4, &[], &[("Route", "hopeless")], 1)).is_empty());
        assert!(hello(subscriber.begin(Node::default())).0.refused.is_empty());
    }
}

#[test]
fn what_no_file_could_hold_is_refused_by_its_field() {
    let mut subscriber = begun();
    let mut garbage = push(2, &[endpoints("orders", "10.0.0.1")], &[], 1);
    let Some(v1::resource::Kind::EndpointSet(set)) =
        garbage.resources[0].resource.as_mut().and_then(|it| it.kind.as_mut())
    else {
        panic!("endpoints")
    };
    set.spec.as_mut().unwrap().endpoints[0].address = "\0".to_owned();
    let (refused, _) = refuse(&mut subscriber, garbage);
    assert_eq!(refused[0].1, "spec.endpoints[0].address");
}

#[test]
fn an_end_that_breaks_what_stays_is_refused_with_what_it_breaks_and_the_innocent_are_not() {
    let mut subscriber = begun();
    take(&mut subscriber, push(2, &[route("r", "{ backendRefs: [{ service: prices }] }")], &[], 1));
    let more = [service("stock"), endpoints("orders", "10.0.0.1"), endpoints("stock", "10.0.0.2")];
    let gone = [("Service", "prices")];
    let (refused, _) = refuse(&mut subscriber, push(3, &more, &gone, 1));
    let [(held, path, problem), (ended, nothing, why)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!((held.as_str(), path.as_str()), ("Route r", "spec.rules[0].backendRefs[0].service"));
    assert!(problem.starts_with("no such service"), "{problem}");
    assert_eq!((ended.as_str(), nothing.as_str()), ("Service prices", ""));
    assert!(why.starts_with("Route shop/r: spec.rules[0].backendRefs[0].service: no such service"), "{why}");
    assert!(names(&subscriber).contains(&"EndpointSet stock".to_owned()), "the rest is in use");
    let (said, _) = hello(subscriber.begin(Node::default()));
    assert_eq!(said.refused.iter().map(|it| it.hash.len()).collect::<Vec<_>>(), [32, 0]);
    // With the route the service goes, too.
    let elsewhere = route("r", "{ backendRefs: [{ service: stock }] }");
    assert_eq!(recovered(&mut subscriber, push(4, &[elsewhere], &[], 1)), ["Service prices"]);
    assert!(!names(&subscriber).contains(&"Service prices".to_owned()));
}

#[test]
fn a_change_that_breaks_what_stays_is_refused_and_so_is_one_of_two_that_contradict_each_other() {
    let mut subscriber = begun();
    let port = |port: u16| service("prices").replace("port: 80", &format!("port: {port}"));
    take(&mut subscriber, push(2, &[route("r", "{ backendRefs: [{ service: prices, port: 80 }] }")], &[], 1));
    let (refused, _) = refuse(&mut subscriber, push(3, &[service("a"), port(81), service("z")], &[], 1));
    let names_of = |refused: &[(String, String, String)]| -> Vec<String> {
        refused.iter().map(|(name, ..)| name.clone()).collect()
    };
    assert_eq!(names_of(&refused), ["Route r", "Service prices"]);
    // `a` takes an address of `z`, which changes too: not `z` is the one to be refused.
    let at = |name: &str| service(name).replace("spec: {", "spec: { addresses: [10.9.9.9],");
    take(&mut subscriber, push(4, &[at("z")], &[], 1));
    let other = at("z").replace("port: 80", "port: 80, appProtocol: HTTP");
    let (refused, snapshot) = refuse(&mut subscriber, push(5, &[at("a"), other], &[], 1));
    assert_eq!(names_of(&refused), ["Service a"]);
    let destination = snapshot.destinations.of_address("10.9.9.9:80".parse().unwrap());
    let service = destination.service().unwrap();
    assert_eq!((&*service.service.label, service.protocol), ("shop/z", AppProtocol::Http1));
}

#[test]
fn a_push_that_is_wrong_in_very_many_ways_is_refused_in_a_bounded_number_of_attempts() {
    let mut subscriber = begun();
    let names: Vec<_> = (0..200).map(|number| format!("s{number}")).collect();
    let services: Vec<_> = names.iter().map(|name| service(name)).collect();
    let routes: Vec<_> = names
        .iter()
        .map(|name| {
            route(
                name,
                &format!(
                    "{{ matches: [{{ path: {{ value: /{name} }} }}], backendRefs: [{{ service: {name} }}] }}"
                ),
            )
        })
        .collect();
    take(&mut subscriber, push(2, &[services, routes].concat(), &[], 1));
    let gone: Vec<_> = names.iter().map(|name| ("Service", name.as_str())).collect();
    let mut compiled = 0;
    let answer = subscriber.push(push(3, &[], &gone, 1), |documents, extent, number| {
        compiled += 1;
        compile(documents, extent, number)
    });
    assert!(answer.unwrap().refused.is_some());
    assert!(compiled <= 66, "{compiled}");
    assert_eq!(self::names(&subscriber).len(), 2 + 400, "what held stays");
}

#[test]
fn nonsense_ends_the_stream_and_changes_nothing() {
    let mut subscriber = begun();
    let before = subscriber.state.encode();
    let twice = push(2, &[service("a")], &[], 1).resources[0].clone();
    for (nonsense, words) in [
        (
            Push { resources: vec![twice.clone(), twice], ..push(2, &[], &[], 1) },
            "Service shop/a is in it twice",
        ),
        (push(2, &[service("a")], &[("Service", "a")], 1), "Service shop/a is both there and gone"),
    ] {
        let fault = subscriber.push(nonsense, compile).unwrap_err().to_string();
        assert!(fault.contains(words), "{fault}");
        assert_eq!(subscriber.state.encode(), before);
    }
    take(&mut subscriber, push(2, &[], &[], 1));
}

/// As protobuf wants it: what a later version says besides is passed over, and what is understood counts.
#[test]
fn what_a_later_version_says_besides_is_ignored_and_counted() {
    let mut subscriber = begun();
    let mut later = push(2, &[service("a")], &[("Nonsense", "b")], 1);
    later.resources.push(VersionedResource { version: 2, ..VersionedResource::default() });
    let mut bytes = later.encode_to_vec();
    // Field 111, of one byte.
    bytes.extend([0xfa, 0x06, 1, 7]);
    let answer = subscriber.push(Push::decode(&bytes[..]).unwrap(), compile).unwrap();
    assert_eq!((answer.not_understood, answer.refused.is_none()), (2, true));
    assert!(names(&subscriber).contains(&"Service a".to_owned()));
    // Field 15 of the messages themselves.
    assert_eq!(ControlMessage::decode(&[0x7a, 1, 7][..]).unwrap().message, None);
    assert_eq!(SidecarMessage::decode(&[0x7a, 1, 7][..]).unwrap().message, None);
}

/// What is not known may be a restriction: the control plane must hear that it is not in force.
#[test]
fn what_is_not_wholly_known_is_named_by_its_hash_and_in_use_as_far_as_it_is_known() {
    let mut subscriber = begun();
    let mut later = push(2, &[service("a"), service("b")], &[], 1);
    for told in &mut later.resources {
        told.hash = Version::of(told).hash.to_vec();
    }
    // Field 111 of one byte in `a`, and one of a kind of its own.
    let mut bytes = later.resources[0].resource.as_ref().unwrap().encode_to_vec();
    bytes.extend([0xfa, 0x06, 1, 7]);
    let of_a = digest(&SHA256, &bytes).as_ref().to_vec();
    later.resources[0].resource = Some(v1::Resource::decode(&bytes[..]).unwrap());
    later.resources[0].hash = of_a.clone();
    later.resources.push(VersionedResource { version: 2, hash: vec![7; 32], ..VersionedResource::default() });
    let nonce = later.nonce;
    let answer = subscriber.push(later, compile).unwrap();
    let not_understood = vec![of_a, vec![7; 32]];
    let ack = Ack { nonce, not_understood, ..Ack::default() };
    assert_eq!((&answer.messages[0], answer.not_understood), (&message(Message::Ack(ack)), 2));
    assert_eq!(names(&subscriber)[..2], ["Service a", "Service b"]);
}

#[test]
fn a_service_that_is_gone_is_wanted_no_more_until_somebody_asks_again() {
    let mut subscriber = begun();
    subscriber.want([ORDERS.into()]);
    take(&mut subscriber, push(2, &[endpoints("orders", "10.0.0.1")], &[], 2));
    let gone = [("Service", "orders"), ("EndpointSet", "orders")];
    let answer = subscriber.push(push(3, &[], &gone, 2), compile).unwrap();
    let services = vec![service_name(ORDERS)];
    assert_eq!(answer.messages[1..], [message(Message::Unsubscribe(Unsubscribe { services }))]);
    let snapshot = take(&mut subscriber, push(4, &[service("orders")], &[], 2));
    assert!(!is_whole(&snapshot, ORDERS), "it may have another policy now");
    assert!(subscriber.want([ORDERS.into()]).is_some());
}

#[test]
fn what_is_kept_is_what_was_held() {
    let mut subscriber = begun();
    subscriber.want([ORDERS.into()]);
    take(&mut subscriber, push(5, &[endpoints("orders", "10.0.0.1")], &[], 2));
    let kept = subscriber.kept();
    let mut again = Subscriber::of_kept(&kept, BTreeSet::new()).unwrap();
    assert_eq!(again.kept(), kept);
    assert!(is_whole(&again.restore(compile).unwrap(), ORDERS));
    let (said, asked) = hello(again.begin(Node::default()));
    assert_eq!((said.held.len(), asked), (3, vec![ORDERS.to_owned()]));
    assert!(again.push(push(4, &[], &[], 1), compile).is_err(), "older than what is on disk");
    for other in [&b"kind: Service\n"[..], b"", &kept[..kept.len() - 1]] {
        assert!(Subscriber::of_kept(other, BTreeSet::new()).is_err());
    }
}

#[test]
fn no_more_is_asked_for_than_a_control_plane_takes() {
    let mut subscriber = begun();
    let labels = (0..2 * MOST_SERVICES).map(|number| Arc::from(format!("shop/{number}")));
    assert_eq!(subscribed(&subscriber.want(labels).unwrap()).len(), MOST_SERVICES);
    assert!(subscriber.want(["shop/one-more".into()]).is_none());
}

/// What a sidecar of the service `orders` knows of it, in a mesh where all is well.
fn well() -> Vec<String> {
    let of = |name: &str, address: &str| [service(name), endpoints(name, address)];
    [of("orders", "10.0.0.1"), of("prices", "10.0.0.2")].concat()
}

/// One that begins with this, and what is refused of it.
fn fresh(documents: &[String], change: impl FnOnce(&mut Push)) -> (Subscriber, Snapshot, usize) {
    let mut subscriber = Subscriber::new(BTreeSet::from([ORDERS.into()]));
    subscriber.begin(Node::default());
    let mut push = push(1, documents, &[], 1);
    change(&mut push);
    let answer = subscriber.push(push, compile).unwrap();
    let refused = subscriber.refused.len();
    (subscriber, answer.snapshot.unwrap(), refused)
}

fn bad_chain(direction: &str) -> String {
    format!(
        "kind: PluginChain\nmetadata: {{ name: c, namespace: shop }}\n\
         spec: {{ service: orders, direction: {direction}, filters: [{{ sources: {{}} }}] }}\n"
    )
}

fn bad_policy(service: &str) -> String {
    format!(
        "kind: RegionalPolicy\nmetadata: {{ name: p, namespace: shop }}\n\
         spec: {{ service: {service}, residency: {{ allow: [eu] }}, manualRegion: eu }}\n"
    )
}

fn bad_authorization(service: &str) -> String {
    format!(
        "kind: AuthzPolicy\nmetadata: {{ name: a, namespace: shop }}\n\
         spec: {{ {service}action: DENY, rules: [{{ paths: ['/a*b*'] }}] }}\n"
    )
}

/// Whether calls to `orders` are carried, and whether a caller of it is let in.
fn serves(snapshot: &Snapshot) -> (bool, bool) {
    let source = "10.0.0.9".parse().unwrap();
    let chain = snapshot.destinations.inbound("10.0.0.1:80".parse().unwrap(), ORDERS);
    let filters = chain.into_iter().flat_map(|chain| &chain.0);
    let let_in = filters.into_iter().all(|filter| match filter {
        FilterSpec::Sources(ranges) => ranges.permits(source),
        _ => true,
    });
    (is_whole(snapshot, ORDERS), let_in)
}

/// Whether regions may serve a service.
fn is_placed(snapshot: &Snapshot, label: &str) -> bool {
    !snapshot.destinations.of_name(&label.into(), 80).unwrap().cluster.regions.is_empty()
}

#[test]
fn what_never_was_in_force_is_not_served_without_what_is_refused_of_it() {
    let hopeless = || route("r", "{ retry: { conditions: [CONNECT_FAILURE] } }");
    for (bad, served) in [
        (hopeless(), (false, true)),
        (bad_chain("OUTBOUND"), (false, true)),
        (bad_chain("INBOUND"), (true, false)),
        (bad_authorization("service: orders, "), (true, false)),
        (bad_authorization(""), (true, false)),
        (bad_policy("orders"), (true, true)),
    ] {
        let (mut subscriber, snapshot, refused) = fresh(&[well(), vec![bad.clone()]].concat(), |_| ());
        assert_eq!((refused, serves(&snapshot)), (1, served), "{bad}");
        assert_eq!(is_placed(&snapshot, ORDERS), !bad.contains("Regional"), "{bad}");
        // Not after a restart either, nor after a push of something else.
        let mut again = Subscriber::of_kept(&subscriber.kept(), BTreeSet::new()).unwrap();
        let snapshot = again.restore(compile).unwrap();
        assert_eq!((serves(&snapshot), is_placed(&snapshot, ORDERS)), (served, !bad.contains("Regional")));
        let snapshot = take(&mut again, push(2, &[service("stock")], &[], 0));
        assert_eq!(serves(&snapshot), served, "{bad}");
        // Once it is gone, or good.
        let gone = Document::parse("test", &bad).unwrap().remove(0).id;
        let snapshot = take(&mut subscriber, push(3, &[], &[(gone.kind, &gone.name)], 1));
        assert_eq!((serves(&snapshot), is_placed(&snapshot, ORDERS)), ((true, true), true), "{bad}");

        // What was served goes on.
        let (mut subscriber, snapshot, _) = fresh(&well(), |_| ());
        assert_eq!(serves(&snapshot), (true, true));
        let (_, snapshot) = refuse(&mut subscriber, push(2, &[bad], &[], 1));
        assert_eq!((serves(&snapshot), is_placed(&snapshot, ORDERS)), ((true, true), true));
        let mut again = Subscriber::of_kept(&subscriber.kept(), BTreeSet::new()).unwrap();
        assert_eq!(serves(&again.restore(compile).unwrap()), (true, true));
    }
}

#[test]
fn a_route_leads_to_no_service_whose_regions_are_refused() {
    let leads = route("r", "{ backendRefs: [{ service: prices }] }");
    let (_, snapshot, refused) = fresh(&[well(), vec![leads, bad_policy("prices")]].concat(), |_| ());
    assert_eq!((refused, serves(&snapshot)), (1, (true, true)));
    assert!(is_placed(&snapshot, ORDERS) && !is_placed(&snapshot, "shop/prices"));
}

#[test]
fn a_service_that_is_refused_is_not_taken_for_nobody() {
    let addressed = service("stock").replace("spec: {", "spec: { addresses: [10.9.9.9],");
    let (_, snapshot, refused) = fresh(&[well(), vec![addressed]].concat(), |push| {
        let Some(v1::resource::Kind::Service(stock)) =
            push.resources.last_mut().and_then(|it| it.resource.as_mut()).and_then(|it| it.kind.as_mut())
        else {
            panic!("a service")
        };
        // Of a later version.
        stock.spec.as_mut().unwrap().ports[0].app_protocol = 99;
    });
    assert_eq!(refused, 1);
    let means = |address: &str| snapshot.destinations.of_address(address.parse().unwrap());
    assert!(matches!(means("10.9.9.9:80"), Destination::Pending(service) if &*service == "shop/stock"));
    assert!(matches!(means("10.9.9.8:80"), Destination::External));
}

#[test]
fn settings_of_the_mesh_that_are_refused_let_nothing_pass_plainly() {
    let settings = "kind: MeshSettings\nmetadata: { name: mesh, namespace: shop }\nspec: { inbound: {} }\n";
    let later = |push: &mut Push| {
        let Some(v1::resource::Kind::MeshSettings(mesh)) =
            push.resources.last_mut().and_then(|it| it.resource.as_mut()).and_then(|it| it.kind.as_mut())
        else {
            panic!("settings")
        };
        mesh.spec.as_mut().unwrap().unknown_destination = 99;
    };
    let (_, snapshot, refused) = fresh(&[well(), vec![settings.to_owned()]].concat(), later);
    assert_eq!((refused, snapshot.mesh.strict, snapshot.mesh.unknown), (1, true, UnknownDestination::Refuse));
    let (mut subscriber, snapshot, _) = fresh(&well(), |_| ());
    assert!(!snapshot.mesh.strict);
    let mut bad = push(2, &[settings.to_owned()], &[], 1);
    later(&mut bad);
    assert!(!refuse(&mut subscriber, bad).1.mesh.strict, "what was served goes on");
}
