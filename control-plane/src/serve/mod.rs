//! The sockets.

mod calls;
mod connection;
mod credentials;
mod door;
mod http;
mod tcp;
mod unix;

pub(crate) use self::{
    calls::{CountCalls, Line},
    connection::Connection,
    credentials::Credentials,
    http::serve as serve_http,
    tcp::accept as accept_tls,
    unix::{SocketError, accept as accept_unix, open as open_unix},
};
