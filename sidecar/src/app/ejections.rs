//! The log's lines about endpoints that are left out and that are back.

use std::collections::BTreeMap;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use trama_proto::duration;

use crate::worker::Ejection;

/// Tells what workers say, on the runtime that this is called on.
pub(super) fn tell(ejections: mpsc::Receiver<Ejection>) {
    tokio::spawn(follow(ejections, told));
}

/// What there is to tell.
#[derive(Debug)]
enum Change<'e> {
    /// An endpoint is left out.
    Out(&'e Ejection),
    /// Its time is over.
    Back(&'e Ejection),
}

fn told(change: Change<'_>) {
    let (Change::Out(it) | Change::Back(it)) = change;
    let Ejection { service, port, endpoint, region, why, length, .. } = it;
    match change {
        Change::Out(_) => tracing::warn!(
            service = format_args!("{service}:{port}"),
            %endpoint,
            %region,
            reason = %why,
            "endpoint ejected for {}",
            duration::format(*length)
        ),
        Change::Back(_) => tracing::info!(
            service = format_args!("{service}:{port}"),
            %endpoint,
            %region,
            "endpoint back: one request at a time, until one succeeds"
        ),
    }
}

/// Those that are out, by when their time is over and in the order in which they were told.
#[derive(Debug, Default)]
struct Out {
    endpoints: BTreeMap<(Instant, u64), Ejection>,
    next: u64,
}

impl Out {
    fn add(&mut self, ejection: Ejection) {
        self.endpoints.insert((Instant::now() + ejection.length, self.next), ejection);
        self.next += 1;
    }
}

/// `tell` is shown each change.
async fn follow(mut ejections: mpsc::Receiver<Ejection>, mut tell: impl FnMut(Change<'_>)) {
    let mut out = Out::default();
    loop {
        let next = out.endpoints.first_key_value().map(|((until, _), _)| *until);
        tokio::select! {
            told = ejections.recv() => {
                let Some(ejection) = told else { return };
                tell(Change::Out(&ejection));
                out.add(ejection);
            }
            () = async { sleep_until(next.expect("asked for only then")).await }, if next.is_some() => {
                // What no policy names any more is not back.
                if let Some((_, ejection)) = out.endpoints.pop_first() && ejection.health.strong_count() > 0 {
                    tell(Change::Back(&ejection));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        net::SocketAddr,
        sync::{Arc, Weak},
        time::Duration,
    };

    use super::*;
    use crate::{
        config::snapshot::state::{EndpointHealth, EndpointKey, Registry},
        error::Reason,
        worker::{Blame, Ejections},
    };

    fn ejection(last: u8, length: u64, health: Weak<EndpointHealth>) -> Ejection {
        Ejection {
            service: "shop/orders".into(),
            port: 80,
            endpoint: SocketAddr::from(([10, 0, 0, last], 8080)),
            region: "rio".into(),
            why: Blame::Failed(Reason::ConnectFailed),
            length: Duration::from_secs(length),
            health,
        }
    }

    fn health(registry: &mut Registry, last: u8) -> Arc<EndpointHealth> {
        let address = SocketAddr::from(([10, 0, 0, last], 8080));
        registry.endpoint(EndpointKey {
            service: "shop/orders".into(),
            address,
            mesh: None,
            identity: None,
            tls: None,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_out_is_told_and_back_when_its_time_is_over_unless_no_policy_names_it() {
        let lines = RefCell::new(Vec::new());
        let (ejections, told) = Ejections::new();
        let began = Instant::now();
        let tell = |change: Change<'_>| {
            let (word, it) = match change {
                Change::Out(it) => ("out", it),
                Change::Back(it) => ("back", it),
            };
            lines.borrow_mut().push((began.elapsed().as_secs(), word, it.endpoint.to_string()));
        };
        let mut registry = Registry::default();
        let (first, second, gone) =
            (health(&mut registry, 1), health(&mut registry, 2), health(&mut registry, 3));
        let telling = async {
            ejections.tell(ejection(1, 10, Arc::downgrade(&first)));
            ejections.tell(ejection(2, 5, Arc::downgrade(&second)));
            ejections.tell(ejection(3, 7, Arc::downgrade(&gone)));
            tokio::time::sleep(Duration::from_secs(6)).await;
            drop(gone);
            ejections.tell(ejection(2, 20, Arc::downgrade(&second)));
            tokio::time::sleep(Duration::from_secs(30)).await;
            drop(ejections);
        };
        tokio::join!(follow(told, tell), telling);
        let line = |at, word, last| (at, word, format!("10.0.0.{last}:8080"));
        assert_eq!(
            lines.into_inner(),
            [
                line(0, "out", 1),
                line(0, "out", 2),
                line(0, "out", 3),
                line(5, "back", 2),
                line(6, "out", 2),
                line(10, "back", 1),
                line(26, "back", 2),
            ]
        );
    }
}
