//! Asks the peer of a shared connection whether it lives, while requests depend on it.
//!
//! TCP tells of a peer that is gone, PING (RFC 9113 section 6.7) also of one that has stopped: its kernel goes on
//! acknowledging. Only sidecars are asked: a gRPC server takes frequent pings for abuse and closes the connection.

use std::{future::poll_fn, rc::Rc, time::Duration};

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

use super::http2::Life;
use crate::http::io::Liveness;

/// Ends when the peer is gone or the connection has ended.
pub(super) async fn until_gone(mut pings: PingPong, life: Rc<Life>, liveness: Liveness) {
    let mut heard = life.heard.get();
    loop {
        sleep(liveness.ask_after.max(Duration::from_millis(1))).await;
        if life.closed.get() {
            return;
        }
        let silent = life.heard.get() == heard;
        if silent && life.active.get() > 0 {
            if !answers(&mut pings, liveness.gone_after).await {
                return;
            }
            life.hear();
        }
        heard = life.heard.get();
    }
}

async fn answers(pings: &mut PingPong, within: Duration) -> bool {
    if pings.send_ping(Ping::opaque()).is_err() {
        return false;
    }
    matches!(timeout(within, poll_fn(|cx| pings.poll_pong(cx))).await, Ok(Ok(_)))
}
