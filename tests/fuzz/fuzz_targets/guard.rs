//! What the guard accepts, httparse and hyper read alike; and what httparse reads, detection does not call opaque.
//!
//! `cargo xtask fuzz --runs 1000000`
#![no_main]

// By their paths: nothing else of the sidecar has to be built with the sanitizers. The modules stand as they do there.
#[path = "../../../sidecar/src/error.rs"]
#[allow(dead_code, reason = "only what the check needs is used here")]
mod error;
#[path = "../../../sidecar/src/http"]
#[allow(dead_code, unused_imports, reason = "only what the check needs is used here")]
mod http {
    #[path = "fields.rs"]
    pub(crate) mod fields;
    #[path = "first_bytes.rs"]
    pub(crate) mod first_bytes;
    #[path = "guard/mod.rs"]
    pub(crate) mod guard;
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| http::guard::fuzz::check(input));
