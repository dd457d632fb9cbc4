//! Asks the peer of a shared connection whether it lives, while requests depend on it and nothing else is heard of it.

use std::{rc::Rc, time::Duration};

use h2::PingPong;
use tokio::time::sleep;

use super::http2::Life;
use crate::http::{h2::lives, io::Liveness};

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
            if !lives(&mut pings, liveness.gone_after).await {
                return;
            }
            life.hear();
        }
        heard = life.heard.get();
    }
}
