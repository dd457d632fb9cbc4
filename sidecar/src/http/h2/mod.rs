//! HTTP/2 by the `h2` crate itself: interim answers, reset codes and GOAWAY are in our hands (hyper hides them).

mod expect;
mod leave;
mod ping;
mod pump;
mod server;
mod stream;
mod turn;

pub use self::{
    ping::lives,
    pump::{PumpEnd, pump},
    server::{ServeEnd, serve},
    stream::ServerStream,
    turn::Writes,
};

/// What small DATA frames that nobody has read yet may cost, in h2's measure (256 bytes less the payload, each).
///
/// Its default, half of the connection's window, kills honest streams of small messages whose reader stalls: a window full
/// of frames of 64 bytes costs three times its own size. So much is granted, and no more.
pub fn data_frame_budget(connection_window: u32) -> usize {
    (connection_window as usize).saturating_mul(3)
}
