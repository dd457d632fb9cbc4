//! The policy in force as an operator reads it, and as the control plane is told.
//!
//! Of a large mesh it has many megabytes. So it is written once, service by service and kept only as far as it may be large,
//! and on a thread on which nobody waits for anything else.

mod bounded;
mod dump;

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::task;
use trama_proto::{Problem, QualifiedName};

use self::bounded::Bounded;
pub(crate) use self::bounded::{Layout, TooLarge};
use super::{
    Answer, State,
    server::{self, text},
};
use crate::config::snapshot::{ServicePort, Snapshot};

/// The most that the admin port answers: the names alone of 10,000 services take a quarter of it.
const LARGEST: usize = 32 << 20;

/// What of the policy is asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Part {
    /// The service, `namespace/name`; `None`: all of them.
    service: Option<String>,
}

impl Part {
    /// That of a service; without one, all of it.
    pub(crate) fn of(service: &str) -> Result<Self, Box<Problem>> {
        if service.is_empty() {
            return Ok(Self::default());
        }
        match QualifiedName::parse(service) {
            Ok(_) => Ok(Self { service: Some(service.to_owned()) }),
            Err(remedy) => Err(wrong(service, "no name of a service", remedy.to_owned())),
        }
    }
}

/// What the snapshot says, with how its endpoints do at this time on the sidecar's clock, as JSON of so many bytes at most.
pub(crate) fn written(
    (snapshot, now): (&Snapshot, Duration),
    part: &Part,
    layout: Layout,
    most_bytes: usize,
) -> Result<Result<String, TooLarge>, Box<Problem>> {
    let ports = ports(snapshot, part)?;
    Ok(Bounded::json(&dump::dump(snapshot, dump::Services { ports, now }), layout, most_bytes))
}

/// The answer of the admin port. `query`: `service=namespace/name`, for that service alone.
pub(super) async fn answer(query: Option<&str>, state: Arc<dyn State>) -> Answer {
    let part = match query.unwrap_or_default().split_once('=') {
        None if query.is_none_or(str::is_empty) => Ok(Part::default()),
        Some(("service", service)) if !service.is_empty() => Part::of(service),
        _ => Err(wrong(
            query.unwrap_or_default(),
            "no part of the policy",
            "write `service=namespace/name`".to_owned(),
        )),
    };
    let told = match part {
        Ok(part) => {
            let write = move || written((&state.snapshot(), state.now()), &part, Layout::Lines, LARGEST);
            task::spawn_blocking(write).await
        }
        Err(problem) => Ok(Err(problem)),
    };
    match told {
        Ok(Ok(Ok(json))) => server::answer(StatusCode::OK, "application/json", (json + "\n").into()),
        Ok(Ok(Err(TooLarge { bytes }))) => {
            let problem = format!(
                "the policy in force has {bytes} bytes as JSON, more than the {LARGEST} that are answered; ask for one \
                 service's: /policy?service=NAMESPACE/NAME\n"
            );
            text(StatusCode::BAD_REQUEST, problem)
        }
        Ok(Err(problem)) => text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        Err(ended) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("the policy cannot be written: {ended}\n"))
        }
    }
}

fn ports<'s>(snapshot: &'s Snapshot, Part { service }: &Part) -> Result<Vec<&'s ServicePort>, Box<Problem>> {
    let all = || snapshot.destinations.by_name.values().map(|port| &**port);
    let is_meant = |port: &&ServicePort| service.as_ref().is_none_or(|label| **label == *port.service.label);
    let mut ports: Vec<_> = all().filter(is_meant).collect();
    if let (Some(label), []) = (service, &*ports) {
        let known = all().filter_map(|port| QualifiedName::parse(&port.service.label).ok());
        let near = QualifiedName::parse(label).ok().and_then(|wanted| wanted.near(known));
        let remedy = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "leave it out to see those that are there".to_owned(),
        };
        return Err(wrong(label, "no service of the policy in force", remedy));
    }
    ports.sort_by(|a, b| (&a.service.label, a.port).cmp(&(&b.service.label, b.port)));
    Ok(ports)
}

fn wrong(value: &str, problem: &str, remedy: String) -> Box<Problem> {
    Box::new(Problem {
        field: "service".to_owned(),
        value: format!("{value:?}"),
        ..Problem::of_source("the question", problem, remedy)
    })
}
