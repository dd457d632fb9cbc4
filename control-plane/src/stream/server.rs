//! The policy stream's server: gRPC over HTTP/2 by hand, as far as this one method needs it.
//!
//! The generated server keeps, for as long as a stream lives, room for the largest message that went over it, each way. The
//! first ones name all services of the mesh: a Hello what a sidecar holds of them, the first push what it does not. That is
//! hundreds of kilobytes for each sidecar, for weeks. Here each message has memory of its own, which ends with it.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use http_body::{Body as _, Frame};
use prost::Message;
use tonic::{Request, Status, body::Body, codegen::Service, metadata::MetadataMap, server::NamedService};
use trama_proto::discovery::v1::{ControlMessage, SidecarMessage, policy_service_server::SERVICE_NAME};

use super::{Policy, Pushes};
use crate::reason::Reason;

const STREAM: &str = "/trama.discovery.v1.PolicyService/Stream";
/// A flag and a length stand before each message (gRPC over HTTP2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// The server.
#[derive(Clone)]
pub(crate) struct PolicyServer {
    policy: Policy,
    message_bytes: usize,
}

impl PolicyServer {
    /// Takes messages up to this size.
    pub(crate) fn new(policy: Policy, message_bytes: usize) -> Self {
        Self { policy, message_bytes }
    }
}

impl NamedService for PolicyServer {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for PolicyServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { policy, message_bytes } = self.clone();
        Box::pin(async move {
            if request.uri().path() != STREAM {
                return Ok(Reason::UnknownMethod.status("there is `Stream` only").into_http());
            }
            let (parts, body) = request.into_parts();
            let said = Said::new(body, message_bytes);
            let request =
                Request::from_parts(MetadataMap::from_headers(parts.headers), parts.extensions, said);
            Ok(match policy.stream(request).await {
                Ok(pushes) => answer(pushes),
                Err(status) => status.into_http(),
            })
        })
    }
}

fn answer(pushes: Pushes) -> http::Response<Body> {
    let mut response = http::Response::new(Body::new(Told(Some(pushes))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// What a sidecar says.
pub(super) struct Said {
    body: Body,
    read: BytesMut,
    most: usize,
}

impl Said {
    pub(super) fn new(body: Body, most: usize) -> Self {
        Self { body, read: BytesMut::new(), most }
    }

    /// The next message; `None`: the sidecar says no more. Cancelling loses nothing.
    pub(super) async fn message(&mut self) -> Result<Option<SidecarMessage>, Status> {
        loop {
            if let Some(message) = self.decoded()? {
                return Ok(Some(message));
            }
            match poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                Some(Err(status)) => return Err(status),
                None if self.read.is_empty() => return Ok(None),
                None => {
                    return Err(Reason::BadMessage.status("the stream ends within a message"));
                }
            }
        }
    }

    /// A message that has come as a whole.
    fn decoded(&mut self) -> Result<Option<SidecarMessage>, Status> {
        let [flag, a, b, c, d, ..] = self.read[..] else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if flag != 0 {
            return Err(Reason::Compressed.status("a compressed message; send it as it is"));
        }
        if length > self.most {
            let most = self.most;
            let problem = format!("a message of {length} bytes, more than {most} (`limits.messageBytes`)");
            return Err(Reason::MessageTooLarge.status_of(problem, &[("limit", "limits.messageBytes")]));
        }
        if self.read.len() < PREFIX + length {
            return Ok(None);
        }
        self.read.advance(PREFIX);
        let message = SidecarMessage::decode(self.read.split_to(length));
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
        message.map(Some).map_err(|error| Reason::BadMessage.status(error.to_string()))
    }
}

/// What a sidecar is told, and at the end why it is one.
struct Told(Option<Pushes>);

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(pushes) = &mut self.0 else { return Poll::Ready(None) };
        let next = ready!(pushes.as_mut().poll_next(context));
        let end = match next.map(|said| said.and_then(|message| framed(&message))) {
            Some(Ok(frame)) => return Poll::Ready(Some(Ok(Frame::data(frame)))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.0 = None;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(end.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }
}

fn framed(message: &ControlMessage) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let told = u32::try_from(length)
        .map_err(|_| Reason::TooMuch.status(format!("a push of {length} bytes is more than gRPC can say")))?;
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(told);
    message.encode(&mut frame).map_err(|error| Reason::Internal.status(error.to_string()))?;
    Ok(frame.freeze())
}

#[cfg(test)]
mod tests {
    use trama_proto::discovery::v1::{Hello, Subscribe, sidecar_message};

    use super::*;

    fn framed(message: &SidecarMessage) -> Vec<u8> {
        let encoded = message.encode_to_vec();
        [&[0][..], &u32::try_from(encoded.len()).unwrap().to_be_bytes(), &encoded].concat()
    }

    /// A body that brings these pieces.
    struct Pieces(Vec<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn said(bytes: &[u8], piece: usize, most: usize) -> Said {
        let pieces = bytes.chunks(piece).rev().map(Bytes::copy_from_slice).collect();
        Said::new(Body::new(Pieces(pieces)), most)
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut_and_leave_no_room_behind() {
        let hello =
            sidecar_message::Message::Hello(Hello { roots: vec![vec![7; 3_000]], ..Hello::default() });
        let subscribe = sidecar_message::Message::Subscribe(Subscribe::default());
        let messages = [hello, subscribe].map(|message| SidecarMessage { message: Some(message) });
        let bytes = messages.iter().flat_map(framed).collect::<Vec<_>>();
        for piece in [1, 4, 5, 6, 1000, bytes.len()] {
            let mut said = said(&bytes, piece, 4_000);
            for message in &messages {
                assert_eq!(said.message().await.unwrap().as_ref(), Some(message), "{piece}");
            }
            assert_eq!(said.message().await.unwrap(), None);
            assert_eq!(said.read.capacity(), 0);
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_named() {
        for (bytes, code, words) in [
            (&[1, 0, 0, 0, 0][..], tonic::Code::Unimplemented, "compressed"),
            (&[0, 0, 0, 16, 0], tonic::Code::OutOfRange, "4096 bytes, more than 100"),
            (&[0, 0, 0, 0, 9, 1], tonic::Code::InvalidArgument, "within a message"),
            (&[0, 0, 0, 0, 1, 0xff], tonic::Code::InvalidArgument, "decode"),
        ] {
            let refused = said(bytes, 2, 100).message().await.unwrap_err();
            assert_eq!(refused.code(), code, "{refused}");
            assert!(refused.message().contains(words), "{refused}");
        }
    }
}
