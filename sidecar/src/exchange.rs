//! One request from its first byte to the last byte of its answer: its record, and the sure end of it.
//!
//! Whatever happens (answered, failed, cut off in the middle, given up by the peer) an exchange ends exactly once, and its
//! record is counted, logged and traced then.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Response, Version, header, request};

use crate::{
    balance::Event,
    config::snapshot::{
        Endpoint, FilterChain, Snapshot, SpiffeId, TelemetrySettings, Transport, state::Counted,
    },
    drain::Stage,
    error::{Failure, Reason},
    filter::{Admitted, Answered, Context, Run},
    http::{
        body::{Body, BodyError, End, Held, Observer},
        ending::Ending,
        fields, shape,
    },
    telemetry::{Direction, Protocol, Record, Security},
    upstream::{Leg, RelayEnd, Relayed, Side},
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

    /// Counts the bytes of the request's body, and notes its end.
    pub fn watch_request(&mut self, body: Body) -> Body {
        if http_body::Body::is_end_stream(&body) {
            return body;
        }
        let received = Rc::<Received>::default();
        self.received = Some(Rc::clone(&received));
        body.observed(Box::new(received))
    }

    /// Has an attempt's body say whether its reader waits for more of it, or for room to pass on what it has.
    pub fn watch_attempt(&self, body: Body) -> Body {
        let Some(received) = self.received.as_ref().filter(|_| !http_body::Body::is_end_stream(&body)) else {
            return body;
        };
        received.wanted.set(false);
        body.holding(Rc::clone(received) as _)
    }

    /// Whether the client is waited for: more of its request is wanted than has come. Not so while an endpoint that stops
    /// reading leaves no room for it.
    pub fn waits_for_client(&self) -> bool {
        self.received.as_ref().is_some_and(|received| received.wanted.get() && !received.whole.get())
    }

    /// Continues the trace that the request belongs to, or begins one.
    pub fn trace(&mut self, headers: &mut HeaderMap) {
        let settings = self.settings;
        let Some(record) = &mut self.record else { return };
        record.trace = self.worker.telemetry.trace(record.direction, record.security, headers, &settings);
    }

    /// Gives each attempt after the first a span of its own.
    pub fn retrace(&mut self, headers: &mut HeaderMap) {
        let record = self.record.as_mut().filter(|r| r.attempts > 1);
        if let Some(record) = record
            && let Some(trace) = record.trace
        {
            record.trace = Some(self.worker.telemetry.retrace(trace, headers));
        }
    }

    /// Gives the request the shape of the leg that it goes on, and notes which version that is.
    pub fn shape(&mut self, head: &mut request::Parts, leg: &Leg<'_>) {
        if matches!(leg, Leg::Mesh(_)) {
            head.headers.insert(fields::CLIENT_VERSION, fields::version_value(head.version));
        }
        self.record().upstream_protocol = Some(if leg.is_http2() {
            shape::http2(head, leg.scheme());
            Protocol::Http2
        } else {
            shape::http1(head);
            Protocol::Http11
        });
    }

    /// The service that is meant; `None`: an endpoint that no one service owns.
    pub fn to_service(&mut self, service: Option<&Arc<str>>) {
        if let Some(service) = service {
            self.record().service = Arc::clone(service);
        }
    }

    /// A destination that policy does not know.
    pub fn to_external(&mut self, address: SocketAddr) {
        let external = Arc::clone(&self.worker.words.external);
        let record = self.record();
        record.service = Arc::clone(&external);
        record.peer_service = external;
        record.upstream = Some(address);
        record.attempts = 1;
    }

    /// An attempt begins: this endpoint is busy with the request until the next one, or the end. Gives the time of its
    /// beginning.
    pub fn attempt(&mut self, endpoint: &Arc<Endpoint>, address: SocketAddr) -> Duration {
        let now = self.worker.now();
        self.release(now);
        self.worker.loads.borrow_mut().observe(endpoint, Event::Started, now);
        self.serving = Some(Arc::clone(endpoint));
        let started = self.worker.shared.started;
        let record = self.record();
        record.attempts = record.attempts.max(1);
        record.attempt_after = (started + now).saturating_duration_since(record.started);
        record.upstream = Some(address);
        record.peer_region = Arc::clone(&endpoint.region);
        record.peer_service = Arc::clone(&record.service);
        (record.security, record.peer_identity) = match &endpoint.transport {
            Transport::Mesh(mesh) => (Security::MutualTls, Some(mesh.identity.shared())),
            Transport::Tls(_) => (Security::Tls, None),
            Transport::Plain => (Security::Plain, None),
        };
        now
    }

    /// The attempt came to nothing and another one follows.
    pub fn retried(&mut self, outcome: &Result<Response<Body>, Failure>) {
        let Some(record) = &self.record else { return };
        let mut attempt = Record::clone(record);
        attempt.duration = record.started.elapsed();
        match outcome {
            Ok(response) => attempt.status = response.status().as_u16(),
            Err(failure) => attempt.reason = Some(failure.reason),
        }
        self.worker.telemetry.retried(attempt);
    }

    /// The filters of a chain see a connection begin, unless they have before; an error if it may not go on.
    pub async fn admit(
        &mut self,
        chain: Option<&Arc<FilterChain>>,
        caller: Option<&SpiffeId>,
        admitted: &Admitted,
    ) -> Result<(), Failure> {
        let Some(chain) = chain else { return Ok(()) };
        let run = self.enter(chain, caller);
        if admitted.by(chain) {
            run.pass();
        } else if run.connection().await?.is_some() {
            return Err(Failure::before(Reason::FilterResponse));
        }
        admitted.note(chain);
        Ok(())
    }

    /// The request's head goes through a chain's filters, which see it from here to its end. `Some`: one of them answers
    /// in the application's place. `admitted`: where the connection may be new to them.
    pub async fn filter_request(
        &mut self,
        chain: Option<&Arc<FilterChain>>,
        caller: Option<&SpiffeId>,
        admitted: Option<&Admitted>,
        head: &mut request::Parts,
    ) -> Answered {
        let Some(chain) = chain else { return Ok(None) };
        let run = self.enter(chain, caller);
        let mut answer = None;
        if let Some(admitted) = admitted.filter(|admitted| !admitted.by(chain)) {
            answer = run.connection().await?;
            if answer.is_none() {
                admitted.note(chain);
            }
        }
        if answer.is_none() {
            answer = run.request_headers(head).await?;
        }
        if answer.is_some() {
            self.record().reason = Some(Reason::FilterResponse);
        }
        Ok(answer)
    }

    fn enter(&mut self, chain: &Arc<FilterChain>, caller: Option<&SpiffeId>) -> &mut Run {
        let (chain, stream) = (self.worker.chains.borrow_mut().of(chain), self.worker.stream());
        let Record { direction, downstream, .. } = *self.record();
        self.filters
            .push(Run::new(chain, Context { stream, direction, downstream, identity: caller.cloned() }));
        self.filters.last_mut().expect("it was just pushed")
    }

    /// The request's body as the filters let it through.
    pub fn filter_request_body(&mut self, body: Body) -> Body {
        self.filters.iter_mut().fold(body, |body, run| run.request_body(body))
    }

    /// What a filter answered when it saw the request's body, which broke off there.
    pub fn filters_answer(&mut self) -> Option<Response<Body>> {
        let answer = self.filters.iter().find_map(Run::answer)?;
        self.record().reason = Some(Reason::FilterResponse);
        Some(answer)
    }

    /// The answer goes back through the filters that saw the request, its body too; or one of them gives another.
    pub async fn filter_response(&mut self, mut response: Response<Body>) -> Result<Response<Body>, Failure> {
        for run in self.filters.iter().rev() {
            let (mut head, body) = response.into_parts();
            if let Some(answer) = run.response_headers(&mut head).await? {
                self.record().reason = Some(Reason::FilterResponse);
                return Ok(answer);
            }
            response = Response::from_parts(head, run.response_body(body));
        }
        Ok(response)
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

    /// What came never became a request, and was answered before anybody saw it.
    pub fn unserved(mut self, failure: &Failure) {
        self.failed(failure);
        self.record().status = failure.reason.status().as_u16();
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

    fn release(&mut self, now: Duration) {
        if let Some(endpoint) = self.serving.take() {
            self.worker.loads.borrow_mut().observe(&endpoint, Event::Ended, now);
        }
    }

    /// Why we ourselves have ended it, if we have.
    fn cut(&self) -> Option<Reason> {
        let gone = self.worker.shared.drain.reached(Stage::Gone).then_some(Reason::Draining);
        self.ending.as_ref().and_then(Ending::reason).or(gone)
    }

    /// Filters keep a request's state until they hear of its end.
    fn leave_filters(&self, record: &Record) {
        for run in self.filters.iter().rev() {
            run.log(record);
        }
    }

    fn end(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        let now = self.worker.now();
        record.duration = (self.worker.shared.started + now).saturating_duration_since(record.started);
        record.bytes_received += self.received.as_ref().map_or(0, |received| received.bytes.get());
        // What looks like the peer's doing was ours if we cut its connection.
        if matches!(record.reason, Some(Reason::DownstreamClosed | Reason::DownstreamBody)) {
            record.reason = self.cut().or(record.reason);
        }
        self.release(now);
        self.leave_filters(&record);
        self.worker.telemetry.finish(*record, &self.settings);
    }
}

/// An exchange that has not happened unless it is taken out: its connection may still turn out to be another's.
pub struct Tentative(Option<Exchange>);

impl Tentative {
    /// It may happen.
    pub const fn new(exchange: Exchange) -> Self {
        Self(Some(exchange))
    }

    /// What is known so far.
    pub fn exchange(&mut self) -> &mut Exchange {
        self.0.as_mut().expect("it is there until it has happened")
    }

    /// It has happened.
    pub fn happened(mut self) -> Exchange {
        self.0.take().expect("it is there until it has happened")
    }
}

impl Drop for Tentative {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take() {
            exchange.forget();
        }
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

/// What has come of a request's body.
#[derive(Default)]
struct Received {
    bytes: Cell<u64>,
    whole: Cell<bool>,
    /// Who reads it has asked for more in vain.
    wanted: Cell<bool>,
}

impl Observer for Rc<Received> {
    fn on_data(&mut self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    fn on_end(&mut self, end: End, _: Option<&BodyError>) {
        self.whole.set(end == End::Complete);
    }
}

impl Held for Received {
    fn moved(&self) {
        self.wanted.set(false);
    }

    fn waits(&self) {
        self.wanted.set(true);
    }

    /// Of an earlier attempt's body this says nothing about the one that is read now.
    fn release(self: Rc<Self>, _: End) {}
}

/// The version as telemetry names it.
fn protocol_of(version: Version) -> Protocol {
    match version {
        Version::HTTP_10 => Protocol::Http10,
        Version::HTTP_2 => Protocol::Http2,
        _ => Protocol::Http11,
    }
}
