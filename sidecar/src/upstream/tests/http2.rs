//! What only holds where many requests share a connection.

use super::*;
use crate::telemetry::Format;

#[tokio::test]
async fn another_connection_is_opened_at_four_fifths_of_the_peers_streams() {
    over_http2(patient(), async |world| {
        world.get("/", None).await.unwrap();
        let first = world.hold(8).await;
        assert_eq!(world.peer.accepted.get(), 1);
        let next = world.hold(1).await;
        until("there is another one", || world.peer.accepted.get() == 2).await;
        let labels = r#"{direction="outbound",peer="upstream",tls="none"} 2"#;
        let scrape = || world.hub.scrape(Format::Prometheus);
        until("both are counted", || {
            scrape().contains(&format!("trama_connections_opened_total{labels}"))
                && scrape().contains(&format!("trama_connections_active{labels}"))
        })
        .await;
        drop((first, next));
    })
    .await;
}

#[tokio::test]
async fn a_burst_on_a_cold_pool_is_carried_whole() {
    // What RFC 9113 section 6.5.2 advises servers to allow at least, hyper's servers, and one without a limit worth the name.
    for streams in [100, 200, 10_000] {
        over_http2(patient(), async |world| {
            world.peer.streams.set(streams);
            let held = world.hold(250).await;
            assert!((1..=5).contains(&world.peer.accepted.get()), "{}", world.peer.accepted.get());
            world.peer.answer.notify_waiters();
            for held in held {
                held.await.unwrap().unwrap();
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_slow_peer_that_answers_others_meanwhile_keeps_its_connection() {
    over_http2(patient(), async |world| {
        let slow = world.clone();
        let late = async move { slow.get("/hold", Some(Duration::from_millis(500))).await };
        let late = tokio::task::spawn_local(late);
        until("it is there", || world.peer.holding.get() == 1).await;
        world.get("/", None).await.unwrap();
        refused(late.await.unwrap(), Reason::BackendRequestTimeout, "500ms");
        world.get("/", None).await.unwrap();
        assert_eq!(world.peer.accepted.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_says_goaway_finishes_what_it_has_and_gets_the_rest_on_another_connection() {
    for limits in [patient(), UpstreamLimits { connections_per_endpoint: 1, ..patient() }] {
        over_http2(limits, async |world| {
            for world in [world.clone(), World::new(true, limits).await.limited(1, 9)] {
                let held = world.hold(1).await;
                world.peer.leave.notify_waiters();
                let deadline = Instant::now() + Duration::from_secs(20);
                while world.peer.accepted.get() == 1 {
                    assert!(Instant::now() < deadline, "no other connection is opened");
                    world.get("/", None).await.unwrap();
                }
                world.get("/", None).await.unwrap();
                assert_eq!((world.peer.accepted.get(), world.upstream.open_connections()), (2, 2));
                world.peer.answer.notify_waiters();
                for held in held {
                    held.await.unwrap().unwrap();
                }
                until("the first one closes", || world.upstream.open_connections() == 1).await;
                world.get("/", None).await.unwrap();
                assert_eq!(world.peer.accepted.get(), 2);
            }
        })
        .await;
    }
}

#[tokio::test]
async fn who_waits_for_a_stream_of_a_peer_that_says_goaway_gets_one_of_another_connection() {
    over_http2(patient(), async |world| {
        let world = world.limited(1, 9);
        world.get("/", None).await.unwrap();
        let _held = world.hold(10).await;
        let waits = [world.ask("/"), world.ask("/")];
        until("both wait", || world.counted(|s| &s.pending) == 2).await;
        world.peer.leave.notify_waiters();
        until("the sweep has seen it", || {
            world.upstream.sweep(Instant::now());
            waits.iter().all(JoinHandle::is_finished)
        })
        .await;
        for waits in waits {
            waits.await.unwrap().unwrap();
        }
        assert_eq!((world.peer.accepted.get(), world.peer.holding.get()), (2, 10));
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_sends_every_connection_away_is_not_asked_without_end() {
    over_http2(UpstreamLimits { connections_per_endpoint: 2, ..patient() }, async |world| {
        let mut held = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        for connections in 1..=4 {
            held.extend(world.hold(1).await);
            assert_eq!(world.peer.accepted.get(), connections);
            world.peer.leave.notify_waiters();
            while connections < 4 && world.peer.accepted.get() == connections {
                assert!(Instant::now() < deadline, "no other connection is opened");
                world.get("/", None).await.unwrap();
            }
        }
        let late = loop {
            let late = world.get("/", Some(Duration::from_millis(100))).await;
            if late.is_err() || Instant::now() > deadline {
                break late;
            }
        };
        refused(late, Reason::BackendRequestTimeout, "100ms");
        assert_eq!(world.peer.accepted.get(), 4, "twice the limit, and no more");
    })
    .await;
}
