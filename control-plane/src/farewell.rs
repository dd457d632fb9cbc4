//! How a stream ends that is ended here: by a last word, or else by the end of its connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::{sync::mpsc, time};
use tonic::Status;

/// How long the last word of a stream may take to get out.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says why a stream ends. Who does not read is not waited for, and his connection is cut: what was said to him before waits
/// in it, and would for as long as he likes.
pub(crate) async fn farewell<T>(outgoing: &mpsc::Sender<Result<T, Status>>, status: Status, cut: &Cut) {
    let said = async {
        outgoing.send(Err(status)).await.ok();
        // Taken out of the channel it is only once there is a window for it, and for all that was said before.
        outgoing.closed().await;
    };
    if time::timeout(PATIENCE, said).await.is_err() {
        cut.make();
    }
}

/// Ends a connection from elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut(Arc<Cutting>);

#[derive(Debug, Default)]
struct Cutting {
    is_made: AtomicBool,
    waker: AtomicWaker,
}

impl Cut {
    /// Ends it.
    pub(crate) fn make(&self) {
        self.0.is_made.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    /// Ready once it is to end.
    pub(crate) fn poll_made(&self, context: &Context<'_>) -> Poll<()> {
        // Before the look: what is made in between wakes.
        self.0.waker.register(context.waker());
        if self.0.is_made.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::Instant;

    use super::*;
    use crate::reason::Reason;

    fn slow() -> Status {
        Reason::SlowConsumer.status("too slow")
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_gets_no_last_word_and_is_cut() {
        for waiting in [0, 1] {
            let (outgoing, _unread) = mpsc::channel(1);
            for _ in 0..waiting {
                outgoing.send(Ok(())).await.unwrap();
            }
            let (began, cut) = (Instant::now(), Cut::default());
            let elsewhere = cut.clone();
            let cutting = tokio::spawn(async move { poll_fn(|context| elsewhere.poll_made(context)).await });
            farewell(&outgoing, slow(), &cut).await;
            assert_eq!(began.elapsed(), PATIENCE);
            cutting.await.unwrap();
            // Who looks later sees it, too.
            poll_fn(|context| cut.poll_made(context)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_gets_the_last_word_and_keeps_his_connection() {
        let (outgoing, mut incoming) = mpsc::channel::<Result<(), _>>(1);
        let reading = tokio::spawn(async move { incoming.recv().await.unwrap().unwrap_err() });
        let cut = Cut::default();
        farewell(&outgoing, slow(), &cut).await;
        assert_eq!(reading.await.unwrap().message(), "too slow");
        let is_cut = poll_fn(|context| Poll::Ready(cut.poll_made(context).is_ready())).await;
        assert!(!is_cut);
    }
}
