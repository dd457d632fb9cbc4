//! What is refused, and whose doing it is when time runs out.

use std::sync::atomic::Ordering;

use tokio::net::TcpStream;

use super::*;

/// The endpoint of `World`'s service failed so often in a row.
fn failures(world: &World) -> u32 {
    let snapshot = world.connection.worker.snapshot();
    let service = snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap();
    service.cluster.regions[0].endpoints[0].health.consecutive_failures.load(Ordering::Relaxed)
}

#[tokio::test]
async fn time_that_ran_out_is_the_endpoints_doing_once_it_has_the_whole_request() {
    LocalSet::new()
        .run_until(async {
            for (timeout, reason) in
                [("request", "request_timeout"), ("backendRequest", "backend_request_timeout")]
            {
                for protocol in ["HTTP", "HTTP2"] {
                    // The rule's fields go on after its filters.
                    let rule = format!("[], timeouts: {{ {timeout}: 0.05s }}, retry: {{ attempts: 0 }}");
                    let world = World::new(protocol, &rule).await;
                    let ask = async |path: &str, body| {
                        let request = Request::post(path).header("host", "orders.shop").body(body).unwrap();
                        let connection = Rc::clone(&world.connection);
                        let answer = connection.handle(request, Interim::Nowhere).await.unwrap();
                        assert_eq!(answer.headers()["trama-reason"].to_str().unwrap(), reason, "{protocol}");
                    };
                    let endless = StreamBody::new(futures_util::stream::pending());
                    ask("/upload", Body::boxed(endless)).await;
                    assert_eq!(failures(&world), 0, "{protocol}: the client still sends");
                    ask("/silent", Body::full("whole")).await;
                    assert_eq!(failures(&world), 1, "{protocol}: the endpoint has it all");
                }
            }
        })
        .await;
}

#[tokio::test]
async fn a_connection_that_nobody_redirected_would_come_back_and_is_refused() {
    LocalSet::new()
        .run_until(async {
            let world = World::new("HTTP", "[]").await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, peer) = listener.accept().await.unwrap();
            crate::outbound::captured(Rc::clone(&world.connection.worker), accepted, peer).await;
            assert_eq!(world.ended("loop_detected"), 1);
            drop(client);
        })
        .await;
}
