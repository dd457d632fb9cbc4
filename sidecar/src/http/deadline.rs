//! A body that must have ended by a certain time.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::body::{Body, BodyError};
use crate::error::Reason;

/// The body, which fails with `reason` if it has not ended by `deadline`.
pub fn until(body: Body, deadline: Instant, reason: Reason) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::boxed(Until { body, timer: Box::pin(tokio::time::sleep_until(deadline)), reason })
}

struct Until {
    body: Body,
    timer: Pin<Box<Sleep>>,
    reason: Reason,
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Own(self.reason))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_body_fails_with_the_reason() {
        let never = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<Frame<Bytes>, BodyError>,
        >());
        let mut body =
            until(Body::boxed(never), Instant::now() + Duration::from_secs(1), Reason::RequestTimeout);
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(matches!(error, BodyError::Own(Reason::RequestTimeout)));
    }
}
