//! What holds for HTTP/1, HTTP/2 and opaque connections alike.

use super::*;
use crate::error::Reached;

#[tokio::test]
async fn what_idled_or_aged_is_closed() {
    let seconds = Duration::from_secs;
    let idle = UpstreamLimits { idle_timeout: seconds(100), ..patient() };
    let aged = UpstreamLimits { max_age: seconds(100), ..patient() };
    for limits in [idle, aged] {
        in_both(limits, async |world| {
            world.get("/", None).await.unwrap();
            world.upstream.sweep(Instant::now() + seconds(85));
            world.get("/", None).await.unwrap();
            assert_eq!((world.peer.accepted.get(), world.upstream.open_connections()), (1, 1));
            world.upstream.sweep(Instant::now() + seconds(101));
            until("it is closed", || world.peer.open.get() == 0).await;
            until("it is forgotten", || world.upstream.open_connections() == 0).await;
            world.get("/", None).await.unwrap();
            assert_eq!(world.peer.accepted.get(), 2);
        })
        .await;
    }
}

#[tokio::test]
async fn a_busy_connection_that_aged_takes_no_new_request() {
    let max_age = Duration::from_millis(300);
    in_both(UpstreamLimits { max_age, ..patient() }, async |world| {
        let held = world.hold(1).await;
        let began = Instant::now();
        until("it is old", || began.elapsed() > max_age).await;
        world.upstream.sweep(Instant::now());
        world.peer.answer.notify_waiters();
        for held in held {
            held.await.unwrap().unwrap();
        }
        world.get("/", None).await.unwrap();
        assert_eq!(world.peer.accepted.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn beyond_the_limits_a_request_waits_and_beyond_those_it_fails_with_the_limits_name() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 1);
        world.get("/", None).await.unwrap();
        let held = world.hold(if world.http2 { 10 } else { 1 }).await;
        assert_eq!((world.peer.accepted.get(), world.counted(|s| &s.connections)), (1, 1));
        let waits = world.ask("/");
        until("one waits", || world.counted(|s| &s.pending) == 1).await;
        refused(world.get("/", None).await, Reason::CircuitOpen, "maxPending");
        waits.abort();
        until("who gave up waits no more", || world.counted(|s| &s.pending) == 0).await;
        let waits = world.ask("/");
        until("another one waits", || world.counted(|s| &s.pending) == 1).await;
        world.peer.answer.notify_waiters();
        waits.await.unwrap().unwrap();
        for held in held {
            held.await.unwrap().unwrap();
        }
        assert_eq!((world.peer.accepted.get(), world.counted(|s| &s.pending)), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn who_waits_has_the_place_of_a_connection_that_died() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 9);
        world.get("/", None).await.unwrap();
        let held = world.hold(if world.http2 { 10 } else { 1 }).await;
        let waits = [world.ask("/"), world.ask("/")];
        until("both wait", || world.counted(|s| &s.pending) == 2).await;
        world.peer.kill.notify_waiters();
        for waits in waits {
            waits.await.unwrap().unwrap();
        }
        for held in held {
            refused(held.await.unwrap(), Reason::UpstreamClosed, "");
        }
        assert_eq!((world.peer.accepted.get(), world.counted(|s| &s.connections)), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn waiting_has_an_end_with_a_name() {
    let connect_timeout = Duration::from_millis(200);
    let limits = UpstreamLimits { connect_timeout, connections_per_endpoint: 1, ..patient() };
    in_both(limits, async |world| {
        for (world, reason) in
            [(world.clone(), Reason::Overloaded), (world.limited(9, 9), Reason::CircuitOpen)]
        {
            world.get("/", None).await.unwrap();
            let held = world.hold(if world.http2 { 10 } else { 1 }).await;
            refused(world.get("/", None).await, reason, "in time");
            world.peer.answer.notify_waiters();
            for held in held {
                held.await.unwrap().unwrap();
            }
        }
    })
    .await;
    in_both(UpstreamLimits { pending_per_endpoint: 0, ..limits }, async |world| {
        world.get("/", None).await.unwrap();
        let _held = world.hold(if world.http2 { 10 } else { 1 }).await;
        refused(world.get("/", None).await, Reason::Overloaded, "maxPendingPerEndpoint");
    })
    .await;
}

#[tokio::test]
async fn who_ran_out_of_time_knows_what_it_waited_for() {
    in_both(patient(), async |world| {
        let waits_for = Cell::default();
        let late = async |world: &World, path, within| {
            let failure = world.get_told(path, Some(within), &waits_for).await.unwrap_err();
            assert_eq!(failure.reason, Reason::BackendRequestTimeout);
            (waits_for.get(), failure.reached)
        };
        let soon = Duration::from_millis(50);
        let limited = world.clone().limited(1, 9);
        limited.get("/", None).await.unwrap();
        let _held = limited.hold(if world.http2 { 10 } else { 1 }).await;
        assert_eq!(late(&limited, "/", soon).await, (WaitsFor::Others, Reached::No));
        // Time enough to connect.
        assert_eq!(late(&world, "/hold", 20 * soon).await, (WaitsFor::Answer, Reached::Maybe));
        // A queue that is full and never accepted from.
        let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&hole, 0).unwrap();
        let address = hole.local_addr().unwrap();
        let _filling = std::net::TcpStream::connect(address).unwrap();
        let nowhere = World { address, ..world };
        assert_eq!(late(&nowhere, "/", soon).await, (WaitsFor::Connection, Reached::No));
    })
    .await;
}

#[tokio::test]
async fn no_worker_starves_while_another_has_all_connections() {
    in_both(patient(), async |world| {
        let one = world.limited(1, 1);
        let other = one.another();
        let (_first, _second) = (one.hold(1).await, other.hold(1).await);
        assert_eq!((one.peer.accepted.get(), one.counted(|s| &s.connections)), (2, 2));
        if !one.http2 {
            let _waits = other.ask("/");
            until("no more than one each", || one.counted(|s| &s.pending) == 1).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_request_leaves_nothing() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 1);
        let held = world.hold(1).await;
        held.iter().for_each(JoinHandle::abort);
        until("its place is free", || {
            // A connection without a request is kept for the next one, unless it idles.
            world.upstream.sweep(Instant::now() + HOUR);
            world.counted(|s| &s.connections) == 0
        })
        .await;
        assert_eq!(world.upstream.open_connections(), 0);
        // While it is dialled, too.
        let dialling = world.ask("/");
        until("it begins", || world.counted(|s| &s.connections) == 1).await;
        dialling.abort();
        world.get("/", None).await.unwrap();
        assert_eq!(world.counted(|s| &s.connections), 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_lets_a_requests_time_pass_in_silence_takes_no_other() {
    in_both(patient(), async |world| {
        world.get("/", None).await.unwrap();
        let late = world.get("/hold", Some(Duration::from_millis(50))).await;
        refused(late, Reason::BackendRequestTimeout, "50ms");
        world.get("/", None).await.unwrap();
        assert_eq!(world.peer.accepted.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn only_a_request_that_a_connection_had_may_have_been_seen_when_its_time_runs_out() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 9);
        let late = async |world: &World, reached| {
            let failure = world.get("/hold", Some(Duration::from_millis(50))).await.unwrap_err();
            assert_eq!((failure.reason, failure.reached), (Reason::BackendRequestTimeout, reached));
        };
        // In line for a connection or a stream.
        let _held = world.hold(if world.http2 { 10 } else { 1 }).await;
        late(&world, Reached::No).await;
        let free = World::new(world.http2, patient()).await;
        late(&free, Reached::Maybe).await;
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_stalls_request_after_request_has_no_more_connections_than_it_may() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 9);
        for wanted in 1..=4 {
            let late = world.get("/hold", Some(Duration::from_millis(200))).await;
            refused(late, Reason::BackendRequestTimeout, "200ms");
            assert_eq!(world.counted(|s| &s.connections), 1, "after {wanted}");
            assert_eq!(world.peer.accepted.get(), wanted);
        }
    })
    .await;
}

#[tokio::test]
async fn all_who_wait_for_a_connection_hear_why_there_is_none() {
    in_both(patient(), async |world| {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let world = World { address: closed, ..world.limited(1, 9) };
        let asked: Vec<_> = (0..5).map(|_| world.ask("/")).collect();
        for asked in asked {
            refused(asked.await.unwrap(), Reason::ConnectFailed, "");
        }
        assert_eq!((world.counted(|s| &s.connections), world.counted(|s| &s.pending)), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn opaque_connections_count_among_the_services() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 1);
        let (target, circuit) = (world.target(), world.circuit.as_ref());
        let tunnel = world.upstream.tunnel(&target, circuit).await.unwrap();
        let failure = world.upstream.tunnel(&target, circuit).await.err().unwrap();
        assert!(failure.reason == Reason::CircuitOpen && failure.to_string().contains("maxConnections"));
        drop(tunnel);
        assert!(world.upstream.tunnel(&target, circuit).await.is_ok());
    })
    .await;
}
