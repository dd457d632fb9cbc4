//! What operators, probes and Prometheus ask a sidecar, answered on the control side's runtime.
//!
//! | port | who | what |
//! |---|---|---|
//! | 15000, loopback only | operators, the preStop hook | `/config` `/policy` `/revision` `/connections` `/log`, POST `/explain` `/drain`, PUT `/log` |
//! | 15020 | Prometheus | `/metrics` |
//! | 15021 | the kubelet | `/startupz` `/readyz` `/livez` |
//!
//! Served by hyper alone, under limits of its own: the last two ports stand open to the whole network.

mod explain;
mod health;
mod metrics;
mod operate;
pub(crate) mod policy;
pub mod server;

use std::{future::Future, io, net::TcpListener, pin::Pin, sync::Arc, time::Duration};

use http::{Request, StatusCode};

pub(crate) use self::explain::explained;
use self::server::{Answer, Answering, Asked, answer, at_once, not_found, text};
use crate::{
    authz::Gate,
    balance::Loads,
    config::snapshot::{Snapshot, SpiffeId},
    telemetry::TelemetryHub,
};

/// What the admin side is shown of the sidecar, and may ask of it.
pub trait State: Send + Sync + 'static {
    /// The bootstrap configuration, without secrets.
    fn configuration(&self) -> serde_json::Value;
    /// The policy in force; revision 0 before the first.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Time on the sidecar's clock, by which endpoints are ejected.
    fn now(&self) -> Duration;
    /// Its own service, `namespace/name`.
    fn service(&self) -> Arc<str>;
    /// Who it is; `None`: nobody yet.
    fn identity(&self) -> Option<SpiffeId>;
    /// What may come in; `None`: nothing yet, the listeners are not open.
    fn gate(&self) -> Option<Arc<Gate>>;
    /// How many workers there are.
    fn workers(&self) -> u32;
    /// A copy of what a worker has learned of endpoints; `None`: it does not say in time.
    fn loads(&self, worker: u32) -> Looking;
    /// Whether the listeners are open, which never ends again before the process does.
    fn is_started(&self) -> bool;
    /// Of what the sidecar asks its callers to go elsewhere.
    fn draining(&self) -> Option<Drain>;
    /// Asks it to.
    fn drain(&self, what: Drain);
}

/// What a worker has learned, once it has said so.
pub type Looking = Pin<Box<dyn Future<Output = Option<Loads>> + Send>>;

/// What is to be drained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drain {
    /// What comes in; the application's own calls go on.
    Inbound,
    /// Everything.
    All,
}

/// The listening sockets, bound by whoever starts the sidecar.
#[derive(Debug)]
pub struct Sockets {
    /// For operators; on a loopback address.
    pub admin: TcpListener,
    /// For Prometheus.
    pub metrics: TcpListener,
    /// For probes.
    pub health: TcpListener,
}

/// Serves all three, on the runtime that this is called on, until it ends.
pub fn serve(sockets: Sockets, state: Arc<dyn State>, telemetry: TelemetryHub) -> io::Result<()> {
    let (counted, hub) = (Arc::clone(&state), telemetry.clone());
    server::spawn(sockets.metrics, at_once(move |request| metrics::answer(request, &*counted, &hub)))?;
    let (probed, hub) = (Arc::clone(&state), telemetry.clone());
    server::spawn(sockets.health, at_once(move |request| health::answer(request, &*probed, &hub)))?;
    let answering = move |request| operate::answer(request, Arc::clone(&state), telemetry.clone());
    server::spawn(sockets.admin, Arc::new(move |request| -> Answering { Box::pin(answering(request)) }))
}

fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec_pretty(value) {
        Ok(mut written) => {
            written.push(b'\n');
            answer(StatusCode::OK, "application/json", written.into())
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot be written: {error}\n")),
    }
}

/// Paths that are asked for, not told to do something.
fn is_question<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), http::Method::GET | http::Method::HEAD)
}

/// The answer to a method that a path does not have (RFC 9110 section 15.5.6); `allow`: those that it has.
fn wrong_method(allow: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allow} only\n"));
    answer.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static(allow));
    answer
}

/// The methods of what only tells.
const READ: &str = "GET, HEAD";

#[cfg(test)]
mod tests;
