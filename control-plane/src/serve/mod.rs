//! The sockets, and who is at their other end.

mod connection;
mod credentials;
mod http;
mod peer;
mod tcp;
mod unix;

pub(crate) use self::{
    connection::Connection, credentials::Credentials, http::serve as serve_http, peer::Peer,
};
pub(crate) use self::{
    tcp::accept as accept_tls,
    unix::{SocketError, accept as accept_unix, open as open_unix},
};
