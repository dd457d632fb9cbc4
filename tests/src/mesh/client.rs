//! A client's connection, over HTTP/1.1 or HTTP/2.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version, request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use super::body::Payload;

/// What a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A connection that requests are sent on.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    authority: String,
    connection: JoinHandle<hyper::Result<()>>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Payload>),
    Http2(http2::SendRequest<Payload>),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// What was spoken.
    pub version: Version,
    /// The header.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailers.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// Reads an answer to its end; an error if it broke off.
    pub async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        let http::response::Parts { status, version, headers, .. } = head;
        Ok(Self { status, version, headers, body: body.to_bytes(), trailers })
    }

    /// The first value of a field; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The sidecar's reason; empty if the answer is not its own.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.header("trama-reason")
    }
}

impl Client {
    /// Begins HTTP on a stream. `authority` is what its requests are for.
    pub async fn begin<S>(stream: S, speaks: Speaks, authority: &str) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        let (sender, connection) = match speaks {
            Speaks::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                (Sender::Http1(sender), tokio::spawn(connection))
            }
            Speaks::Http2 => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.initial_stream_window_size(1 << 20).initial_connection_window_size(16 << 20);
                let (sender, connection) = builder.handshake(io).await?;
                (Sender::Http2(sender), tokio::spawn(connection))
            }
        };
        Ok(Self { sender, authority: authority.to_owned(), connection })
    }

    /// A request as the connection's version writes it.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> request::Builder {
        let request = Request::builder().method(method);
        match self.sender {
            Sender::Http1(_) => request.uri(path).header("host", &self.authority),
            Sender::Http2(_) => request.uri(format!("http://{}{path}", self.authority)),
        }
    }

    /// Sends a request and waits for the answer's head.
    pub async fn send(&mut self, request: Request<Payload>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(&mut self, request: Request<Payload>) -> hyper::Result<Answer> {
        Answer::read(self.send(request).await?).await
    }

    /// A GET.
    pub async fn get(&mut self, path: &str) -> Answer {
        let request = self.request("GET", path).body(Payload::empty()).unwrap();
        self.call(request).await.unwrap_or_else(|e| panic!("GET {path}: {e:?}"))
    }

    /// A POST of these bytes.
    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = self.request("POST", path).body(Payload::of(body)).unwrap();
        self.call(request).await.unwrap_or_else(|e| panic!("POST {path}: {e:?}"))
    }

    /// Another handle on the same connection, for requests at the same time.
    ///
    /// # Panics
    /// Over HTTP/1.1, which has no such thing.
    #[must_use]
    pub fn share(&self) -> SharedClient {
        match &self.sender {
            Sender::Http2(sender) => {
                SharedClient { sender: sender.clone(), authority: self.authority.clone() }
            }
            Sender::Http1(_) => panic!("HTTP/1.1 has one request at a time"),
        }
    }

    /// Whether the peer has closed, or said that it will.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until the connection has ended.
    pub async fn ended(&mut self) -> hyper::Result<()> {
        (&mut self.connection).await.unwrap_or(Ok(()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Sends over an HTTP/2 connection that a [`Client`] holds.
#[derive(Clone, Debug)]
pub struct SharedClient {
    sender: http2::SendRequest<Payload>,
    authority: String,
}

impl SharedClient {
    /// Sends a request and waits for the answer's head.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: Payload,
    ) -> hyper::Result<Response<Incoming>> {
        let uri = format!("http://{}{path}", self.authority);
        let request = Request::builder().method(method).uri(uri).body(body).unwrap();
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(&mut self, method: &str, path: &str, body: Payload) -> hyper::Result<Answer> {
        Answer::read(self.send(method, path, body).await?).await
    }
}
