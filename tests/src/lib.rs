//! The harness and the end-to-end suites.

pub mod authority;
pub mod charts;
pub mod clock;
pub mod control;
pub mod control_plane;
pub mod frames;
pub mod joined;
pub mod lab;
pub mod mesh;
pub mod peers;
pub mod ports;
pub mod process;
pub mod programs;
pub mod published;
pub mod smuggling;
pub mod stalled;
pub mod tls;
