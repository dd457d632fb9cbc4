//! What an endpoint speaks over TLS where policy leaves it open: the first connection's ALPN tells, and that connection is
//! the first of the pool of what it told.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    Upstream, UpstreamLimits,
    connect::{self, Connected},
    pool::Key,
    target::{Leg, Target},
    way::{Circuit, Way},
};
use crate::{
    config::snapshot::BackendTls,
    error::{Failure, Reason},
    tls::{Carried, Offer},
};

type Told = Result<bool, Failure>;

/// What endpoints chose, by their keys with `http2: false`.
#[derive(Default)]
pub(super) struct Negotiations(HashMap<Key, State, foldhash::fast::RandomState>);

enum State {
    /// A connection is being made for all of these.
    Asking(Vec<oneshot::Sender<Told>>),
    /// It is known. The connection that told it waits for the request that asked.
    Known { http2: bool, since: Instant, unused: Option<Connected> },
}

impl Negotiations {
    /// What is known. An endpoint is asked again after the age that a connection may have: it may have learnt.
    fn known(&self, key: &Key, now: Instant, limits: &UpstreamLimits) -> Option<bool> {
        match self.0.get(key) {
            Some(State::Known { http2, since, .. }) if now.duration_since(*since) < limits.max_age => {
                Some(*http2)
            }
            _ => None,
        }
    }

    /// How many wait for an answer; `None`: nobody has asked.
    fn waiting(&self, key: &Key) -> Option<usize> {
        match self.0.get(key) {
            Some(State::Asking(waiting)) => Some(waiting.len()),
            _ => None,
        }
    }

    /// Waits for an answer; `true`: nobody has asked yet.
    fn wait(&mut self, key: Key) -> (oneshot::Receiver<Told>, bool) {
        let (tell, told) = oneshot::channel();
        if let Some(State::Asking(waiting)) = self.0.get_mut(&key) {
            waiting.push(tell);
            return (told, false);
        }
        self.0.insert(key, State::Asking(vec![tell]));
        (told, true)
    }

    /// One that waited gives up.
    fn leave(&mut self, key: &Key) {
        if let Some(State::Asking(waiting)) = self.0.get_mut(key) {
            waiting.retain(|waiter| !waiter.is_closed());
        }
    }

    fn answered(&mut self, key: Key, outcome: Result<(Connected, bool), Failure>) {
        let Some(State::Asking(waiting)) = self.0.remove(&key) else { return };
        let told = outcome.map(|(connected, http2)| {
            self.0.insert(key, State::Known { http2, since: Instant::now(), unused: Some(connected) });
            http2
        });
        for waiter in waiting {
            // One that gives up just now hears nothing.
            waiter.send(told.clone()).ok();
        }
    }

    /// The connection that told what is spoken, for the first who asks.
    pub(super) fn take(&mut self, key: &Key) -> Option<Connected> {
        match self.0.get_mut(key) {
            Some(State::Known { unused, .. }) => unused.take(),
            _ => None,
        }
    }

    /// What was known does not hold any more.
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(State::Known { .. }) = self.0.get(key) {
            self.0.remove(key);
        }
    }

    /// Closes connections whose request was given up, forgets what is old.
    pub(super) fn sweep(&mut self, now: Instant, limits: &UpstreamLimits) {
        self.0.retain(|_, state| match state {
            State::Asking(_) => true,
            State::Known { since, unused, .. } => {
                let age = now.duration_since(*since);
                if age >= limits.connect_timeout {
                    *unused = None;
                }
                age < limits.max_age
            }
        });
    }
}

impl Upstream {
    /// The target with the version that is known to be spoken there; `None`: it must be asked by [`Self::settle`].
    pub fn settled<'t>(&self, target: &Target<'t>) -> Option<Target<'t>> {
        let Leg::Tls(tls, Offer::Http1OrHttp2 | Offer::Http2OrHttp1) = target.leg else {
            return Some(target.clone());
        };
        let key = Key { http2: false, ..self.key(target) };
        let http2 = self.negotiations.borrow().known(&key, Instant::now(), &self.limits)?;
        Some(Target { leg: chosen(tls, http2), ..*target })
    }

    /// Asks the endpoint which version it speaks, by making the first connection to it, and waits no longer than `within`. Who
    /// waits for what another has asked is counted as one that waits for a connection.
    pub async fn settle<'t>(
        self: &Rc<Self>,
        target: Target<'t>,
        circuit: Option<&Circuit>,
        within: Option<Duration>,
    ) -> Result<Target<'t>, Failure> {
        let Leg::Tls(tls, _) = target.leg else { return Ok(target) };
        let key = Key { http2: false, ..self.key(&target) };
        let asked = self.negotiations.borrow().waiting(&key);
        let _pending = match asked {
            Some(waiting) => Way::new(self, &target, circuit, &Cell::default()).count_pending(waiting)?,
            None => None,
        };
        let (told, first) = self.negotiations.borrow_mut().wait(key);
        let mut asked = Asked { negotiations: &self.negotiations, key, told };
        if first {
            let dial = self.dial(&target, Carried::Http2);
            let upstream = Rc::clone(self);
            // In a task of its own: the request that asked first may be cancelled, the others still want to know.
            tokio::task::spawn_local(async move {
                let outcome = match dial {
                    Ok(dial) => connect::negotiate(dial, upstream.limits.connect_timeout).await,
                    Err(failure) => Err(failure),
                };
                upstream.negotiations.borrow_mut().answered(key, outcome);
            });
        }
        // Connecting has its own end, which is the sooner one where the route sets none.
        let limit = within.unwrap_or(self.limits.connect_timeout * 2);
        let told = tokio::time::timeout(limit, &mut asked.told).await.map_err(|_| {
            Failure::before(Reason::BackendRequestTimeout).detail(format_args!("{limit:?}, not connected"))
        })?;
        let http2 = told.unwrap_or_else(|_| Err(Failure::before(Reason::ConnectFailed)))?;
        Ok(Target { leg: chosen(tls, http2), ..target })
    }
}

/// One that waits for an answer, and leaves the others when it gives up.
struct Asked<'n> {
    negotiations: &'n RefCell<Negotiations>,
    key: Key,
    told: oneshot::Receiver<Told>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.told.close();
        self.negotiations.borrow_mut().leave(&self.key);
    }
}

fn chosen(tls: &Arc<BackendTls>, http2: bool) -> Leg<'_> {
    Leg::Tls(tls, if http2 { Offer::Http2 } else { Offer::Http1 })
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        sync::atomic::Ordering::Relaxed,
        task::{Context, Waker},
    };

    use super::{super::Who, *};
    use crate::{
        config::snapshot::CircuitLimits,
        telemetry::{LogOutput, TelemetryConfig, TelemetryHub},
        upstream::Certificates,
    };

    #[tokio::test]
    async fn who_waits_for_what_another_asked_is_counted_until_it_gives_up() {
        let config = TelemetryConfig { access_log: LogOutput::None, ..Default::default() };
        let telemetry = Rc::new(TelemetryHub::start(config).unwrap().worker());
        let limits = UpstreamLimits { pending_per_endpoint: 3, ..UpstreamLimits::default() };
        let upstream = Upstream::new(limits, Certificates::default(), telemetry);
        let server_name = "orders.test".try_into().unwrap();
        let tls = Arc::new(BackendTls { server_name, names: Vec::new(), files: "".into() });
        let address = "127.0.0.1:1".parse().unwrap();
        let leg = Leg::Tls(&tls, Offer::Http1OrHttp2);
        let target = Target { who: Who::External(address), address, leg };
        let key = Key { http2: false, ..upstream.key(&target) };
        // Somebody has asked.
        let (_first, _) = upstream.negotiations.borrow_mut().wait(key);
        let circuit =
            Circuit { limits: CircuitLimits { max_pending: 1, ..Default::default() }, state: Arc::default() };
        let pending = || circuit.state.pending.load(Relaxed);
        let mut cx = Context::from_waker(Waker::noop());
        let settle = |circuit| Box::pin(upstream.settle(target.clone(), circuit, None));

        let mut counted = settle(Some(&circuit));
        assert!(counted.as_mut().poll(&mut cx).is_pending());
        assert_eq!(pending(), 1);
        let refused = settle(Some(&circuit)).await.unwrap_err();
        assert!(refused.reason == Reason::CircuitOpen && refused.to_string().contains("maxPending"));
        let mut other = settle(None);
        assert!(other.as_mut().poll(&mut cx).is_pending());
        let refused = settle(None).await.unwrap_err();
        assert!(
            refused.reason == Reason::Overloaded && refused.to_string().contains("maxPendingPerEndpoint")
        );

        drop((counted, other));
        let waiting = upstream.negotiations.borrow().waiting(&key);
        assert_eq!((waiting, pending()), (Some(1), 0), "who gave up waits no more");
    }
}
