//! The client side: towards a sidecar, which must be the identity that policy names, and towards endpoints without one.

use std::sync::Arc;

use rustls::{ClientConfig, Error, RootCertStore};

use super::{
    ALPN_HTTP2, ALPN_TCP,
    identity::{Credentials, provider},
    verify::{VerifyPeer, Wanted},
};
use crate::config::snapshot::SpiffeId;

/// What a mesh connection carries; its ALPN.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Carried {
    /// HTTP/2.
    Http2,
    /// One opaque stream.
    Tcp,
}

pub(super) fn config(
    source: &Credentials,
    roots: &Arc<RootCertStore>,
    expected: &SpiffeId,
    carried: Carried,
) -> Result<ClientConfig, Error> {
    let verifier = VerifyPeer::new(roots, Wanted::Identity(expected.clone()));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(source.chain.clone(), source.key.clone_key())?;
    config.alpn_protocols = vec![match carried {
        Carried::Http2 => ALPN_HTTP2.to_vec(),
        Carried::Tcp => ALPN_TCP.to_vec(),
    }];
    Ok(config)
}
