//! What is refused, and whose doing it is when time runs out.

use std::sync::atomic::Ordering;

use tokio::net::TcpStream;

use super::*;
use crate::config::snapshot::AppProtocol;

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

#[tokio::test]
async fn servers_that_speak_first_are_remembered_up_to_a_number() {
    const MOST: u16 = 4096;
    LocalSet::new()
        .run_until(async {
            let world = World::new("HTTP", "[]").await;
            let worker = &world.connection.worker;
            let at = |number: u16| {
                let [high, low] = number.to_be_bytes();
                SocketAddr::from(([10, 9, high, low], 25))
            };
            for number in 0..=MOST {
                worker.speaks_first(at(number), b"220 ready\r\n");
            }
            let known = |number| worker.as_known(at(number), AppProtocol::Auto);
            assert_eq!((known(0), known(MOST - 1)), (AppProtocol::Tcp, AppProtocol::Tcp));
            assert_eq!(known(MOST), AppProtocol::Auto, "found out anew each time");
        })
        .await;
}
