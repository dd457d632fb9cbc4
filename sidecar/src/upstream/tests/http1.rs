//! What only holds where a connection has one request at a time.

use super::*;

#[tokio::test]
async fn no_more_connections_idle_than_the_limit_says() {
    let limits = UpstreamLimits { idle_per_endpoint: 2, ..patient() };
    let run = async {
        let world = World::new(false, limits).await;
        let held = world.hold(3).await;
        assert_eq!((world.peer.accepted.get(), world.peer.open.get()), (3, 3));
        world.peer.answer.notify_waiters();
        for held in held {
            held.await.unwrap().unwrap();
        }
        until("one is closed", || world.peer.open.get() == 2).await;
        until("its place is free", || world.upstream.open_connections() == 2).await;
        // The two are kept, and have what comes next.
        let _held = world.hold(2).await;
        assert_eq!((world.peer.accepted.get(), world.peer.open.get()), (3, 2));
    };
    LocalSet::new().run_until(run).await;
}
