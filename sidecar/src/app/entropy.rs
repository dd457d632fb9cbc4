//! The crypto library's entropy, gathered before the first handshake wants it.
//!
//! The library seeds its random numbers from the jitter of the CPU's own timing. That takes sixty milliseconds or so of
//! whoever asks first, once for the process: it would be a worker, and the first request through it would wait. What each
//! thread adds of its own takes microseconds.

use crate::{config::bootstrap::Config, tls};

/// Gathers it on a thread of its own. Begun when the listeners are open: before that it would take the start's CPU. A
/// handshake that comes meanwhile waits for what is left of it.
pub(super) fn gather(config: &Config) {
    if wants_any(config) {
        // Without the thread the first handshake does it.
        std::thread::Builder::new().name("entropy".into()).spawn(tls::gather_entropy).ok();
    }
}

/// Whether there will be handshakes.
fn wants_any(config: &Config) -> bool {
    config.has_identity()
        || !config.upstream_tls.is_empty()
        || config.listeners.iter().any(|listener| listener.tls.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_no_tls_pays_for_none() {
        let wants = |text: &str| wants_any(&Config::parse("test", text, []).unwrap());
        assert!(!wants(""));
        assert!(!wants("listeners: [{ name: a, address: '127.0.0.1:1', protocol: HTTP }]"));
        for with_tls in [
            "identity: { certificate: c, key: k, bundle: b }",
            "controlPlane: { address: 'c:1', bundle: b, join: { identity: spiffe://m/ns/a/sa/b, token: t } }\nstateDirectory: s",
            "upstreamTls: [{ name: a }]",
            "listeners: [{ name: a, address: '127.0.0.1:1', tls: { certificate: c, key: k } }]",
        ] {
            assert!(wants(with_tls), "{with_tls}");
        }
    }
}
