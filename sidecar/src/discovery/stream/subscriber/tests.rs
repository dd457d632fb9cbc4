//! Pushes good and bad, in every order.

use trama_proto::{
    discovery::v1::{ResourceName, ServiceName},
    policy::v1,
};

use super::*;
use crate::config::{
    convert::{Local, convert_part},
    snapshot::state::Registry,
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
    }
}

/// One that holds two services and asked for nothing yet.
fn begun() -> Subscriber {
    let mut subscriber = Subscriber::new(State::default(), BTreeSet::new());
    subscriber.begin(Node::default());
    take(&mut subscriber, push(1, &[service("orders"), service("prices")], &[], 1));
    subscriber
}

fn take(subscriber: &mut Subscriber, push: Push) -> Snapshot {
    let nonce = push.nonce;
    let answer = subscriber.push(push, compile).unwrap();
    assert_eq!(answer.messages[0], message(Message::Ack(Ack { nonce })));
    answer.result.unwrap()
}

/// What is refused of a push, as name, path and problem.
fn refuse(subscriber: &mut Subscriber, push: Push) -> Vec<(String, String, String)> {
    let before = subscriber.state.encode();
    let nonce = push.nonce;
    let answer = subscriber.push(push, compile).unwrap();
    assert!(answer.result.is_err());
    assert_eq!(subscriber.state.encode(), before, "nothing of it is in use");
    let [SidecarMessage { message: Some(Message::Nack(nack)) }] = &answer.messages[..] else {
        panic!("a refusal: {:?}", answer.messages)
    };
    assert_eq!(nack.nonce, nonce);
    let name =
        |refusal: &Refusal| refusal.name.as_ref().map(|it| format!("{} {}", it.kind, it.name)).unwrap();
    nack.refusals.iter().map(|it| (name(it), it.path.clone(), it.problem.clone())).collect()
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
    assert!(!is_whole(&subscriber.compiled(compile).unwrap(), ORDERS));
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
    let mut subscriber = Subscriber::new(State::default(), BTreeSet::from(["shop/own".into()]));
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
fn what_cannot_be_used_is_refused_by_resource_and_field_and_nothing_of_the_push_is_in_use() {
    let mut subscriber = begun();
    let bad = route("bad", "{ backendRefs: [{ service: nowhere }, { service: nobody }] }");
    let refused = refuse(&mut subscriber, push(2, &[endpoints("orders", "10.0.0.1"), bad.clone()], &[], 1));
    let [(name, path, problem)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!((name.as_str(), path.as_str()), ("Route bad", "spec.rules[0].backendRefs[0].service"));
    assert!(problem.starts_with("no such service in namespace `shop`, got \"nowhere\"; "), "{problem}");
    assert!(problem.ends_with("(and 1 more)"), "{problem}");
    // The rest comes without it, and a new stream says what was refused.
    take(&mut subscriber, push(2, &[endpoints("orders", "10.0.0.1")], &[], 1));
    let (said, _) = hello(subscriber.begin(Node::default()));
    let [refusal] = &said.refused[..] else { panic!("{:?}", said.refused) };
    assert_eq!((refusal.version, refusal.hash.len()), (2, 32));
    // Its new content makes it good.
    take(&mut subscriber, push(3, &[route("bad", "{ backendRefs: [{ service: prices }] }")], &[], 1));
    assert!(hello(subscriber.begin(Node::default())).0.refused.is_empty());
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
    let refused = refuse(&mut subscriber, garbage);
    assert_eq!(refused[0].1, "spec.endpoints[0].address");
}

#[test]
fn an_end_that_breaks_what_stays_is_refused_by_its_name() {
    let mut subscriber = begun();
    take(&mut subscriber, push(2, &[route("r", "{ backendRefs: [{ service: prices }] }")], &[], 1));
    let refused = refuse(&mut subscriber, push(3, &[], &[("Service", "prices")], 1));
    let [(name, path, problem)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!((name.as_str(), path.as_str()), ("Service prices", ""));
    assert!(
        problem.starts_with("Route shop/r: spec.rules[0].backendRefs[0].service: no such service"),
        "{problem}"
    );
}

#[test]
fn nonsense_ends_the_stream_and_changes_nothing() {
    let mut subscriber = begun();
    let before = subscriber.state.encode();
    let kindless = VersionedResource { version: 1, resource: None };
    let twice = push(2, &[service("a")], &[], 1).resources[0].clone();
    for (nonsense, words) in [
        (Push { resources: vec![kindless], ..push(2, &[], &[], 1) }, "resource 0 has no kind"),
        (
            Push { resources: vec![twice.clone(), twice], ..push(2, &[], &[], 1) },
            "Service shop/a is in it twice",
        ),
        (push(2, &[service("a")], &[("Service", "a")], 1), "Service shop/a is both there and gone"),
        (push(2, &[], &[("Nonsense", "a")], 1), "unknown kind \"Nonsense\""),
    ] {
        let fault = subscriber.push(nonsense, compile).unwrap_err().to_string();
        assert!(fault.contains(words), "{fault}");
        assert_eq!(subscriber.state.encode(), before);
    }
    take(&mut subscriber, push(2, &[], &[("Nonsense-free", "a")][..0], 1));
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
    let mut again = Subscriber::new(State::decode(&kept).unwrap(), BTreeSet::new());
    assert_eq!(again.kept(), kept);
    assert!(is_whole(&again.compiled(compile).unwrap(), ORDERS));
    let (said, asked) = hello(again.begin(Node::default()));
    assert_eq!((said.held.len(), asked), (3, vec![ORDERS.to_owned()]));
    assert!(again.push(push(4, &[], &[], 1), compile).is_err(), "older than what is on disk");
    for other in [&b"kind: Service\n"[..], b"", &kept[..kept.len() - 1]] {
        assert!(State::decode(other).is_err());
    }
}

#[test]
fn no_more_is_asked_for_than_a_control_plane_takes() {
    let mut subscriber = begun();
    let labels = (0..2 * MOST_SERVICES).map(|number| Arc::from(format!("shop/{number}")));
    assert_eq!(subscribed(&subscriber.want(labels).unwrap()).len(), MOST_SERVICES);
    assert!(subscriber.want(["shop/one-more".into()]).is_none());
}
