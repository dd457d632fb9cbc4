//! An opaque connection: how it begins, and that it counts as open until it is dropped.

use std::cell::Cell;

use tokio::time::{Instant, timeout_at};

use super::{
    Upstream,
    connect::{self, BoxStream},
    failure,
    target::Target,
    way::{Circuit, Way},
};
use crate::{
    config::snapshot::state::Counted,
    error::{Failure, Reason},
    http::io::{Hook, Hooked, Stream},
    telemetry::OpenConnection,
    tls::{Carried, Opening},
};

/// Does nothing on a stream but to be there as long as it is.
struct Open {
    _counted: Option<Counted>,
    _open: OpenConnection,
}

impl<S: Stream> Hook<S> for Open {}

impl Upstream {
    /// Opens a stream for opaque bytes: to an endpoint's sidecar once that has reached its application. It counts among the
    /// service's connections while it lives.
    pub async fn tunnel(&self, target: &Target<'_>, circuit: Option<&Circuit>) -> Result<BoxStream, Failure> {
        let waits_for = Cell::default();
        let way = Way::new(self, target, circuit, &waits_for);
        let counted = way.count_connection(false)?;
        let dial = self.dial(target, Carried::Tcp)?;
        let deadline = Instant::now() + self.limits.connect_timeout;
        let (mut stream, open) = Box::pin(connect::dial(dial, self.limits.connect_timeout)).await?;
        if way.meshed() {
            let opened = timeout_at(deadline, opened(&mut stream)).await;
            let late =
                || Failure::before(Reason::ConnectTimeout).detail("the endpoint's sidecar says nothing");
            opened.map_err(|_| late())??;
        }
        Ok(Box::new(Hooked::new(stream, Open { _counted: counted, _open: open })))
    }
}

/// Hears from the endpoint's sidecar that it has reached its application. Whatever happens before, no byte was sent.
async fn opened(stream: &mut BoxStream) -> Result<(), Failure> {
    let (reason, what) = match Opening::hear(stream).await {
        Ok(Opening::Reached) => return Ok(()),
        Ok(Opening::Refused(Ok(reason))) => (reason, "said by the endpoint's sidecar".to_owned()),
        Ok(Opening::Refused(Err(name))) => {
            (Reason::ApplicationUnreachable, format!("the endpoint's sidecar says: {name}"))
        }
        Err(error) => {
            if let Some(refused) = failure::refused(&error) {
                return Err(refused);
            }
            (Reason::TlsFailed, format!("the endpoint's sidecar broke off: {error}"))
        }
    };
    Err(Failure::before(reason).detail(what))
}
