//! How an exchange ends: by its answer's body, by what is said here, or by its drop.

use http::Response;

use super::Exchange;
use crate::{
    drain::Stage,
    error::{Failure, Reason},
    http::{
        body::{Body, BodyError, End, Observer},
        ending::{Cut, Ending},
    },
    upstream::{RelayEnd, Relayed, Side},
};

impl Exchange {
    /// The answer's head is there: the exchange ends with its body.
    pub fn answer(mut self, response: Response<Body>) -> Response<Body> {
        let record = self.record();
        record.status = response.status().as_u16();
        record.first_byte = Some(record.started.elapsed());
        response.map(|body| body.observed(Box::new(self)))
    }

    /// An opaque connection has ended.
    pub fn relayed(mut self, relayed: &Relayed) {
        let record = self.record();
        record.bytes_received = relayed.forth;
        record.bytes_sent = relayed.back;
        match &relayed.end {
            RelayEnd::Closed => {}
            RelayEnd::Idle => record.reason = Some(Reason::StreamIdle),
            RelayEnd::Failed(side, error) => {
                record.reason = Some(match side {
                    Side::Downstream => Reason::DownstreamClosed,
                    Side::Upstream => Reason::UpstreamClosed,
                });
                record.detail = Some(error.to_string().into_boxed_str());
            }
            RelayEnd::Refused(failure) => self.failed(failure),
        }
        self.end();
    }

    /// What came never became a request, and was answered before anybody saw it, by a body of so many bytes.
    pub fn unserved(mut self, failure: &Failure, told: usize) {
        self.failed(failure);
        let record = self.record();
        record.status = failure.reason.status().as_u16();
        record.bytes_sent = told as u64;
        self.end();
    }

    /// Ends without an answer: refused, or reset.
    pub fn abandon(mut self) {
        self.end();
    }

    /// Nothing has happened after all: no record is left.
    pub fn forget(mut self) {
        self.release(self.worker.now());
        let Some(record) = self.record.take() else { return };
        self.leave_filters(&record);
    }

    /// Why we ourselves have ended it, if we have.
    fn cut(&self) -> Option<Cut> {
        let gone = self.worker.shared.drain.reached(Stage::Gone).then(|| Reason::Draining.into());
        self.ending.as_ref().and_then(Ending::why).or(gone)
    }

    fn end(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        let now = self.worker.now();
        record.duration = (self.worker.shared.started + now).saturating_duration_since(record.started);
        record.bytes_received += self.received.as_ref().map_or(0, |received| received.bytes.get());
        // What looks like the peer's doing was ours if we cut its connection.
        if matches!(record.reason, Some(Reason::DownstreamClosed | Reason::DownstreamBody))
            && let Some(cut) = self.cut()
        {
            record.reason = Some(cut.reason);
            record.detail = cut.rule.map(Into::into).or(record.detail);
        }
        self.release(now);
        self.leave_filters(&record);
        self.worker.telemetry.finish(*record, &self.settings);
    }
}

impl Observer for Exchange {
    fn on_data(&mut self, bytes: usize) {
        self.record().bytes_sent += bytes as u64;
    }

    fn on_end(&mut self, end: End, error: Option<&BodyError>) {
        let record = self.record();
        match end {
            End::Complete => {}
            End::Failed => {
                record.reason = Some(match error {
                    Some(BodyError::Own(reason)) => *reason,
                    _ => Reason::UpstreamClosed,
                });
                record.detail = error.map(|e| e.to_string().into_boxed_str());
            }
            End::Abandoned => record.reason = record.reason.or(Some(Reason::DownstreamClosed)),
        }
        self.end();
    }
}

impl Drop for Exchange {
    /// Nobody ended it: the peer went away before there was an answer.
    fn drop(&mut self) {
        if let Some(record) = &mut self.record {
            record.reason = record.reason.or(Some(Reason::DownstreamClosed));
            self.end();
        }
    }
}
