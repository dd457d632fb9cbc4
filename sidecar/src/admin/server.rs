//! A small HTTP/1 server; the control plane's ports for metrics and health are of it too. Everything about it is bounded:
//! connections, the time for a request's head and for its body, the size of both, the life of a connection.

use std::{
    convert::Infallible, future::Future, io, net::TcpListener as Bound, pin::Pin, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

const CONNECTIONS: usize = 64;
const HEAD: Duration = Duration::from_secs(10);
/// Long enough for any scraper between two scrapes; one that comes later connects anew.
const LIFE: Duration = Duration::from_secs(120);
const HEAD_BYTES: usize = 16 * 1024;
const BODY: Duration = Duration::from_secs(10);
const BODY_BYTES: usize = 64 * 1024;

/// What is asked.
pub type Asked = Request<Incoming>;
/// What is answered.
pub type Answer = Response<Full<Bytes>>;
/// Gives answers.
pub type Handler = Arc<dyn Fn(Asked) -> Answering + Send + Sync>;
/// An answer that may have to be waited for.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A handler that knows its answers at once, and reads no body.
pub fn at_once(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Handler {
    Arc::new(move |asked: Asked| -> Answering {
        let answer = answer(&asked);
        Box::pin(async move { answer })
    })
}

/// The whole body of what is asked, or what to answer where it is too large or too slow.
pub async fn body(asked: Asked) -> Result<Bytes, Answer> {
    match timeout(BODY, Limited::new(asked.into_body(), BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let problem = format!("a body has at most {BODY_BYTES} bytes\n");
            Err(text(StatusCode::PAYLOAD_TOO_LARGE, problem))
        }
        Ok(Err(error)) => Err(text(StatusCode::BAD_REQUEST, format!("the body broke off: {error}\n"))),
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n")),
    }
}

/// An answer in words.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", text.into())
}

/// An answer of any type.
pub fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// The answer to a path that there is not.
pub fn not_found(known: &str) -> Answer {
    text(StatusCode::NOT_FOUND, format!("there is only: {known}\n"))
}

/// Answers connections to this socket, on the runtime that this is called on, until it ends.
pub fn spawn(socket: Bound, handler: Handler) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket)?;
    tokio::spawn(accept(listener, handler));
    Ok(())
}

async fn accept(listener: TcpListener, handler: Handler) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let handler = Arc::clone(&handler);
                tokio::spawn(async move {
                    connection(stream, handler).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: to ask again at once would only burn the processor.
                tracing::warn!(%error, "the admin side cannot accept");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, handler: Handler) {
    let service = service_fn(move |request| {
        let answering = handler(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(LIFE, serving).await {
        tracing::debug!(%error, "an admin connection failed");
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    use super::*;

    const ASKED: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n";

    /// A server that answers everything, and connections to it.
    async fn connections(how_many: usize) -> Vec<TcpStream> {
        let socket = Bound::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        spawn(socket, at_once(|_| text(StatusCode::OK, "ok\n"))).unwrap();
        let mut connections = Vec::new();
        for _ in 0..how_many {
            connections.push(TcpStream::connect(at).await.unwrap());
        }
        connections
    }

    async fn hears(stream: &mut TcpStream) -> String {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).await.unwrap_or(0);
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_hold_all_places_but_not_for_long() {
        let began = Instant::now();
        let mut connections = connections(CONNECTIONS + 1).await;
        let last = connections.last_mut().unwrap();
        last.write_all(ASKED).await.unwrap();
        assert!(hears(last).await.starts_with("HTTP/1.1 200 OK\r\n"));
        let waited = began.elapsed();
        assert!(HEAD <= waited && waited < 2 * HEAD, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_drips_its_head_is_cut() {
        let began = Instant::now();
        let dripping = &mut connections(1).await[0];
        dripping.write_all(b"GET /").await.unwrap();
        while dripping.write_all(b"a").await.is_ok() && began.elapsed() < LIFE {
            sleep(Duration::from_secs(1)).await;
        }
        assert!(began.elapsed() < 2 * HEAD, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_never_leaves_is_sent_away() {
        let began = Instant::now();
        let staying = &mut connections(1).await[0];
        while staying.write_all(ASKED).await.is_ok() && !hears(staying).await.is_empty() {
            assert!(began.elapsed() < 2 * LIFE, "it stays");
            sleep(HEAD / 2).await;
        }
        let stayed = began.elapsed();
        assert!(LIFE - HEAD <= stayed && stayed <= LIFE + HEAD, "{stayed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_too_large_is_refused() {
        let mut connections = connections(1).await;
        let head = format!("GET /readyz HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "v".repeat(2 * HEAD_BYTES));
        connections[0].write_all(head.as_bytes()).await.ok();
        assert!(hears(&mut connections[0]).await.starts_with("HTTP/1.1 431 "));
    }
}
