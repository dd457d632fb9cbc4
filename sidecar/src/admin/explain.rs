//! Why a described request would go where it would go.

use std::time::Duration;

use http::StatusCode;
use tokio::time::timeout;
use trama_proto::{
    Problem, Problems,
    explain::v1::{DescribedRequest, Explanation, Knowledge, knowledge},
    explanation,
};

use super::{Answer, State, json, text};
use crate::explain::{Described, Incoming, View, explain};

/// A worker that does not say what it knows within this time is asked in vain.
const LOOK: Duration = Duration::from_secs(1);

/// JSON in; out JSON or text.
pub(super) async fn answer(described: &[u8], as_text: bool, state: &dyn State) -> Answer {
    let described = explanation::read("the body", described).map_err(|problem| Problems(vec![*problem]));
    let told = match described {
        Ok(described) => explained(&described, state).await,
        Err(problems) => Err(problems),
    };
    match told {
        Ok(explanation) if as_text => text(StatusCode::OK, explanation.to_string()),
        Ok(explanation) => json(&explanation),
        Err(problems) => text(StatusCode::BAD_REQUEST, format!("{problems}\n")),
    }
}

/// The explanation by the policy in force and a worker's loads.
pub(crate) async fn explained(
    request: &DescribedRequest,
    state: &dyn State,
) -> Result<Explanation, Problems> {
    let described = Described::read(request)?;
    let (worker, workers) = (described.worker, state.workers());
    if worker > 0 && worker >= workers {
        let remedy = format!("there are {workers}, counted from 0");
        let problem = Problem::of_source("the described request", "no worker has this number", remedy);
        let problem = Problem { field: "worker".to_owned(), value: worker.to_string(), ..problem };
        return Err(Problems(vec![problem]));
    }
    let loads = timeout(LOOK, state.loads(worker)).await.ok().flatten();
    let knowledge = Knowledge {
        source: knowledge::Source::Sidecar.into(),
        worker: loads.is_some().then_some(worker),
        workers,
        ..Knowledge::default()
    };
    let snapshot = state.snapshot();
    let loads = loads.unwrap_or_default();
    let (gate, identity, service) = (state.gate(), state.identity(), state.service());
    let incoming =
        gate.as_deref().map(|gate| Incoming { gate, identity: identity.as_ref(), service: &service });
    let view = View { snapshot: &snapshot, loads, now: state.now(), incoming, knowledge };
    Ok(explain(&described, view, described.draw.unwrap_or_else(|| fastrand::u64(..))))
}
