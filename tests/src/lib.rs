//! The harness and the end-to-end suites.

pub mod lab;
pub mod process;
pub mod programs;
