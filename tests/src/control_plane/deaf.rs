//! Who opens a stream and does not read it: HTTP/2 by hand.

use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use h2::{RecvStream, SendStream};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tonic::Status;
use trama_proto::admin::v1::WatchRequest;
use trama_proto::discovery::v1::{Hello, SidecarMessage, Subscribe, sidecar_message};

use super::{ControlPlane, Workload};
use crate::mesh::PATIENCE;
use crate::tls;

const POLICY: &str = "/trama.discovery.v1.PolicyService/Stream";
const WATCH: &str = "/trama.admin.v1.AdminService/Watch";
/// More than is ever said.
const WIDE: u32 = 1 << 30;

/// How somebody does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deafness {
    /// Its window is zero and stays so; it answers pings.
    Window,
    /// Its windows are wide, and it reads nothing from its socket.
    Socket,
}

/// Both directions.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

type Line = Connection<Box<dyn Wire>, Bytes>;

/// Somebody whose stream is open and who does not read it.
pub struct Deaf {
    line: Listening,
    heard: RecvStream,
    _says: SendStream<Bytes>,
    _more: SendRequest<Bytes>,
}

enum Listening {
    /// To the connection, as HTTP/2 asks.
    Task(tokio::task::JoinHandle<Result<(), h2::Error>>),
    /// To nothing.
    Not(Pin<Box<Line>>),
}

impl ControlPlane {
    /// A policy stream that asks for nothing but what all are told, and is not read.
    pub async fn deaf(&self, workload: &Workload, how: Deafness) -> Deaf {
        let config = tls::client_with(Some(workload.certified()), &[b"h2"]);
        let stream = TcpStream::connect(self.address()).await.unwrap();
        let stream = tls::connect(stream, config, "control.plane").await.unwrap();
        let hello = Hello { node: Some(workload.node()), ..Hello::default() };
        let said = [
            sidecar_message::Message::Hello(hello),
            sidecar_message::Message::Subscribe(Subscribe::default()),
        ];
        let said = said.map(|message| framed(&SidecarMessage { message: Some(message) })).concat();
        Deaf::open(Box::new(stream), POLICY, said, how).await
    }

    /// A watch of everything that is not read, over the Unix socket.
    pub async fn deaf_watch(&self, how: Deafness) -> Deaf {
        let stream = UnixStream::connect(self.socket()).await.unwrap();
        Deaf::open(Box::new(stream), WATCH, framed(&WatchRequest::default()), how).await
    }
}

impl Deaf {
    async fn open(stream: Box<dyn Wire>, path: &str, said: Vec<u8>, how: Deafness) -> Self {
        let window = if how == Deafness::Window { 0 } else { WIDE };
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(WIDE);
        let (send, line) = builder.handshake::<_, Bytes>(stream).await.unwrap();
        let mut line = Box::pin(line);
        let begun = async {
            let mut send = send.ready().await.unwrap();
            let request = http::Request::post(format!("http://control.plane{path}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            let (answer, mut says) = send.send_request(request.body(()).unwrap(), false).unwrap();
            // A watch is asked for once and as a whole.
            says.send_data(said.into(), path == WATCH).unwrap();
            (answer.await.unwrap().into_body(), says, send)
        };
        let (heard, says, more) = tokio::select! {
            begun = timeout(PATIENCE, begun) => begun.unwrap(),
            ended = &mut line => panic!("the connection ended: {ended:?}"),
        };
        let line = match how {
            Deafness::Window => Listening::Task(tokio::spawn(line)),
            Deafness::Socket => Listening::Not(line),
        };
        Self { line, heard, _says: says, _more: more }
    }

    /// Waits until the connection is cut.
    pub async fn cut(self) {
        let Listening::Task(line) = self.line else { panic!("it would not notice") };
        // Of its own accord it would live on: there may be more requests.
        timeout(PATIENCE, line).await.expect("the connection is cut").unwrap().ok();
    }

    /// Reads at last: how much it was told, and how the stream ended.
    pub async fn read(self) -> (usize, Status) {
        let Self { line, mut heard, .. } = self;
        let Listening::Not(line) = line else { panic!("it has no window") };
        let line = tokio::spawn(line);
        let reading = async {
            let mut bytes = 0;
            while let Some(data) = heard.data().await {
                let data = data.unwrap();
                heard.flow_control().release_capacity(data.len()).unwrap();
                bytes += data.len();
            }
            (bytes, heard.trailers().await.unwrap().expect("a last word"))
        };
        let (bytes, trailers) = timeout(PATIENCE, reading).await.expect("the stream ends");
        line.abort();
        (bytes, Status::from_header_map(&trailers).unwrap())
    }
}

/// As it goes over the wire (gRPC over HTTP2, "Length-Prefixed-Message").
fn framed(message: &impl Message) -> Vec<u8> {
    let encoded = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(5 + encoded.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(encoded.len()).unwrap());
    frame.put_slice(&encoded);
    frame.to_vec()
}
