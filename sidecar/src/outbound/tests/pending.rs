//! Services of which only the name is known yet.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::{
    config::{convert::Part, snapshot::AppProtocol},
    outbound::{self, opaque},
    telemetry::Security,
};

impl World {
    /// The same, but of the service only the name is known.
    async fn by_name() -> (Self, Answers) {
        let mut world = Self::new("HTTP2", "[]").await;
        world.put_in_force(Extent::Part(&Part::default()));
        let answers = world.answers.take().unwrap();
        (world, answers)
    }

    fn put_in_force(&self, extent: Extent<'_>) {
        self.connection.worker.shared.snapshot.store(Arc::new(snapshot(&self.documents, extent)));
    }
}

#[tokio::test]
async fn a_request_waits_for_what_concerns_its_service() {
    LocalSet::new()
        .run_until(async {
            let (world, mut answers) = World::by_name().await;
            let told = async {
                assert_eq!(answers.questions.recv().await.as_deref(), Some("shop/orders"));
                // News of something else.
                answers.changes.send_replace(());
                tokio::task::yield_now().await;
                world.put_in_force(Extent::Part(&Part::of(["shop/orders"])));
                answers.changes.send_replace(());
            };
            let ((status, ..), ()) = tokio::join!(world.put(), told);
            assert_eq!(status, StatusCode::OK);
            assert_eq!(world.put().await.0, StatusCode::OK);
            assert!(answers.questions.try_recv().is_err(), "what is known is not asked for");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_of_which_nothing_is_told_in_time_is_refused_by_name() {
    LocalSet::new()
        .run_until(async {
            let (world, answers) = World::by_name().await;
            let began = tokio::time::Instant::now();
            let (status, headers, _) = world.put().await;
            assert_eq!((status, began.elapsed().as_secs()), (StatusCode::SERVICE_UNAVAILABLE, 1));
            assert_eq!(headers["trama-reason"], "service_pending");
            assert_eq!(world.services_of("service_pending"), ["shop/orders"]);
            drop(answers);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_opaque_connection_is_refused_by_name_as_well() {
    LocalSet::new()
        .run_until(async {
            let (world, answers) = World::by_name().await;
            let (_client, ours) = tokio::io::duplex(64);
            opaque::carry(&world.connection, ours, None).await;
            assert_eq!(world.services_of("service_pending"), ["shop/orders"]);
            drop(answers);
        })
        .await;
}

/// A connection whose protocol is found out.
async fn detected(world: &World, ours: DuplexStream) {
    let Connection { worker, meant, downstream, .. } = &*world.connection;
    outbound::serve(Rc::clone(worker), ours, *downstream, meant.clone(), AppProtocol::Auto, Security::Plain)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_connects_early_is_told_once_it_speaks() {
    LocalSet::new()
        .run_until(async {
            let (world, answers) = World::by_name().await;
            let (mut client, ours) = tokio::io::duplex(1024);
            let asks = async {
                let silent = tokio::time::timeout(Duration::from_secs(60), client.read_u8()).await;
                assert!(silent.is_err(), "{silent:?}");
                client
                    .write_all(b"GET / HTTP/1.1\r\nhost: orders.shop\r\nconnection: close\r\n\r\n")
                    .await
                    .unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                answer
            };
            let ((), answer) = tokio::join!(detected(&world, ours), asks);
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("service_pending"), "{answer}");
            assert_eq!(world.services_of("service_pending"), ["shop/orders"]);
            drop(answers);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_hears_a_server_that_is_known_late() {
    LocalSet::new()
        .run_until(async {
            let (world, answers) = World::by_name().await;
            let (mut client, ours) = tokio::io::duplex(1024);
            let hears = async {
                let silent = tokio::time::timeout(Duration::from_secs(60), client.read_u8()).await;
                assert!(silent.is_err(), "{silent:?}");
                world.put_in_force(Extent::Whole);
                answers.changes.send_replace(());
                // The application speaks first, in HTTP/2.
                assert!(client.read_u8().await.is_ok());
                drop(client);
            };
            tokio::join!(detected(&world, ours), hears);
            assert_eq!(world.ended("service_pending"), 0);
        })
        .await;
}

#[tokio::test]
async fn an_opaque_connection_waits_as_well() {
    LocalSet::new()
        .run_until(async {
            let (world, mut answers) = World::by_name().await;
            let (mut client, ours) = tokio::io::duplex(64);
            let carried = opaque::carry(&world.connection, ours, None);
            let told = async {
                assert_eq!(answers.questions.recv().await.as_deref(), Some("shop/orders"));
                world.put_in_force(Extent::Whole);
                answers.changes.send_replace(());
                client.shutdown().await.unwrap();
                // The application speaks first, in HTTP/2, because it was reached.
                assert!(client.read_u8().await.is_ok());
                drop(client);
            };
            tokio::join!(carried, told);
        })
        .await;
}
