//! Listening sockets, one for each worker on the same address, and the loop that accepts from them.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::original_dst::canonical;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Binds a listening socket; an address that anybody else listens on is an error. `[::]` takes IPv4 as well; where the kernel
/// has no IPv6 it becomes `0.0.0.0`.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    match bind_to(address, Sharing::Nobody) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && no_ipv6(&error) => {
            bind_to(SocketAddr::from(([0, 0, 0, 0], address.port())), Sharing::Nobody)
        }
        bound => bound,
    }
}

/// Binds a listening socket for each worker on the same address (SO_REUSEPORT); the kernel spreads connections over them.
///
/// The first one listens before others may join it. So whoever comes later and shares nothing yet, as another sidecar does, is
/// told that the address is taken, instead of getting a part of the connections.
pub fn bind_each(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let first = bind(address)?;
    SockRef::from(&first).set_reuse_port(true)?;
    // A port that was 0 is the same for all once the first has it.
    let address = first.local_addr()?;
    let others = (1..workers).map(|_| bind_to(address, Sharing::Workers));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Who else may listen on the address.
#[derive(Clone, Copy, PartialEq)]
enum Sharing {
    Nobody,
    Workers,
}

fn no_ipv6(error: &io::Error) -> bool {
    let codes = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    codes.iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

fn bind_to(address: SocketAddr, sharing: Sharing) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Workers)?;
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
            Ok((stream, peer)) => {
                // A socket for both families shows IPv4 as mapped into IPv6 (RFC 4291 section 2.5.5.2).
                let peer = canonical(peer);
                match limit.take() {
                    Some(place) => {
                        stream.set_nodelay(true).ok();
                        accepted(stream, peer, place);
                    }
                    None => refused(peer),
                }
            }
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
    fn workers_share_an_address_with_each_other_and_with_nobody_else() {
        let each = bind_each(SocketAddr::from(([127, 0, 0, 1], 0)), 3).unwrap();
        let address = each[0].local_addr().unwrap();
        assert!(each.len() == 3 && each.iter().all(|socket| socket.local_addr().unwrap() == address));
        for taken in [bind(address).map(drop), bind_each(address, 3).map(drop)] {
            assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn connections_are_spread_over_workers() {
        let each = bind_each(SocketAddr::from(([127, 0, 0, 1], 0)), 2).unwrap();
        let address = each[0].local_addr().unwrap();
        // By the hash of addresses and ports: the odds that 64 all fall to one are those of as many tosses of a coin.
        let _open: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        assert!(each.iter().all(|socket| socket.accept().is_ok()), "one worker gets all");
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

    #[tokio::test]
    async fn a_peer_of_ipv4_is_shown_as_such() {
        let listener = bind(SocketAddr::from(([0_u16; 8], 0))).unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let listener = TcpListener::from_std(listener).unwrap();
        let (met, peer) = tokio::sync::oneshot::channel();
        let met = Cell::new(Some(met));
        let limit = ConnectionLimit::new(1);
        let accepted = |_, peer, _| {
            if let Some(met) = met.take() {
                met.send(peer).ok();
            }
        };
        let client = TcpStream::connect(at);
        tokio::select! {
            () = accept(listener, limit, |_| {}, accepted) => unreachable!("it accepts for ever"),
            (client, peer) = async { (client.await.unwrap(), peer.await.unwrap()) } => {
                assert_eq!(peer, client.local_addr().unwrap());
            }
        }
    }
}
