//! An opaque connection that counts as open until it is dropped.

use std::cell::Cell;

use super::{
    Upstream,
    connect::{self, BoxStream},
    target::Target,
    way::{Circuit, Way},
};
use crate::{
    config::snapshot::state::Counted,
    error::Failure,
    http::io::{Hook, Hooked, Stream},
    telemetry::OpenConnection,
    tls::Carried,
};

/// Does nothing on a stream but to be there as long as it is.
struct Open {
    _counted: Option<Counted>,
    _open: OpenConnection,
}

impl<S: Stream> Hook<S> for Open {}

impl Upstream {
    /// Opens a stream for opaque bytes. It counts among the service's connections while it lives.
    pub async fn tunnel(&self, target: &Target<'_>, circuit: Option<&Circuit>) -> Result<BoxStream, Failure> {
        let waits_for = Cell::default();
        let way = Way::new(self, target, circuit, &waits_for);
        let counted = way.count_connection(false)?;
        let dial = self.dial(target, Carried::Tcp)?;
        let (stream, open) = Box::pin(connect::dial(dial, self.limits.connect_timeout)).await?;
        Ok(Box::new(Hooked::new(stream, Open { _counted: counted, _open: open })))
    }
}
