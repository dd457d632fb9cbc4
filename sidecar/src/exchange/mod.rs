//! One request from its first byte to the last byte of its answer: its record, and the sure end of it.
//!
//! Whatever happens (answered, failed, cut off in the middle, given up by the peer) an exchange ends exactly once, and its
//! record is counted, logged and traced then. What is noted on its way stands in the order in which it comes to it: here its
//! beginning, in `received` its body, in `filters` who may change or answer it, in `attempt` whom it is sent to, in `end`
//! what becomes of it.

mod attempt;
mod end;
mod filters;
mod received;
mod tentative;

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderValue, Version, header, request};

use self::received::Received;
pub use self::tentative::Tentative;
use crate::{
    config::snapshot::{Endpoint, Snapshot, TelemetrySettings, state::Counted},
    error::Failure,
    filter::Run,
    http::ending::Ending,
    telemetry::{Direction, Protocol, Record},
    worker::Worker,
};

/// A request, or an opaque connection, under way.
pub struct Exchange {
    worker: Rc<Worker>,
    settings: TelemetrySettings,
    /// What is known so far; taken at the end.
    record: Option<Box<Record>>,
    received: Option<Rc<Received>>,
    serving: Option<Arc<Endpoint>>,
    /// The chains that the request has entered: the service's, then the rule's.
    filters: Vec<Run>,
    /// Why the connection that it came on was cut, if it was.
    ending: Option<Ending>,
    _counted: Option<Counted>,
}

impl Exchange {
    /// Begins a record.
    pub fn begin(
        worker: &Rc<Worker>,
        direction: Direction,
        snapshot: &Snapshot,
        downstream: SocketAddr,
    ) -> Self {
        let mut record = Box::new(Record::begun(direction, snapshot.revision));
        record.downstream = Some(downstream);
        record.service = Arc::clone(&worker.words.unknown);
        Self {
            worker: Rc::clone(worker),
            settings: snapshot.telemetry,
            record: Some(record),
            received: None,
            serving: None,
            filters: Vec::new(),
            ending: None,
            _counted: None,
        }
    }

    /// It came on this connection, and ends with it.
    #[must_use]
    pub fn on(mut self, ending: &Ending) -> Self {
        self.ending = Some(ending.clone());
        self
    }

    /// Counts and logs a connection that is closed unserved.
    pub fn refuse(worker: &Rc<Worker>, direction: Direction, downstream: SocketAddr, failure: &Failure) {
        let mut exchange = Self::begin(worker, direction, &worker.snapshot(), downstream);
        exchange.record().protocol = Protocol::Tcp;
        exchange.failed(failure);
        exchange.abandon();
    }

    /// What is known so far.
    pub fn record(&mut self) -> &mut Record {
        self.record.as_mut().expect("the record is there until the exchange ends")
    }

    /// Notes what the request's head says.
    pub fn describe(&mut self, head: &request::Parts) {
        let record = self.record();
        record.method = Some(head.method.clone());
        record.path = head.uri.path_and_query().cloned();
        let named = || HeaderValue::from_str(head.uri.authority()?.as_str()).ok();
        record.authority = head.headers.get(header::HOST).cloned().or_else(named);
        record.protocol = protocol_of(head.version);
    }

    /// Continues the trace that the request belongs to, or begins one.
    pub fn trace(&mut self, headers: &mut HeaderMap) {
        let settings = self.settings;
        let Some(record) = &mut self.record else { return };
        record.trace = self.worker.telemetry.trace(record.direction, record.security, headers, &settings);
    }

    /// The service that is meant; `None`: an endpoint that no one service owns.
    pub fn to_service(&mut self, service: Option<&Arc<str>>) {
        if let Some(service) = service {
            self.record().service = Arc::clone(service);
        }
    }

    /// Keeps a place among the service's requests until the end.
    pub fn hold(&mut self, place: Counted) {
        self._counted = Some(place);
    }

    /// Notes why the request failed.
    pub fn failed(&mut self, failure: &Failure) {
        let record = self.record();
        record.reason = Some(failure.reason);
        record.detail.clone_from(&failure.detail);
    }
}

/// The version as telemetry names it.
fn protocol_of(version: Version) -> Protocol {
    match version {
        Version::HTTP_10 => Protocol::Http10,
        Version::HTTP_2 => Protocol::Http2,
        _ => Protocol::Http11,
    }
}
