//! Listening sockets, one for each worker on the same address, and the loop that accepts from them.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Binds a listening socket that other workers may bind too (SO_REUSEPORT); the kernel spreads connections over them.
/// `[::]` takes IPv4 as well; where the kernel has no IPv6 it becomes `0.0.0.0`.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    match bind_to(address) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && no_ipv6(&error) => {
            bind_to(SocketAddr::from(([0, 0, 0, 0], address.port())))
        }
        bound => bound,
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    let codes = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    codes.iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

fn bind_to(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many connections a worker may have open.
#[derive(Debug)]
pub struct ConnectionLimit {
    open: Cell<usize>,
    most: usize,
}

impl ConnectionLimit {
    /// At most `most` at once.
    pub fn new(most: usize) -> Rc<Self> {
        Rc::new(Self { open: Cell::new(0), most })
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// Takes a place, if there is one.
    pub fn take(self: &Rc<Self>) -> Option<Place> {
        if self.open.get() >= self.most {
            return None;
        }
        self.open.set(self.open.get() + 1);
        Some(Place(Rc::clone(self)))
    }
}

/// The place of one connection, free again when dropped.
#[derive(Debug)]
pub struct Place(Rc<ConnectionLimit>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// Accepts for ever. A connection over the limit is closed at once, so that its peer need not wait for an answer that
/// does not come. `accepted` must only start a task.
pub async fn accept(
    listener: TcpListener,
    limit: Rc<ConnectionLimit>,
    refused: impl Fn(SocketAddr),
    accepted: impl Fn(TcpStream, SocketAddr, Place),
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match limit.take() {
                Some(place) => {
                    stream.set_nodelay(true).ok();
                    accepted(stream, peer, place);
                }
                None => refused(peer),
            },
            // The peer gave up between the kernel's accept and ours.
            Err(error) if per_connection(&error) => {}
            // Out of descriptors or memory: trying at once would spin.
            Err(error) => {
                tracing::warn!(%error, "cannot accept; trying again in 100 ms");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn per_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_workers_share_an_address() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let second = bind(first.local_addr().unwrap()).unwrap();
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
    }

    #[test]
    fn a_place_is_given_back() {
        let limit = ConnectionLimit::new(1);
        let place = limit.take();
        assert!(place.is_some());
        assert!(limit.take().is_none());
        drop(place);
        assert!(limit.take().is_some());
    }
}
