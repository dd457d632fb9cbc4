//! Ports of loopback for programs that are told theirs before they start.

#![allow(clippy::unwrap_used, reason = "a harness makes its test fail by panicking")]

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the kernel gives to whoever asks for any (`ip_local_port_range`): a client of another test may be given
/// one of them at any moment.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port that nobody listens on, and that nobody in this process is told again. Asking the kernel for any port gave the same
/// one twice to a program that was to listen on three.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Programs of tests that run beside this one begin elsewhere.
    let begin = u16::try_from(std::process::id() % u32::from(COUNT / 64)).unwrap() * 64;
    let port = || FIRST + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
    std::iter::repeat_with(port).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}
