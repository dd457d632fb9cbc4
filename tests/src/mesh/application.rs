//! The applications of a mesh: in this process where a test must see or do what no real server shows, or real servers.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::body::Payload;
use crate::peers::Site;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type HttpHandler = Arc<dyn Fn(Request<Incoming>) -> Boxed<Response<Payload>> + Send + Sync>;
type RawHandler = Arc<dyn Fn(TcpStream) -> Boxed<()> + Send + Sync>;

/// What serves behind a pod's address.
#[derive(Clone)]
pub struct Application(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    Http(HttpHandler),
    Tls(HttpHandler, Arc<ServerConfig>),
    Raw(RawHandler),
    Python,
    Go,
    Nginx(Site),
    GoTls(PathBuf),
    Banner,
    Echo,
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Application")
    }
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// The target; over HTTP/2 with the authority.
    pub uri: Uri,
    /// What was spoken.
    pub version: Version,
    /// The header.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailers.
    pub trailers: Option<HeaderMap>,
}

impl Seen {
    /// All values of a field, in order.
    #[must_use]
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect()
    }
}

/// What arrived at an application, in order.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Vec<Seen>>>);

impl Record {
    /// All so far.
    #[must_use]
    pub fn all(&self) -> Vec<Seen> {
        self.0.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    /// The requests for a path.
    #[must_use]
    pub fn of(&self, path: &str) -> Vec<Seen> {
        self.all().into_iter().filter(|seen| seen.uri.path() == path).collect()
    }

    fn add(&self, seen: Seen) {
        if let Ok(mut all) = self.0.lock() {
            all.push(seen);
        }
    }
}

impl Application {
    /// HTTP/1.1 and HTTP/2 with prior knowledge on one port.
    pub fn http<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Payload>> + Send + 'static,
    {
        Self(Kind::Http(Arc::new(move |request| Box::pin(handler(request)))))
    }

    /// The same application over TLS alone; ALPN tells the version.
    ///
    /// # Panics
    /// Where it does not speak HTTP in this process.
    #[must_use]
    pub fn in_tls(&self, config: Arc<ServerConfig>) -> Self {
        match &self.0 {
            Kind::Http(handler) => Self(Kind::Tls(Arc::clone(handler), config)),
            _ => panic!("only HTTP of this process is put into TLS"),
        }
    }

    /// Whatever one does with a connection.
    pub fn raw<F, R>(handler: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self(Kind::Raw(Arc::new(move |stream| Box::pin(handler(stream)))))
    }

    /// Reads each request to its end, writes it down, and answers with its body and trailers and `x-served-by`.
    #[must_use]
    pub fn recording(served_by: &'static str) -> (Self, Record) {
        let record = Record::default();
        let keep = record.clone();
        let application = Self::http(move |request| {
            let record = keep.clone();
            async move {
                let (head, body) = request.into_parts();
                let Ok(body) = body.collect().await else { return Response::new(Payload::empty()) };
                let trailers = body.trailers().cloned();
                let body = body.to_bytes();
                let answer = answer_of(served_by, &body, trailers.clone());
                let http::request::Parts { method, uri, version, headers, .. } = head;
                record.add(Seen { method, uri, version, headers, body, trailers });
                answer
            }
        });
        (application, record)
    }

    /// The same, for who does not ask what arrived.
    #[must_use]
    pub fn echo(served_by: &'static str) -> Self {
        Self::recording(served_by).0
    }

    /// Returns each request's body as it comes, and its answer's head before it.
    #[must_use]
    pub fn streaming_echo() -> Self {
        Self::http(|request| async { Response::new(Payload::relayed(request.into_body())) })
    }

    /// A real server in Python: HTTP/1.1.
    #[must_use]
    pub fn python() -> Self {
        Self(Kind::Python)
    }

    /// A real server in Go: HTTP/1.1 and HTTP/2.
    #[must_use]
    pub fn go() -> Self {
        Self(Kind::Go)
    }

    /// nginx with this site.
    #[must_use]
    pub fn nginx(site: Site) -> Self {
        Self(Kind::Nginx(site))
    }

    /// Go over TLS alone, HTTP/2 rather, with `server.pem` and `server.key` of this folder. Where the folder has
    /// `clients.pem`, clients must show a certificate of one of its authorities.
    #[must_use]
    pub fn go_tls(folder: &Path) -> Self {
        Self(Kind::GoTls(folder.to_owned()))
    }

    /// A real TCP server that speaks first.
    #[must_use]
    pub fn banner() -> Self {
        Self(Kind::Banner)
    }

    /// A real TCP server that returns every byte.
    #[must_use]
    pub fn tcp_echo() -> Self {
        Self(Kind::Echo)
    }
}

fn answer_of(served_by: &'static str, body: &Bytes, trailers: Option<HeaderMap>) -> Response<Payload> {
    let named = trailers.as_ref().map(|t| t.keys().map(HeaderName::as_str).collect::<Vec<_>>().join(", "));
    let mut response = Response::new(Payload::with_trailers(body.clone(), trailers));
    response.headers_mut().insert("x-served-by", HeaderValue::from_static(served_by));
    if let Some(named) = named.and_then(|n| HeaderValue::try_from(n).ok()) {
        response.headers_mut().insert("trailer", named);
    }
    response
}

/// An application of this process while it runs. Dropped, it is gone with all its connections.
#[derive(Debug)]
pub(super) struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn serve_http(listener: TcpListener, handler: HttpHandler) -> Serving {
    serve(listener, move |stream| {
        let handler = Arc::clone(&handler);
        Box::pin(async move {
            let http2 = speaks_http2(&stream).await;
            http_connection(stream, http2, handler).await;
        })
    })
}

pub(super) fn serve_tls(listener: TcpListener, handler: HttpHandler, config: Arc<ServerConfig>) -> Serving {
    let acceptor = TlsAcceptor::from(config);
    serve(listener, move |stream| {
        let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
        Box::pin(async move {
            // Handshakes that fail are what tests provoke.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            http_connection(stream, http2, handler).await;
        })
    })
}

pub(super) fn serve_raw(listener: TcpListener, handler: RawHandler) -> Serving {
    serve(listener, move |stream| handler(stream))
}

fn serve(listener: TcpListener, handle: impl Fn(TcpStream) -> Boxed<()> + Send + 'static) -> Serving {
    Serving(tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).ok();
            connections.spawn(handle(stream));
        }
    }))
}

/// Whether a client speaks HTTP/2 with prior knowledge.
async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut first = [0; 3];
    // One byte may come alone; all that HTTP/1 methods share with the preface of HTTP/2 is `P` and `PR` (of PROPFIND).
    while let Ok(1..3) = stream.peek(&mut first).await {
        tokio::task::yield_now().await;
    }
    &first == b"PRI"
}

async fn http_connection<S>(stream: S, http2: bool, handler: HttpHandler)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    // Its errors are what tests provoke; they look at the other side.
    if http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(16 << 20);
        builder.serve_connection(TokioIo::new(stream), service).await.ok();
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
    }
}
