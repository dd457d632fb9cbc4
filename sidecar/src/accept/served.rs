//! Which of the addresses that a captured connection may have dialled are this pod's to serve.

use std::{
    cell::Cell,
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// The kernel's word on which addresses lead back into this network.
///
/// Asked for the route of one address (rtnetlink(7)), and not by binding to it: where `ip_nonlocal_bind` is set every address
/// binds, and without a free descriptor none does. The socket is opened once. Its question is answered before the call
/// returns, without a lock of the kernel's and without a list that could be out of date.
#[derive(Debug)]
pub struct OwnAddresses {
    socket: Option<OwnedFd>,
    asked: Cell<u32>,
}

impl OwnAddresses {
    /// Opens the way to the kernel. Without one, only what capture left as it was is served.
    pub fn open() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // No protocol means NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None);
        let socket = socket.inspect_err(|error| {
            tracing::error!(
                "the kernel cannot be asked for this pod's addresses (socket AF_NETLINK: {error}): plain callers reach \
                 it at its first address only; allow the sidecar that socket"
            );
        });
        Self { socket: socket.ok(), asked: Cell::new(0) }
    }

    /// Whether others are served at an address: this pod has it, and it is not loopback.
    ///
    /// Capture rewrites the destination before the kernel looks whether it may have come from outside. So what a neighbour
    /// sends to 127.0.0.1 arrives as well, and to dial what was dialled would open what listens on loopback alone. An address
    /// that only passes through this network may not be dialled either: the sidecar would be an open proxy.
    ///
    /// `local` is the address that capture put in its place: the pod's first, and mostly the same.
    pub fn serves(&self, dialled: IpAddr, local: IpAddr) -> bool {
        // To dial the unspecified address is to dial loopback, which is what the kernel says of it.
        let is_private = dialled.is_loopback() || dialled.is_unspecified();
        !is_private && (dialled == local || self.has(dialled))
    }

    fn has(&self, address: IpAddr) -> bool {
        let Some(socket) = &self.socket else { return false };
        let number = self.asked.get().wrapping_add(1);
        self.asked.set(number);
        ask(socket.as_fd(), address, number).unwrap_or_else(|error| {
            tracing::warn!(%error, %address, "the kernel does not say whether this is the pod's address; refused");
            false
        })
    }
}

// linux/netlink.h, linux/rtnetlink.h.
const HEADER: usize = 16;
const ROUTE: usize = 12;
const REQUEST: u16 = 1;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const TO: u16 = 1;
const LOCAL: u8 = 2;

fn ask(socket: BorrowedFd<'_>, address: IpAddr, number: u32) -> io::Result<bool> {
    send(socket, &question(address, number), SendFlags::empty())?;
    loop {
        let mut answer = [0; 1024];
        let (_, length) = recv(socket, &mut answer, RecvFlags::empty())?;
        // What answers an earlier question was left by one that failed.
        if let Some(is_local) = read(&answer[..length.min(1024)], number) {
            return Ok(is_local);
        }
    }
}

fn question(address: IpAddr, number: u32) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (AddressFamily::INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AddressFamily::INET6, address.octets().to_vec()),
    };
    let attribute = 4 + octets.len();
    let mut message = Vec::with_capacity(HEADER + ROUTE + attribute);
    message.extend(((HEADER + ROUTE + attribute) as u32).to_ne_bytes());
    message.extend(GET_ROUTE.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(number.to_ne_bytes());
    // The sender's number: the kernel knows it.
    message.extend([0; 4]);
    message.extend([family.as_raw() as u8, (octets.len() * 8) as u8]);
    message.extend([0; ROUTE - 2]);
    message.extend((attribute as u16).to_ne_bytes());
    message.extend(TO.to_ne_bytes());
    message.extend(octets);
    message
}

/// Whether the route ends in this network; nothing where it answers another question. An error message says that there
/// is no route at all.
fn read(answer: &[u8], number: u32) -> Option<bool> {
    let (header, route) = answer.split_at_checked(HEADER)?;
    if header[8..12] != number.to_ne_bytes() {
        return None;
    }
    Some(header[4..6] == NEW_ROUTE.to_ne_bytes() && route.get(7) == Some(&LOCAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_and_others_addresses_are_not_served() {
        let (own, first) = (OwnAddresses::open(), ip("203.0.113.1"));
        assert!(own.serves(first, first), "what capture left as it was is ours");
        for dialled in
            ["127.0.0.1", "127.0.0.53", "::1", "203.0.113.77", "2001:db8::77", "224.0.0.1", "0.0.0.0", "::"]
        {
            assert!(!own.serves(ip(dialled), first), "{dialled}");
            assert!(!own.serves(ip(dialled), ip("127.0.0.1")), "{dialled}");
        }
        assert!(!own.serves(ip("127.0.0.1"), ip("127.0.0.1")));
    }

    #[test]
    fn the_kernel_knows_its_own_addresses() {
        let own = OwnAddresses::open();
        for _ in 0..1000 {
            assert!(own.has(ip("127.0.0.1")) && own.has(ip("::1")));
            assert!(!own.has(ip("203.0.113.77")) && !own.has(ip("2001:db8::77")));
        }
    }

    #[test]
    fn an_answer_to_an_earlier_question_is_passed_over() {
        let own = OwnAddresses::open();
        send(own.socket.as_ref().unwrap(), &question(ip("127.0.0.1"), 77), SendFlags::empty()).unwrap();
        assert!(!own.has(ip("203.0.113.77")));
        assert!(own.has(ip("127.0.0.1")));
    }

    #[test]
    fn without_a_way_to_the_kernel_only_what_was_left_as_it_was_is_served() {
        let own = OwnAddresses { socket: None, asked: Cell::new(0) };
        assert!(own.serves(ip("10.0.0.1"), ip("10.0.0.1")) && !own.serves(ip("10.0.0.2"), ip("10.0.0.1")));
    }
}
