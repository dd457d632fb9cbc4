//! hyper behind the guard, in memory, with a service that keeps what it was asked.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::{Guard, InFlight, Limits, Violation};
use super::Verdict;
use super::reference::Message;

/// What became of a connection.
#[derive(Debug)]
pub struct Outcome {
    pub requests: Vec<Message>,
    /// The status of each answer of hyper's but `100 Continue`.
    pub statuses: Vec<u16>,
    pub answer_due: Option<Violation>,
}

/// Sends the input in pieces of at most `size` bytes and runs the connection to its end. A client whose input is
/// refused waits for the server to close; another closes its side, and hears out the answers.
pub fn serve(input: &[u8], size: usize, verdict: &Verdict) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let (client, server) = tokio::io::duplex(size.max(1));
    let requests = RefCell::new(Vec::new());
    let patient = verdict.violation.is_some();
    let (wire, answer_due) = runtime
        .block_on(async { tokio::join!(ask(client, input, patient), answer(server, &requests, !patient)) });
    let requests = requests.into_inner();
    Outcome { requests, statuses: statuses(&wire), answer_due }
}

async fn ask(client: DuplexStream, input: &[u8], patient: bool) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(client);
    let mut wire = Vec::new();
    let send = async {
        // The server may close before it has read all.
        let _ = write.write_all(input).await;
        if !patient {
            let _ = write.shutdown().await;
        }
    };
    let (_, read) = tokio::join!(send, read.read_to_end(&mut wire));
    read.expect("a stream in memory does not fail");
    wire
}

async fn answer(io: DuplexStream, requests: &RefCell<Vec<Message>>, half_close: bool) -> Option<Violation> {
    let (guard, handle) = Guard::new(io, Limits::default());
    let service = service_fn(|request| {
        let in_flight = handle.request_started();
        async move {
            let message = collect(request).await;
            requests.borrow_mut().push(message);
            let mut answer = Response::new(Answer { text: Full::from("ok\r\n"), _in_flight: in_flight });
            *answer.status_mut() = StatusCode::NOT_FOUND;
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    let connection = builder.half_close(half_close).serve_connection(TokioIo::new(guard), service);
    let mut connection = pin!(connection);
    // A body that ends too early is an error here, and has been recorded.
    let _ = handle.run(connection.as_mut()).await;
    handle.answer_due()
}

async fn collect(request: Request<Incoming>) -> Message {
    let mut message = Message {
        method: request.method().to_string(),
        fields: request.headers().len(),
        complete: true,
        ..Message::default()
    };
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => message.body.extend_from_slice(&data),
            Ok(Err(frame)) => message.trailers += frame.trailers_ref().map_or(0, http::HeaderMap::len),
            Err(_) => {
                message.complete = false;
                break;
            }
        }
    }
    message
}

/// An answer which ends the request when hyper has taken its end.
struct Answer {
    text: Full<Bytes>,
    _in_flight: InFlight,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.text).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.text.size_hint()
    }
}

fn statuses(wire: &[u8]) -> Vec<u16> {
    let wire = String::from_utf8_lossy(wire);
    let lines = wire.split("\r\n").filter(|line| line.starts_with("HTTP/1."));
    let statuses = lines.filter_map(|line| line.split(' ').nth(1).and_then(|status| status.parse().ok()));
    statuses.filter(|status| *status != 100).collect()
}
