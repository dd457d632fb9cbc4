//! What only holds where many requests share a connection.

use super::*;
use crate::{error::Reached, telemetry::Format};

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
    // Fewer and as many as RFC 9113 section 6.5.2 advises servers to take at least, those of hyper, and of one without a limit
    // worth the name.
    for (streams, connections) in [(1, 250..=250), (10, 25..=32), (100, 3..=4), (200, 2..=2), (10_000, 1..=1)]
    {
        over_http2(patient(), async |world| {
            world.peer.streams.set(streams);
            let held = world.hold(250).await;
            let accepted = world.peer.accepted.get();
            assert!(connections.contains(&accepted), "{streams} streams: {accepted} connections");
            world.peer.answer.notify_waiters();
            for held in held {
                held.await.unwrap().unwrap();
            }
        })
        .await;
    }
}

/// Twenty requests at once to somebody who has accepted a connection, has read the first one's head and said nothing.
async fn unanswered(world: World) -> (World, TcpListener, TcpStream, Vec<JoinHandle<Result<(), Failure>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World { address: listener.local_addr().unwrap(), ..world }.limited(2, 99);
    let asked = (0..20).map(|_| world.ask("/")).collect();
    let (mut silent, _) = listener.accept().await.unwrap();
    silent.read_exact(&mut [0; b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()]).await.unwrap();
    while frame(&mut silent).await != (HEADERS, false) {}
    (world, listener, silent, asked)
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

/// The next frame: its type, and whether it acknowledges SETTINGS.
async fn frame(stream: &mut TcpStream) -> (u8, bool) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
    (head[3], head[3] == SETTINGS && head[4] & 1 == 1)
}

#[tokio::test]
async fn before_a_peer_has_said_how_many_streams_it_takes_it_gets_one() {
    over_http2(patient(), async |world| {
        let (_world, listener, mut peer, _asked) = unanswered(world).await;
        // One at a time: the acknowledgement comes after all that was sent before it.
        peer.write_all(&[0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1]).await.unwrap();
        loop {
            match frame(&mut peer).await {
                (SETTINGS, true) => break,
                (kind, _) => assert_ne!(kind, HEADERS, "a second request"),
            }
        }
        // The next one has a connection of its own.
        let (mut next, _) = listener.accept().await.unwrap();
        next.read_exact(&mut [0; 24]).await.unwrap();
        while frame(&mut next).await != (HEADERS, false) {}
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_closes_before_it_speaks_has_got_one_request_alone() {
    over_http2(patient(), async |world| {
        let (world, listener, silent, asked) = unanswered(world).await;
        drop((silent, listener));
        let mut untouched = 0;
        for asked in asked {
            let failure = asked.await.unwrap().unwrap_err();
            let named = matches!(failure.reason, Reason::UpstreamClosed | Reason::ConnectFailed);
            assert!(named, "{failure}");
            untouched += u32::from(failure.reached == Reached::No);
        }
        assert_eq!(untouched, 19);
        assert_eq!((world.counted(|s| &s.connections), world.counted(|s| &s.pending)), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_talks_nonsense_fails_all_who_wait_for_it_by_that_name() {
    let after_settings = b"\0\0\0\x04\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    let each: [&[u8]; 3] = [&[0xff; 64], &[0; 64], after_settings];
    for nonsense in each {
        over_http2(patient(), async |world| {
            let (world, listener, mut peer, asked) = unanswered(world).await;
            peer.write_all(nonsense).await.unwrap();
            let mut untouched = 0;
            for asked in asked {
                let failure = asked.await.unwrap().unwrap_err();
                assert_eq!(failure.reason, Reason::UpstreamMalformed, "{failure}");
                untouched += u32::from(failure.reached == Reached::No);
            }
            assert_eq!(untouched, 19);
            assert!(futures_util::poll!(std::pin::pin!(listener.accept())).is_pending(), "dialled again");
            assert_eq!((world.counted(|s| &s.connections), world.counted(|s| &s.pending)), (0, 0));
        })
        .await;
    }
}

/// A peer on a thread of its own: it speaks before anything is asked, sometimes before the connection is looked at.
#[tokio::test]
async fn a_connection_that_ends_before_it_is_used_fails_its_request_and_is_not_replaced_for_it() {
    over_http2(patient(), async |world| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let world = World { address: listener.local_addr().unwrap(), ..world };
        let accepted = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counted = Arc::clone(&accepted);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                std::io::Write::write_all(&mut stream, &[0xff; 64]).ok();
                open.push(stream);
            }
        });
        for asked in 1..=200 {
            let failure = world.get("/", None).await.unwrap_err();
            assert_eq!(failure.reason, Reason::UpstreamMalformed, "{failure}");
            let accepted = accepted.load(std::sync::atomic::Ordering::Relaxed);
            assert!(accepted <= asked, "dialled {accepted} times for {asked} requests");
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_taken_for_one_that_takes_many_streams() {
    let connect_timeout = Duration::from_millis(200);
    over_http2(UpstreamLimits { connect_timeout, ..patient() }, async |world| {
        let (world, _listener, mut silent, asked) = unanswered(world).await;
        assert_eq!(world.counted(|s| &s.pending), 19);
        for _ in 1..20 {
            while frame(&mut silent).await != (HEADERS, false) {}
        }
        assert!(asked.iter().all(|asked| !asked.is_finished()));
        assert_eq!((world.counted(|s| &s.connections), world.counted(|s| &s.pending)), (1, 0));
    })
    .await;
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
