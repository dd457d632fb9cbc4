//! What the guard accepts, httparse and hyper read alike.
//!
//! `cargo xtask fuzz --runs 1000000`
#![no_main]

// By its path: nothing else of the sidecar has to be built with the sanitizers.
#[path = "../../../sidecar/src/http/guard/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only what the check needs is used here")]
mod guard;

libfuzzer_sys::fuzz_target!(|input: &[u8]| guard::fuzz::check(input));
