//! What the kubelet probes.
//!
//! Startup holds the application back until traffic has a way. Readiness ends with a drain and with nothing else: a
//! control plane that is gone never takes a pod out of service. Liveness is the workers' pulse.

use std::time::Duration;

use http::StatusCode;

use super::{Answer, Asked, READ, State, is_question, not_found, text, wrong_method};
use crate::telemetry::TelemetryHub;

/// A worker without a pulse for so long hangs. Each gives one a second.
const STALLED: Duration = Duration::from_secs(15);

pub(super) fn answer(request: &Asked, state: &dyn State, hub: &TelemetryHub) -> Answer {
    let problem = match request.uri().path() {
        "/startupz" => starting(state),
        "/readyz" => starting(state).or_else(|| draining(state)),
        "/livez" => stalled(hub.stalled_for()),
        _ => return not_found("/startupz /readyz /livez"),
    };
    if !is_question(request) {
        return wrong_method(READ);
    }
    match problem {
        None => text(StatusCode::OK, "ok\n"),
        Some(problem) => text(StatusCode::SERVICE_UNAVAILABLE, problem + "\n"),
    }
}

fn starting(state: &dyn State) -> Option<String> {
    (!state.is_started()).then(|| "waiting for the first policy".to_owned())
}

fn draining(state: &dyn State) -> Option<String> {
    state.draining().map(|_| "draining".to_owned())
}

fn stalled(longest: Duration) -> Option<String> {
    (longest > STALLED).then(|| format!("a worker has given no sign for {} s", longest.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_may_be_busy_but_not_for_ever() {
        assert_eq!(stalled(STALLED), None);
        assert!(stalled(STALLED + Duration::from_secs(1)).unwrap().ends_with("for 16 s"));
    }
}
