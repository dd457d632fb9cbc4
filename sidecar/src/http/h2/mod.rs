//! HTTP/2 by the `h2` crate itself: interim answers, reset codes and GOAWAY are in our hands (hyper hides them).

mod pump;
mod server;

pub use self::{
    pump::{PumpEnd, pump},
    server::{ServeEnd, serve},
};
