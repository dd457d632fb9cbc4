//! The closed set of labels. A path, a header or anything else that a peer chooses freely is never one of them.

use std::{borrow::Cow, sync::Arc};

use http::Method;

use super::family::Labels;
use crate::{
    error::Reason,
    telemetry::record::{Direction, Protocol, Record, Security},
};

/// Which end of a connection we are not.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Peer {
    /// The peer that sends requests.
    Downstream,
    /// The peer that requests are sent to.
    Upstream,
}

impl Direction {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Protocol {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
            Self::Http2 => "http/2",
            Self::Tcp => "tcp",
        }
    }
}

impl Security {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "none",
            Self::MutualTls => "mutual",
            Self::Tls => "tls",
        }
    }
}

impl Peer {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
        }
    }
}

/// A method as a label: those of RFC 9110 and PATCH, else `_OTHER` (OpenTelemetry, `http.request.method`).
pub(crate) fn method_name(method: Option<&Method>) -> &'static str {
    match method.map(Method::as_str) {
        None => "",
        Some("GET") => "GET",
        Some("POST") => "POST",
        Some("PUT") => "PUT",
        Some("DELETE") => "DELETE",
        Some("HEAD") => "HEAD",
        Some("OPTIONS") => "OPTIONS",
        Some("PATCH") => "PATCH",
        Some("CONNECT") => "CONNECT",
        Some("TRACE") => "TRACE",
        Some(_) => "_OTHER",
    }
}

fn status_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "",
    }
}

fn status_name(status: u16) -> Cow<'static, str> {
    if status == 0 { "".into() } else { status.to_string().into() }
}

fn reason_name(reason: Option<Reason>) -> &'static str {
    reason.map_or("", Reason::name)
}

/// Labels of a request.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct RequestLabels {
    direction: Direction,
    service: Arc<str>,
    peer_service: Arc<str>,
    route: Arc<str>,
    method: &'static str,
    status: u16,
    protocol: Protocol,
    peer_region: Arc<str>,
    tls: Security,
    reason: Option<Reason>,
}

impl RequestLabels {
    /// The labels of an ended request.
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            direction: record.direction,
            service: Arc::clone(&record.service),
            peer_service: Arc::clone(&record.peer_service),
            route: Arc::clone(&record.route),
            method: method_name(record.method.as_ref()),
            status: record.status,
            protocol: record.protocol,
            peer_region: Arc::clone(&record.peer_region),
            tls: record.security,
            reason: record.reason,
        }
    }

    /// Whether a request has these labels; touches no reference count.
    pub(crate) fn are_of(&self, record: &Record, method: &'static str) -> bool {
        self.status == record.status
            && self.direction == record.direction
            && self.protocol == record.protocol
            && self.tls == record.security
            && self.reason == record.reason
            && self.method == method
            && same(&self.service, &record.service)
            && same(&self.peer_service, &record.peer_service)
            && same(&self.route, &record.route)
            && same(&self.peer_region, &record.peer_region)
    }
}

/// Equal; mostly it is the very same allocation, handed out by the snapshot.
fn same(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

impl Labels for RequestLabels {
    const NAMES: &'static [&'static str] = &[
        "direction",
        "service",
        "peer_service",
        "route",
        "method",
        "status",
        "protocol",
        "peer_region",
        "tls",
        "reason",
    ];

    fn values(&self) -> Vec<Cow<'_, str>> {
        vec![
            self.direction.name().into(),
            (&*self.service).into(),
            (&*self.peer_service).into(),
            (&*self.route).into(),
            self.method.into(),
            status_name(self.status),
            self.protocol.name().into(),
            (&*self.peer_region).into(),
            self.tls.name().into(),
            reason_name(self.reason).into(),
        ]
    }
}

/// Labels of a request's duration.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct DurationLabels {
    direction: Direction,
    service: Arc<str>,
    peer_service: Arc<str>,
    route: Arc<str>,
    status_class: &'static str,
}

impl DurationLabels {
    /// The labels of an ended request.
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            direction: record.direction,
            service: Arc::clone(&record.service),
            peer_service: Arc::clone(&record.peer_service),
            route: Arc::clone(&record.route),
            status_class: status_class(record.status),
        }
    }
}

impl Labels for DurationLabels {
    const NAMES: &'static [&'static str] = &["direction", "service", "peer_service", "route", "status_class"];

    fn values(&self) -> Vec<Cow<'_, str>> {
        vec![
            self.direction.name().into(),
            (&*self.service).into(),
            (&*self.peer_service).into(),
            (&*self.route).into(),
            self.status_class.into(),
        ]
    }
}

/// Labels of an attempt.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct AttemptLabels {
    service: Arc<str>,
    peer_service: Arc<str>,
    route: Arc<str>,
    peer_region: Arc<str>,
    status_class: &'static str,
    reason: Option<Reason>,
}

impl AttemptLabels {
    /// The labels of an ended attempt.
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            service: Arc::clone(&record.service),
            peer_service: Arc::clone(&record.peer_service),
            route: Arc::clone(&record.route),
            peer_region: Arc::clone(&record.peer_region),
            status_class: status_class(record.status),
            reason: record.reason,
        }
    }
}

impl Labels for AttemptLabels {
    const NAMES: &'static [&'static str] =
        &["service", "peer_service", "route", "peer_region", "status_class", "reason"];

    fn values(&self) -> Vec<Cow<'_, str>> {
        vec![
            (&*self.service).into(),
            (&*self.peer_service).into(),
            (&*self.route).into(),
            (&*self.peer_region).into(),
            self.status_class.into(),
            reason_name(self.reason).into(),
        ]
    }
}

/// Labels of a connection.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct ConnectionLabels {
    /// Which way its requests go.
    pub(crate) direction: Direction,
    /// Who is at its other end.
    pub(crate) peer: Peer,
    /// What protects it.
    pub(crate) tls: Security,
}

impl Labels for ConnectionLabels {
    const NAMES: &'static [&'static str] = &["direction", "peer", "tls"];

    fn values(&self) -> Vec<Cow<'_, str>> {
        vec![self.direction.name().into(), self.peer.name().into(), self.tls.name().into()]
    }
}

/// Labels of a TLS handshake.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct HandshakeLabels {
    /// Who is at the other end.
    pub(crate) peer: Peer,
    /// `ok` or `failed`.
    pub(crate) result: &'static str,
    /// Why it failed; empty: it did not.
    pub(crate) reason: &'static str,
}

impl Labels for HandshakeLabels {
    const NAMES: &'static [&'static str] = &["peer", "result", "reason"];

    fn values(&self) -> Vec<Cow<'_, str>> {
        vec![self.peer.name().into(), self.result.into(), self.reason.into()]
    }
}

/// One label whose values are words of the program.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct KindLabel(pub(crate) &'static str);

impl Labels for KindLabel {
    const NAMES: &'static [&'static str] = &["kind"];

    fn values(&self) -> Vec<Cow<'_, str>> {
        vec![self.0.into()]
    }
}

/// One label: which way.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct DirectionLabel(pub(crate) Direction);

impl Labels for DirectionLabel {
    const NAMES: &'static [&'static str] = &["direction"];

    fn values(&self) -> Vec<Cow<'_, str>> {
        vec![self.0.name().into()]
    }
}

/// A service and a region of its endpoints.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct EjectionLabels {
    /// The service.
    pub(crate) service: Arc<str>,
    /// The endpoint's region.
    pub(crate) peer_region: Arc<str>,
}

impl Labels for EjectionLabels {
    const NAMES: &'static [&'static str] = &["service", "peer_region"];

    fn values(&self) -> Vec<Cow<'_, str>> {
        vec![(&*self.service).into(), (&*self.peer_region).into()]
    }
}

/// A service, and which of its limits was reached.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct WithheldLabels {
    /// The service.
    pub(crate) service: Arc<str>,
    /// The limit.
    pub(crate) kind: &'static str,
}

impl Labels for WithheldLabels {
    const NAMES: &'static [&'static str] = &["service", "kind"];

    fn values(&self) -> Vec<Cow<'_, str>> {
        vec![(&*self.service).into(), self.kind.into()]
    }
}

/// Whose authorisation refused a call, and how.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct AuthzLabels {
    /// The policy.
    pub(crate) policy: Arc<str>,
    /// Whether it denies, or is the first of those that do not allow.
    pub(crate) kind: &'static str,
    /// Whether it was done.
    pub(crate) result: &'static str,
}

impl Labels for AuthzLabels {
    const NAMES: &'static [&'static str] = &["policy", "kind", "result"];

    fn values(&self) -> Vec<Cow<'_, str>> {
        vec![(&*self.policy).into(), self.kind.into(), self.result.into()]
    }
}
