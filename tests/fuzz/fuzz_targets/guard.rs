//! What the guard accepts, httparse and hyper read alike.
//!
//! `cargo +nightly fuzz run guard --fuzz-dir tests/fuzz -- -max_len=2048 -dict=tests/fuzz/http1.dict`
#![no_main]

// By its path: nothing else of the sidecar has to be built with the sanitizers.
#[path = "../../../sidecar/src/http/guard/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only what the check needs is used here")]
mod guard;

libfuzzer_sys::fuzz_target!(|input: &[u8]| guard::fuzz::check(input));
