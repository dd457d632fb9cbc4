//! Asks the peer of a connection whether it lives.
//!
//! TCP tells of a peer that is gone, PING (RFC 9113 section 6.7) also of one that has stopped: its kernel goes on
//! acknowledging. Only sidecars are asked: a gRPC peer takes frequent pings for abuse and closes the connection.

use std::{
    future::{pending, poll_fn},
    rc::Rc,
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

use super::stream::Streams;
use crate::http::io::Liveness;

/// Whether the peer answers in time.
pub async fn lives(pings: &mut PingPong, within: Duration) -> bool {
    if pings.send_ping(Ping::opaque()).is_err() {
        return false;
    }
    matches!(timeout(within, poll_fn(|cx| pings.poll_pong(cx))).await, Ok(Ok(_)))
}

/// Ends when a peer that is to be asked is gone. It is asked while streams of its are under way: their answers may have
/// no reader any more, and whoever makes them is told so only by the connection's end.
pub(super) async fn until_gone(pings: Option<PingPong>, liveness: Option<Liveness>, streams: Rc<Streams>) {
    let (Some(mut pings), Some(liveness)) = (pings, liveness) else { return pending().await };
    loop {
        sleep(liveness.ask_after.max(Duration::from_millis(1))).await;
        if streams.are_under_way() && !lives(&mut pings, liveness.gone_after).await {
            return;
        }
    }
}
