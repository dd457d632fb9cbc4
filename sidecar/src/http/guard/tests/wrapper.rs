//! The wrapper, polled by hand.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use super::super::{Guard, Handle, Kind, Limits, Violation};

const CONNECT: &[u8] = b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn pair() -> (Guard<DuplexStream>, Handle, DuplexStream) {
    let (client, server) = tokio::io::duplex(1024);
    let (guard, handle) = Guard::new(server, Limits::default());
    (guard, handle, client)
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What one read gives; nothing while it is pending.
fn read(guard: &mut Guard<DuplexStream>) -> Poll<io::Result<Vec<u8>>> {
    let mut space = [0; 512];
    let mut buf = ReadBuf::new(&mut space);
    Pin::new(guard).poll_read(&mut context(), &mut buf).map_ok(|()| buf.filled().to_vec())
}

fn bytes(poll: Poll<io::Result<Vec<u8>>>) -> Option<Vec<u8>> {
    match poll {
        Poll::Ready(read) => Some(read.unwrap()),
        Poll::Pending => None,
    }
}

fn flush(guard: &mut Guard<DuplexStream>) {
    assert!(Pin::new(guard).poll_flush(&mut context()).is_ready());
}

#[tokio::test]
async fn the_end_waits_for_the_request_in_flight_and_for_the_flush_of_its_answer() {
    let (mut guard, handle, mut client) = pair();
    client.write_all(&[GET, b"G\n"].concat()).await.unwrap();
    assert_eq!(bytes(read(&mut guard)), Some(GET.to_vec()));
    // The service has not been called yet, and still the request counts.
    assert_eq!(bytes(read(&mut guard)), None);
    let in_flight = handle.request_started();
    assert_eq!(bytes(read(&mut guard)), None);
    drop(in_flight);
    assert_eq!(bytes(read(&mut guard)), None, "the answer may lie in hyper's buffer");
    assert_eq!(handle.answer_due(), None);
    flush(&mut guard);
    assert_eq!(bytes(read(&mut guard)), Some(Vec::new()));
    assert_eq!(handle.answer_due(), Some(Violation::from(Kind::BareLf)));
}

#[tokio::test]
async fn a_shutdown_is_withheld_only_while_an_answer_is_due() {
    let (mut guard, _handle, mut client) = pair();
    client.write_all(b"\n").await.unwrap();
    assert_eq!(bytes(read(&mut guard)), Some(Vec::new()));
    assert!(Pin::new(&mut guard).poll_shutdown(&mut context()).is_ready());
    let (mut io, _) = guard.into_parts();
    io.write_all(b"still open").await.unwrap();

    let (mut guard, _handle, mut client) = pair();
    assert!(Pin::new(&mut guard).poll_shutdown(&mut context()).is_ready());
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_tunnel_begins_with_the_bytes_that_came_with_its_connect() {
    let (mut guard, handle, mut client) = pair();
    client.write_all(&[CONNECT, b"\0early"].concat()).await.unwrap();
    assert_eq!(bytes(read(&mut guard)), Some(CONNECT.to_vec()));
    let in_flight = handle.request_started();
    assert_eq!(bytes(read(&mut guard)), None);
    handle.pass_through();
    assert_eq!(bytes(read(&mut guard)), Some(b"\0early".to_vec()));
    client.write_all(b"\0late").await.unwrap();
    assert_eq!(bytes(read(&mut guard)), Some(b"\0late".to_vec()));
    drop(in_flight);
    assert_eq!(handle.violation(), None);
}

#[tokio::test]
async fn after_a_declined_connect_what_was_stashed_is_http_again() {
    let (mut guard, handle, mut client) = pair();
    client.write_all(CONNECT).await.unwrap();
    assert_eq!(bytes(read(&mut guard)), Some(CONNECT.to_vec()));
    let in_flight = handle.request_started();
    client.write_all(&[GET, b"G\n"].concat()).await.unwrap();
    assert_eq!(bytes(read(&mut guard)), None, "held");
    drop(in_flight);
    flush(&mut guard);
    assert_eq!(bytes(read(&mut guard)), Some(GET.to_vec()));
    assert_eq!(handle.violation(), Some(Violation::from(Kind::BareLf)));
}

#[tokio::test]
async fn a_client_that_leaves_while_held_is_noticed() {
    let (mut guard, handle, mut client) = pair();
    client.write_all(CONNECT).await.unwrap();
    assert_eq!(bytes(read(&mut guard)), Some(CONNECT.to_vec()));
    let _in_flight = handle.request_started();
    drop(client);
    assert_eq!(bytes(read(&mut guard)), Some(Vec::new()));
}

#[tokio::test]
async fn no_interim_answer_after_the_final_one_has_begun() {
    let (mut guard, handle, _client) = pair();
    let in_flight = handle.request_started();
    flush(&mut guard);
    assert!(Pin::new(&mut guard).poll_write(&mut context(), b"HTTP/1.1 100 Continue\r\n\r\n").is_ready());
    flush(&mut guard);
    let headers = HeaderMap::new();
    {
        let mut interim =
            std::pin::pin!(in_flight.send_interim(Version::HTTP_11, StatusCode::PROCESSING, &headers));
        assert_eq!(interim.as_mut().poll(&mut context()), Poll::Pending);
        flush(&mut guard);
        assert_eq!(interim.as_mut().poll(&mut context()), Poll::Ready(true));
    }
    assert!(Pin::new(&mut guard).poll_write(&mut context(), b"HTTP/1.1 200 OK\r\n").is_ready());
    flush(&mut guard);
    assert!(!in_flight.send_interim(Version::HTTP_11, StatusCode::PROCESSING, &headers).await);
    assert!(!in_flight.send_interim(Version::HTTP_10, StatusCode::PROCESSING, &headers).await);
}

#[tokio::test]
async fn an_interim_answer_that_was_given_up_is_not_written() {
    let (mut guard, handle, mut client) = pair();
    let in_flight = handle.request_started();
    let headers = HeaderMap::new();
    {
        let mut interim =
            std::pin::pin!(in_flight.send_interim(Version::HTTP_11, StatusCode::PROCESSING, &headers));
        assert_eq!(interim.as_mut().poll(&mut context()), Poll::Pending);
    }
    flush(&mut guard);
    drop(guard);
    let mut wire = Vec::new();
    client.read_to_end(&mut wire).await.unwrap();
    assert!(wire.is_empty());
}

#[tokio::test]
async fn an_interim_answer_waits_for_the_rest_of_the_answer_before() {
    let (mut guard, handle, mut client) = pair();
    drop(handle.request_started());
    let in_flight = handle.request_started();
    let headers = HeaderMap::new();
    let mut interim =
        std::pin::pin!(in_flight.send_interim(Version::HTTP_11, StatusCode::PROCESSING, &headers));
    assert_eq!(interim.as_mut().poll(&mut context()), Poll::Pending);
    assert!(Pin::new(&mut guard).poll_write(&mut context(), b"the rest").is_ready());
    flush(&mut guard);
    assert_eq!(interim.as_mut().poll(&mut context()), Poll::Ready(true));
    drop(guard);
    let mut wire = String::new();
    client.read_to_string(&mut wire).await.unwrap();
    assert!(wire.starts_with("the restHTTP/1.1 102 "), "{wire}");
}
