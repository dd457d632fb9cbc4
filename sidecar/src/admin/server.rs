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
