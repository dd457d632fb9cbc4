//! TLS of the tests' own: clients with any certificate, any ALPN and any name, and servers.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::{Authority, Issued};

/// A certificate with its key.
pub type Certified = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A client that shows this certificate, or none, and takes any server: it is the server's refusals that are tested.
#[must_use]
pub fn client(certificate: Option<&Issued>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    client_with(certificate.map(parsed), alpn)
}

/// The same with what is no PEM.
#[must_use]
pub fn client_with(certificate: Option<Certified>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    client_of(rustls::DEFAULT_VERSIONS, certificate, alpn)
}

/// A client that is too old for TLS 1.3.
#[must_use]
pub fn old_client(certificate: Option<&Issued>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    client_of(&[&rustls::version::TLS12], certificate.map(parsed), alpn)
}

fn client_of(
    versions: &[&'static SupportedProtocolVersion],
    certificate: Option<Certified>,
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("the provider has these versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakeAny(provider)));
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key).expect("certificate and key belong together")
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// A server with this certificate; with `clients`, only for who shows a certificate of that authority.
#[must_use]
pub fn server(certificate: &Issued, alpn: &[&[u8]], clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.3");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("our own PEM");
            roots.add(root).expect("our own authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("there is an authority"))
        }
    };
    let (chain, key) = parsed(certificate);
    let mut config = builder.with_single_cert(chain, key).expect("certificate and key belong together");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn parsed(issued: &Issued) -> Certified {
    let chain = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("our own PEM");
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("our own PEM");
    (vec![chain], key)
}

/// Makes the handshake.
pub async fn connect(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    name: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

#[derive(Debug)]
struct TakeAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakeAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
