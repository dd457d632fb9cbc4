//! The client side towards the control plane: it must be the identity that our configuration says, by authorities that are
//! pinned there or that it gave us itself.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, Error, RootCertStore};

use super::{
    files::{IdentityError, certificates},
    identity::{Identity, provider},
    verify::{VerifyPeer, Wanted},
};
use crate::config::snapshot::SpiffeId;

/// The authorities of a PEM file.
pub fn pinned(path: &Path) -> Result<Arc<RootCertStore>, IdentityError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        roots
            .add(authority)
            .map_err(|e| IdentityError::Content { path: path.into(), problem: e.to_string() })?;
    }
    Ok(Arc::new(roots))
}

/// A client for one connection, that wants a certificate of these authorities. `own` is who we are; without it we have to
/// prove it otherwise.
pub fn to_control_plane(
    authorities: &Arc<RootCertStore>,
    expected: &SpiffeId,
    own: Option<&Identity>,
) -> Result<ClientConfig, Error> {
    let verifier = VerifyPeer::new(authorities, Wanted::Identity(expected.clone()));
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own.map(Identity::certificate) {
        Some((chain, key)) => builder.with_client_auth_cert(chain.to_vec(), key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A connection lives for days: whoever it ends with is looked at anew.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
