//! The client side towards the control plane: it must be the identity that our configuration says, by authorities that are
//! pinned there.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore};

use super::{
    files::{IdentityError, certificates},
    identity::{Identity, provider},
    verify::{VerifyPeer, Wanted},
};
use crate::config::snapshot::SpiffeId;

/// A client for one connection. `authorities` are read anew: they may have been replaced. `own` is who we are.
pub fn to_control_plane(
    authorities: &Path,
    expected: &SpiffeId,
    own: &Identity,
) -> Result<ClientConfig, IdentityError> {
    let content = |problem: rustls::Error| IdentityError::Content {
        path: authorities.into(),
        problem: problem.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(authorities)? {
        roots.add(authority).map_err(content)?;
    }
    let verifier = VerifyPeer::new(&Arc::new(roots), Wanted::Identity(expected.clone()));
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(content)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let (chain, key) = own.certificate();
    let mut config = builder.with_client_auth_cert(chain.to_vec(), key.clone_key()).map_err(content)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A connection lives for days: whoever it ends with is looked at anew.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
