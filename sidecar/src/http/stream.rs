//! What a connection is made of, plain or under TLS.

use std::time::Duration;

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
};
use tokio_rustls::{client, server};

/// A byte stream whose end can be told in two ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// From now on its drop is a reset, and not an end: the peer learns that what it heard was not all. What is not yet
    /// sent is lost.
    fn break_off(&self);
}

impl Stream for TcpStream {
    fn break_off(&self) {
        // On a socket that is gone already nobody needs to be told.
        SockRef::from(self).set_linger(Some(Duration::ZERO)).ok();
    }
}

impl<S: Stream> Stream for server::TlsStream<S> {
    fn break_off(&self) {
        self.get_ref().0.break_off();
    }
}

impl<S: Stream> Stream for client::TlsStream<S> {
    fn break_off(&self) {
        self.get_ref().0.break_off();
    }
}

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn break_off(&self) {
        (**self).break_off();
    }
}

/// In memory, which knows no resets.
impl Stream for DuplexStream {
    fn break_off(&self) {}
}
