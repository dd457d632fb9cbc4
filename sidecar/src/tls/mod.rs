//! Who we are and who the peer is: identities, their rotation, the two sides of mutual TLS, and TLS with who has no sidecar.
//!
//! TLS 1.3 only between sidecars, TLS 1.2 too with others, the key exchange X25519MLKEM768 preferred, the provider aws-lc-rs named everywhere. The
//! certificate alone says who the peer is; a header never does.

mod callers;
mod client;
mod clients;
mod control_plane;
mod files;
mod identity;
mod in_force;
mod opening;
mod own_key;
mod server;
mod spiffe;
mod upstream;
mod verify;

pub use self::{
    client::Carried,
    control_plane::{pinned, to_control_plane},
    files::{IdentityError, IdentityFiles, ListenerClients, ListenerFiles},
    identity::{Credentials, Identity, Part, Unfit, gather_entropy},
    in_force::InForce,
    opening::Opening,
    own_key::{KeyError, OwnKey},
    server::{MeshPeer, MeshTarget},
    spiffe::spiffe_id_of,
    upstream::{Offer, UpstreamFiles, UpstreamTls, UpstreamTlsByName},
    verify::VerifyPeer,
};

/// HTTP requests as ordinary HTTP/2 requests.
pub const ALPN_HTTP2: &[u8] = b"trama-h2/1";
/// One connection per opaque stream, which begins with an [`Opening`].
pub const ALPN_TCP: &[u8] = b"trama-tcp/1";
