//! The policy stream over real sockets: what is told, to whom, and who is shown the door.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tokio::time::timeout;
use tonic::Code;
use trama_proto::discovery::v1::sidecar_message::Message;
use trama_proto::discovery::v1::{
    Ack, HeldResource, Hello, Node, Push, Refusal, ResourceName, Subscribe, control_message,
};
use trama_tests::control_plane::{ControlPlane, Stream, held, names};
use trama_tests::mesh::PATIENCE;

fn service(name: &str) -> String {
    format!(
        "kind: Service\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ ports: [{{ port: 80 }}] }}\n---\n"
    )
}

fn endpoints(name: &str, address: &str) -> String {
    format!(
        "kind: EndpointSet\nmetadata: {{ name: {name}, namespace: shop }}\n\
         spec: {{ service: {name}, endpoints: [{{ address: {address} }}] }}\n---\n"
    )
}

/// Two services with an endpoint each.
async fn shop() -> ControlPlane {
    let control = ControlPlane::start().await;
    control
        .apply(&["orders", "prices"].map(|name| service(name) + &endpoints(name, "10.0.0.1")).concat())
        .await
        .unwrap();
    control
}

#[tokio::test]
async fn a_change_reaches_whom_it_concerns_and_nobody_else() {
    let control = shop().await;
    let mut stream = control.stream(&control.joined("shop", "storefront").await).await;
    stream.subscribe(&[("shop", "orders")]);
    let first = stream.take().await;
    assert_eq!(names(&first), ["EndpointSet shop/orders", "Service shop/orders", "Service shop/prices"]);

    control.apply(&endpoints("prices", "10.0.0.7")).await.unwrap();
    let push = stream.take().await;
    assert_eq!(
        names(&push),
        ["Service shop/prices"],
        "where its endpoints are, and not how they are reached"
    );
    assert_eq!(push.resources[0].endpoints[0].address, [10, 0, 0, 7]);
    control.apply(&endpoints("prices", "10.0.0.7, weight: 7")).await.unwrap();
    let applied = control.apply(&endpoints("orders", "10.0.0.1, weight: 7")).await.unwrap().stamp.unwrap();
    let push = stream.take().await;
    assert_eq!(names(&push), ["EndpointSet shop/orders"], "and nothing of prices before it");
    assert_eq!((push.epoch, push.revision), (applied.epoch, applied.revision));
    assert!(push.revision > first.revision && push.nonce > first.nonce);

    let shown =
        control.sidecar("the acknowledgement", |sidecar| sidecar.acknowledged == applied.revision).await;
    assert_eq!(shown.node.unwrap().name, "storefront");
    assert_eq!(shown.services.len(), 1);
    assert!(shown.acknowledged_in > 0 && shown.connected_at > 0);
    assert_eq!(control.metric("trama_control_streams").await, 1.0);
}

#[tokio::test]
async fn a_reconnect_is_sent_nothing_that_it_holds() {
    let control = shop().await;
    let storefront = control.joined("shop", "storefront").await;
    let mut stream = control.stream(&storefront).await;
    stream.subscribe(&[("shop", "orders")]);
    let held = held(&stream.take().await);
    assert_eq!(held.len(), 3);
    drop(stream);

    let hello = Hello { node: Some(storefront.node()), held, ..Hello::default() };
    let channel = control.channel(Some(&storefront)).await.unwrap();
    let mut again = Stream::open_with(channel, hello).await.unwrap();
    again.subscribe(&[("shop", "orders")]);
    let push = again.take().await;
    assert_eq!((names(&push), push.tombstones.len()), (vec![], 0), "the answer to the subscription is empty");
    control.apply(&endpoints("orders", "10.0.0.1, weight: 7")).await.unwrap();
    assert_eq!(names(&again.take().await), ["EndpointSet shop/orders"]);
}

#[tokio::test]
async fn a_refusal_shows_with_its_path_and_is_not_sent_again() {
    let control = shop().await;
    let storefront = control.joined("shop", "storefront").await;
    let mut stream = control.stream(&storefront).await;
    stream.subscribe(&[("shop", "orders")]);
    stream.take().await;

    control.apply(&(endpoints("orders", "10.0.0.1, weight: 9") + &service("stock"))).await.unwrap();
    let push = stream.next().await.unwrap();
    assert_eq!(names(&push), ["EndpointSet shop/orders", "Service shop/stock"]);
    let name = ResourceName { kind: "EndpointSet".into(), namespace: "shop".into(), name: "orders".into() };
    let path = "spec.endpoints[0].address".to_owned();
    let problem = "no route to it".to_owned();
    let refusal = Refusal { name: Some(name), path, problem, ..Refusal::default() };
    stream.nack(&push, refusal);
    control.apply(&service("more")).await.unwrap();
    assert_eq!(names(&stream.take().await), ["Service shop/more"], "the rest is in use");

    let shown = control.sidecar("the refusal", |sidecar| !sidecar.refusals.is_empty()).await;
    let refusal = shown.refusals[0].clone();
    assert_eq!(
        (refusal.path.as_str(), refusal.problem.as_str()),
        ("spec.endpoints[0].address", "no route to it")
    );
    assert_eq!(refusal.version, push.resources[0].version);

    // On another stream neither, if its Hello says so; and Status shows it there too.
    drop(stream);
    control.sidecar_gone().await;
    let hello = Hello { node: Some(storefront.node()), refused: vec![refusal], ..Hello::default() };
    let mut again =
        Stream::open_with(control.channel(Some(&storefront)).await.unwrap(), hello).await.unwrap();
    again.subscribe(&[("shop", "orders")]);
    assert!(!names(&again.take().await).contains(&"EndpointSet shop/orders".to_owned()));
    control.sidecar("the refusal of before", |sidecar| sidecar.refusals.len() == 1).await;

    control.apply(&endpoints("orders", "10.0.0.1, weight: 10")).await.unwrap();
    assert_eq!(names(&again.take().await), ["EndpointSet shop/orders"], "another content is another matter");
    control.sidecar("no refusal any more", |sidecar| sidecar.refusals.is_empty()).await;
}

#[tokio::test]
async fn one_who_is_somebody_else_is_refused() {
    let control = shop().await;
    let storefront = control.joined("shop", "storefront").await;
    let nobody = control.channel(None).await.unwrap();
    let refused = Stream::open(nobody, storefront.node()).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);

    for node in [
        Node { identity: trama_tests::control_plane::identity("shop", "orders"), ..storefront.node() },
        Node { namespace: "bank".into(), ..storefront.node() },
        Node::default(),
    ] {
        let channel = control.channel(Some(&storefront)).await.unwrap();
        let mut stream = Stream::open(channel, node).await.unwrap();
        stream.subscribe(&[]);
        assert_eq!(stream.end().await.code(), Code::PermissionDenied);
    }
    assert_eq!(control.metric("trama_control_streams_ended_total{reason=\"foreign_hello\"}").await, 3.0);
    assert_eq!(control.metric("trama_control_streams_ended_total{reason=\"unauthenticated\"}").await, 1.0);
}

#[tokio::test]
async fn one_who_makes_no_sense_is_refused() {
    let control = shop().await;
    let storefront = control.joined("shop", "storefront").await;
    let channel = control.channel(Some(&storefront)).await.unwrap();
    let mut early = Stream::silent(channel.clone()).await.unwrap();
    early.subscribe(&[]);
    assert_eq!(early.end().await.code(), Code::InvalidArgument);

    let mut wrong = Stream::open(channel.clone(), storefront.node()).await.unwrap();
    wrong.say(Message::Ack(Ack { nonce: 7, ..Ack::default() }));
    let ended = wrong.end().await;
    assert_eq!((ended.code(), ended.message().contains("nonce 7")), (Code::InvalidArgument, true));

    let mut later = Stream::open(channel.clone(), storefront.node()).await.unwrap();
    later.say_nothing();
    later.subscribe(&[]);
    later.take().await;
    assert_eq!(control.metric("trama_control_messages_unknown_total").await, 1.0);

    let mut twice = Stream::open(channel, storefront.node()).await.unwrap();
    twice.say(Message::Hello(Hello { node: Some(storefront.node()), ..Hello::default() }));
    assert_eq!(twice.end().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn one_who_floods_or_never_speaks_is_shown_the_door_and_others_are_served() {
    let more = "limits: { messagesPerSecond: 5 }\ntimeouts: { hello: 2s }\n";
    let control = ControlPlane::start_with(more).await;
    let good = control.joined("shop", "good").await;
    let mut served = control.stream(&good).await;
    served.subscribe(&[]);
    served.take().await;

    let bad = control.joined("shop", "bad").await;
    let mut flood = control.stream(&bad).await;
    for _ in 0..1000 {
        flood.say(Message::Unsubscribe(Default::default()));
    }
    assert_eq!(flood.end().await.code(), Code::ResourceExhausted);
    let mut silent = Stream::silent(control.channel(Some(&bad)).await.unwrap()).await.unwrap();
    assert_eq!(silent.end().await.code(), Code::DeadlineExceeded);
    assert_eq!(control.metric("trama_control_streams_ended_total{reason=\"flood\"}").await, 1.0);
    assert_eq!(control.metric("trama_control_streams_ended_total{reason=\"no_hello\"}").await, 1.0);

    control.apply(&service("orders")).await.unwrap();
    assert_eq!(names(&served.take().await), ["Service shop/orders"]);
}

#[tokio::test]
async fn a_slow_consumer_holds_up_nobody_and_is_sent_away() {
    let control = ControlPlane::start_with("timeouts: { acknowledge: 2s }\n").await;
    let mut slow = control.stream(&control.joined("shop", "slow").await).await;
    slow.subscribe(&[]);
    slow.next().await.unwrap();
    let mut quick = control.stream(&control.joined("shop", "quick").await).await;
    quick.subscribe(&[]);
    quick.take().await;
    for number in 0..20 {
        control.apply(&service(&format!("s{number}"))).await.unwrap();
        assert_eq!(names(&quick.take().await), [format!("Service shop/s{number}")]);
    }
    assert_eq!(slow.end().await.code(), Code::DeadlineExceeded);
    assert_eq!(control.metric("trama_control_streams_ended_total{reason=\"slow\"}").await, 1.0);
}

#[tokio::test]
async fn there_are_no_more_streams_than_allowed_and_no_larger_messages() {
    let control = ControlPlane::start_with("limits: { streams: 1, messageBytes: 65536 }\n").await;
    let storefront = control.joined("shop", "storefront").await;
    let channel = control.channel(Some(&storefront)).await.unwrap();
    let mut only = Stream::open(channel.clone(), storefront.node()).await.unwrap();
    only.subscribe(&[]);
    only.take().await;
    let refused = Stream::open(channel, storefront.node()).await.err().unwrap();
    assert_eq!(
        (refused.code(), refused.message().contains("limits.streams")),
        (Code::ResourceExhausted, true)
    );

    let name = |number: usize| trama_proto::discovery::v1::ServiceName {
        namespace: "shop".into(),
        name: format!("{number:0100}"),
    };
    only.say(Message::Subscribe(Subscribe { services: (0..1000).map(name).collect() }));
    only.end().await;
    assert_eq!(control.metric("trama_control_streams_ended_total{reason=\"limit\"}").await, 2.0);
}

#[tokio::test]
async fn the_end_is_said_and_what_was_held_is_not_sent_again_afterwards() {
    let mut control = shop().await;
    let storefront = control.joined("shop", "storefront").await;
    let mut stream = control.stream(&storefront).await;
    stream.subscribe(&[("shop", "orders")]);
    let first = stream.take().await;
    control.stop().await;
    assert_eq!(stream.end().await.code(), Code::Unavailable);

    control.begin().await;
    let hello = Hello { node: Some(storefront.node()), held: held(&first), ..Hello::default() };
    let mut again =
        Stream::open_with(control.channel(Some(&storefront)).await.unwrap(), hello).await.unwrap();
    again.subscribe(&[("shop", "orders")]);
    let push = again.take().await;
    assert_eq!((names(&push), push.epoch), (vec![], first.epoch));
    assert!(push.revision >= first.revision);
}

#[tokio::test]
async fn one_who_lies_about_what_it_holds_gets_too_little_and_harms_nobody_else() {
    let control = shop().await;
    let honest = control.joined("shop", "honest").await;
    let mut stream = control.stream(&honest).await;
    stream.subscribe(&[("shop", "orders")]);
    let held = held(&stream.take().await);

    // What it never had, contents that there never were, and what is no resource at all.
    let liar = control.joined("shop", "liar").await;
    let mut lies = held.clone();
    lies[1].hash = vec![7; 32];
    lies[2].hash = vec![7; 5];
    let nothing = ResourceName { kind: "Nothing".into(), namespace: "shop".into(), name: "x".into() };
    lies.push(HeldResource { name: Some(nothing), version: u64::MAX, hash: vec![7; 32] });
    let gone = ResourceName { kind: "Route".into(), namespace: "shop".into(), name: "none".into() };
    lies.push(HeldResource { name: Some(gone), version: u64::MAX, hash: vec![7; 32] });
    lies.push(HeldResource::default());
    let hello = Hello { node: Some(liar.node()), held: lies, ..Hello::default() };
    let channel = control.channel(Some(&liar)).await.unwrap();
    let mut lied = Stream::open_with(channel.clone(), hello).await.unwrap();
    lied.subscribe(&[("shop", "orders")]);
    let push = lied.take().await;
    assert_eq!(
        names(&push),
        ["Service shop/orders", "Service shop/prices"],
        "the first it is believed to have"
    );
    assert_eq!(push.tombstones.len(), 1);
    assert_eq!(push.tombstones[0].name, "none");

    // More than there can be.
    let many = Hello { node: Some(liar.node()), held: vec![held[0].clone(); 100_001], ..Hello::default() };
    let mut refused = Stream::open_with(channel, many).await.unwrap();
    let ended = refused.end().await;
    assert_eq!(
        (ended.code(), ended.message().contains("100001")),
        (Code::ResourceExhausted, true),
        "{ended:?}"
    );
    assert_eq!(control.metric("trama_control_streams_ended_total{reason=\"limit\"}").await, 1.0);

    control.apply(&endpoints("orders", "10.0.0.1, weight: 7")).await.unwrap();
    for mut stream in [stream, lied] {
        assert_eq!(names(&stream.take().await), ["EndpointSet shop/orders"]);
    }
}

#[tokio::test]
async fn roots_are_told_to_whom_the_control_plane_gave_them_now_and_when_they_change() {
    let lengths = "{ lifetime: 4s, rootLifetime: 8s, overlap: 4s, clockSkew: 1s }";
    let control = ControlPlane::start_with(&format!("certificates: {lengths}\n")).await;
    let storefront = control.joined("shop", "storefront").await;
    let open = async |roots: Vec<Vec<u8>>| {
        let hello = Hello { node: Some(storefront.node()), roots, ..Hello::default() };
        Stream::open_with(control.channel(Some(&storefront)).await.unwrap(), hello).await.unwrap()
    };
    let bundle = control.token(&storefront.node().identity, 0).await.bundle;
    let mut knows = open(storefront.root_digests()).await;
    let mut behind = open(vec![vec![7; 32]]).await;
    let mut own = open(Vec::new()).await;
    let told = |said| match said {
        control_message::Message::Roots(roots) => roots.certificates,
        other => panic!("{other:?}"),
    };
    assert_eq!(told(timeout(PATIENCE, behind.hear()).await.unwrap().unwrap()), bundle);
    // At half of its life the first root gets a successor.
    for stream in [&mut knows, &mut behind] {
        let roots = told(timeout(PATIENCE, stream.hear()).await.unwrap().unwrap());
        assert_eq!((roots.len(), roots.contains(&bundle[0])), (2, true));
    }
    own.subscribe(&[]);
    own.take().await;
}

#[tokio::test]
async fn what_a_sidecar_of_an_earlier_version_does_not_know_shows_in_status() {
    let control = shop().await;
    let mut stream = control.stream(&control.joined("shop", "storefront").await).await;
    stream.subscribe(&[("shop", "orders")]);
    let push = stream.next().await.unwrap();
    let route = push.resources.iter().zip(names(&push)).find(|(_, name)| name.starts_with("EndpointSet"));
    let (not_known, name) = route.unwrap();
    let ack = |push: &Push, not_understood| Ack { nonce: push.nonce, not_understood, ..Ack::default() };
    // What it was never told is nothing that it could be too old for.
    stream.say(Message::Ack(ack(&push, vec![not_known.hash.clone(), vec![7; 32]])));
    let shown = control.sidecar("it", |sidecar| !sidecar.not_understood.is_empty()).await.not_understood;
    let named = shown[0].name.as_ref().unwrap();
    assert_eq!((shown.len(), format!("{} {}/{}", named.kind, named.namespace, named.name)), (1, name));
    assert_eq!((shown[0].version, &shown[0].hash), (not_known.version, &not_known.hash));

    control.apply(&endpoints("orders", "10.0.0.1, weight: 7")).await.unwrap();
    stream.take().await;
    control.sidecar("all is known", |sidecar| sidecar.not_understood.is_empty()).await;
}

#[tokio::test]
async fn a_tombstone_that_is_refused_holds_up_nothing_else() {
    let control = shop().await;
    let mut stream = control.stream(&control.joined("shop", "storefront").await).await;
    stream.subscribe(&[("shop", "orders")]);
    stream.take().await;
    control.delete("EndpointSet", "prices").await;
    stream.take().await;
    control.delete("Service", "prices").await;
    let push = stream.next().await.unwrap();
    assert_eq!((names(&push).len(), push.tombstones.len()), (0, 1));
    let problem = "Route shop/old: a route of before still leads there".to_owned();
    let name = push.tombstones[0].clone();
    stream.nack(&push, Refusal { name: Some(name.clone()), problem, ..Refusal::default() });
    let shown = control.sidecar("the refusal", |sidecar| !sidecar.refusals.is_empty()).await;
    assert_eq!((shown.refusals[0].version, shown.refusals[0].name.as_ref()), (0, Some(&name)));

    control.apply(&service("stock")).await.unwrap();
    let push = stream.next().await.unwrap();
    assert_eq!((names(&push), push.tombstones.len()), (vec!["Service shop/stock".to_owned()], 0));
    stream.say(Message::Ack(Ack { nonce: push.nonce, recovered: vec![name], ..Ack::default() }));
    control.sidecar("no refusal any more", |sidecar| sidecar.refusals.is_empty()).await;
}
