//! The harness and the end-to-end suites.
