//! The server side of the mesh port: no certificate of ours, no connection.

use std::sync::Arc;

use rustls::{
    Error, RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{
    ALPN_HTTP2, ALPN_TCP,
    callers::VerifyCaller,
    client::Carried,
    identity::{Credentials, provider},
    spiffe::spiffe_id_of,
};
use crate::config::snapshot::{CertificateName, SpiffeId};

pub(super) fn config(source: &Credentials, roots: &Arc<RootCertStore>) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider))
        .build()
        .map_err(|e| Error::General(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(source.chain.clone(), source.key.clone_key())?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_TCP.to_vec()];
    never_resume(&mut config);
    Ok(Arc::new(config))
}

/// The TLS of an explicit listener: any client, or only those that these authorities vouch for, by one of the names.
pub(super) fn listener_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Option<(Vec<CertificateDer<'static>>, Vec<CertificateName>)>,
) -> Result<ServerConfig, Error> {
    let provider = provider();
    let has_clients = clients.is_some();
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((authorities, names)) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let verifier = verifier.map_err(|e| Error::General(e.to_string()))?;
            builder.with_client_cert_verifier(VerifyCaller::after(verifier, names))
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if has_clients {
        never_resume(&mut config);
    }
    Ok(config)
}

/// A resumed session takes the client's certificate from the session before: nobody looks again whether it has expired or
/// whether its authority is still trusted (RFC 8446 section 4.6.1 leaves that to the server). Mesh connections live for an
/// hour, so that the whole handshake costs little.
fn never_resume(config: &mut ServerConfig) {
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
}

/// What a finished handshake says about the peer.
#[derive(Clone, Debug)]
pub struct MeshPeer {
    /// Who it is.
    pub id: SpiffeId,
    /// What it carries.
    pub carried: Carried,
    /// Which target it means; `None`: its SNI names none.
    pub target: Option<MeshTarget>,
}

impl MeshPeer {
    /// Reads it off a server connection whose handshake is done; `None` if it is no peer of the mesh.
    pub fn of(connection: &rustls::ServerConnection) -> Option<Self> {
        let certificate = connection.peer_certificates().and_then(<[_]>::first)?;
        let carried = match connection.alpn_protocol() {
            Some(ALPN_HTTP2) => Carried::Http2,
            Some(ALPN_TCP) => Carried::Tcp,
            _ => return None,
        };
        let target = connection.server_name().and_then(MeshTarget::parse);
        Some(Self { id: spiffe_id_of(certificate).ok()?, carried, target })
    }
}

/// What an SNI of the mesh says: `<port>.<service>.<namespace>`, or `<port>.direct` where no one service owns the
/// endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MeshTarget {
    /// The application's port.
    pub port: u16,
    /// `namespace/name`, if a service is named.
    pub service: Option<Arc<str>>,
}

impl MeshTarget {
    /// Reads an SNI.
    pub fn parse(sni: &str) -> Option<Self> {
        let (port, rest) = sni.split_once('.')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let service = match rest.split_once('.') {
            Some((name, namespace)) if !name.is_empty() && !namespace.is_empty() => {
                Some(format!("{namespace}/{name}").into())
            }
            None if rest == "direct" => None,
            _ => return None,
        };
        Some(Self { port, service })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_sni_names_port_and_service() {
        let target = MeshTarget::parse("8080.orders.shop").unwrap();
        assert_eq!((target.port, target.service.as_deref()), (8080, Some("shop/orders")));
        assert_eq!(MeshTarget::parse("8080.direct").unwrap().service, None);
        for bad in
            ["", "8080", "0.orders.shop", "x.orders.shop", "80.orders", "80..shop", "80.orders.", "70000.a.b"]
        {
            assert_eq!(MeshTarget::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_sni_means_just_what_it_says(
            sni in prop_oneof!["[0-9]{0,6}[.][a-z.]{0,12}", "[0-9]{1,5}[.]direct", ".{0,20}"],
        ) {
            if let Some(MeshTarget { port, service }) = MeshTarget::parse(&sni) {
                let (digits, rest) = sni.split_once('.').unwrap();
                prop_assert!(port != 0 && digits.parse() == Ok(port));
                match service {
                    None => prop_assert_eq!(rest, "direct"),
                    Some(label) => {
                        let (namespace, name) = label.split_once('/').unwrap();
                        prop_assert!(!name.is_empty() && !name.contains('.') && !namespace.is_empty());
                        prop_assert_eq!(rest, format!("{name}.{namespace}"));
                    }
                }
            }
        }
    }
}
