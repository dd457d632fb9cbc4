//! Who may call our application.

use std::sync::Arc;

use http::Method;

use super::Connection;
use crate::{
    authz::{self, Call, Refusal},
    config::snapshot::Snapshot,
    error::Failure,
    exchange::Exchange,
};

impl Connection {
    /// Whether policy lets the caller do this, now. `http`: method and path; `None`: an opaque connection. What would be
    /// refused if all policies were enforced is counted and logged, and passes.
    pub(super) fn authorize(
        &self,
        snapshot: &Snapshot,
        exchange: &mut Exchange,
        http: Option<(&Method, &str)>,
    ) -> Result<(), Failure> {
        let own = &self.worker.settings.service;
        let Some(policies) = snapshot.destinations.authorization(self.application, own) else {
            return Ok(());
        };
        let call = Call { identity: self.peer.as_ref(), http, port: self.application.port() };
        let decision = authz::decide(policies, &call);
        if let Some(Refusal { policy, kind }) = decision.would_deny {
            self.worker.telemetry.authz(policy, kind.name(), "would_deny");
            exchange.record().would_deny = Some(Arc::clone(policy));
        }
        let Some(refusal) = decision.denied else { return Ok(()) };
        self.worker.telemetry.authz(refusal.policy, refusal.kind.name(), "denied");
        Err(refusal.failure())
    }
}
