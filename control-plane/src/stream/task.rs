//! One stream, from its Hello to its end.

use std::{future, sync::Arc};

use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tonic::Status;
use trama_proto::{
    discovery::v1::{
        ControlMessage, Hello, Node, Refusal, ResourceName, Roots, ServiceName, SidecarMessage,
        control_message, sidecar_message::Message,
    },
    spiffe::SpiffeId,
};

use super::{
    Asks, Shared,
    asks::{Asking, OnTheirWay},
    seats::{Seat, Taken},
    server::Said,
};
use crate::{
    clock,
    distribute::{LONGEST_NAME, Session, SessionError},
    farewell::{Cut, farewell},
    flood::Flood,
    model::Service,
    quota,
    reason::{self, Reason},
    telemetry::StreamEnd,
};

/// Why a stream ends: for the count, and for the sidecar.
pub(super) struct Ended {
    pub(super) why: StreamEnd,
    pub(super) status: Status,
}

/// One stream.
pub(super) struct Task {
    shared: Arc<Shared>,
    identity: SpiffeId,
    incoming: Said,
    outgoing: mpsc::Sender<Result<ControlMessage, Status>>,
    /// Ends the connection, if the last word is not read.
    cut: Cut,
    began: Instant,
    flood: Flood,
    /// When the push on its way was sent.
    pushed: Option<Instant>,
    /// Where this sidecar is asked, and what it is asked.
    asks: Asks,
    asked: mpsc::Receiver<Box<Asking>>,
    questions: OnTheirWay,
}

/// Nobody is at the other end any more.
struct Gone;

impl Task {
    pub(super) fn new(
        shared: Arc<Shared>,
        identity: SpiffeId,
        incoming: Said,
        outgoing: mpsc::Sender<Result<ControlMessage, Status>>,
        cut: Cut,
    ) -> Self {
        let flood = Flood::new(shared.limits.messages_per_second);
        let (asks, asked) = Asks::new();
        let questions = OnTheirWay::new(shared.limits.message_bytes as usize);
        let (began, pushed) = (Instant::now(), None);
        Self { shared, identity, incoming, outgoing, cut, began, flood, pushed, asks, asked, questions }
    }

    pub(super) async fn run(mut self) {
        self.shared.metrics.stream_begun();
        let ended = self.serve().await;
        self.shared.metrics.stream_gone();
        match ended {
            Ok(Gone) => tracing::debug!(identity = %self.identity, "a policy stream ended"),
            Err(Ended { why, status }) => {
                self.shared.metrics.stream_ended(why);
                let (identity, code) = (&self.identity, status.code());
                tracing::warn!(%identity, reason = ?why, ?code, "a policy stream was ended: {}", status.message());
                farewell(&self.outgoing, status, &self.cut).await;
            }
        }
    }

    async fn serve(&mut self) -> Result<Gone, Ended> {
        let hello = time::timeout(self.shared.timeouts.hello, self.hello()).await.unwrap_or_else(|_| {
            let status = Reason::HelloLate
                .status_of("no Hello in time (`timeouts.hello`)", &[("limit", "timeouts.hello")]);
            Err(Ended { why: StreamEnd::NoHello, status })
        });
        let Some((node, mut hello)) = hello? else { return Ok(Gone) };
        let session = self.shared.mirror.look(|world| Session::new(&hello, &node, world)).map_err(refused)?;
        tracing::debug!(identity = %self.identity, node = node.name, held = hello.held.len(), "a policy stream begins");
        let seat = Seat {
            node,
            since: clock::milliseconds(),
            session,
            answered_in: time::Duration::ZERO,
            answers: hello.answers().collect(),
            asks: self.asks.clone(),
        };
        let taken = self.shared.seats.take(seat);
        let trusted = std::mem::take(&mut hello.roots);
        // It names all that the sidecar holds, and the stream may live for weeks.
        drop(hello);
        self.follow(&taken, &trusted).await
    }

    /// The first message, which must be the Hello of whom the certificate names. `None`: the sidecar is gone.
    async fn hello(&mut self) -> Result<Option<(Node, Hello)>, Ended> {
        let message = match self.incoming.message().await {
            Ok(Some(SidecarMessage { message: Some(message) })) => message,
            Ok(None) => return Ok(None),
            Ok(Some(_)) => return Err(no_hello()),
            Err(status) => return broken(status).map(|Gone| None),
        };
        let Message::Hello(mut hello) = message else { return Err(no_hello()) };
        let node = hello.node.take().unwrap_or_default();
        check(&node, &self.identity).map_err(|problem| Ended {
            why: StreamEnd::ForeignHello,
            status: Reason::ForeignHello.status_of(problem, &[("identity", self.identity.as_str())]),
        })?;
        words(&node).map_err(|problem| protocol(&problem))?;
        Ok(Some((node, hello)))
    }

    /// `trusted`: the roots that the sidecar says it trusts; nothing, if it does not care for ours.
    async fn follow(&mut self, taken: &Taken, trusted: &[Vec<u8>]) -> Result<Gone, Ended> {
        let mut stamps = self.shared.mirror.stamps();
        let mut ending = self.shared.ending.clone();
        let mut roots = self.shared.roots.clone();
        let mut told = trusted.is_empty() || roots.borrow_and_update().are(trusted);
        loop {
            if !std::mem::replace(&mut told, true) {
                let certificates = roots.borrow_and_update().certificates().to_vec();
                if let Some(gone) = self.send(control_message::Message::Roots(Roots { certificates })).await?
                {
                    return Ok(gone);
                }
            }
            stamps.mark_unchanged();
            if let Some(gone) = self.push(taken).await? {
                return Ok(gone);
            }
            let slowest = self.pushed.map(|pushed| pushed + self.shared.timeouts.acknowledge);
            tokio::select! {
                message = self.incoming.message() => match message {
                    Ok(Some(message)) => self.hear(taken, message)?,
                    Ok(None) => return Ok(Gone),
                    Err(status) => return broken(status),
                },
                // The sender is the mirror's, which outlives every stream.
                _ = stamps.changed() => {}
                Ok(()) = roots.changed(), if !trusted.is_empty() => told = false,
                Some((room, asking)) = next(&mut self.asked, self.outgoing.clone()) => {
                    if let Some(ask) = self.questions.ask(*asking) {
                        let message = control_message::Message::Ask(Box::new(ask));
                        room.send(Ok(ControlMessage { message: Some(message) }));
                    }
                }
                () = at(slowest) => return Err(self.slow()),
                _ = ending.wait_for(|ending| *ending) => {
                    let status = Reason::Ending.status("the control plane ends; come back");
                    return Err(Ended { why: StreamEnd::NotReady, status });
                }
            }
        }
    }

    /// Sends what there is to say.
    async fn push(&mut self, taken: &Taken) -> Result<Option<Gone>, Ended> {
        let (push, is_lost) = self.shared.mirror.look(|world| {
            let session = &mut taken.seat().session;
            (session.next(world), session.is_lost())
        });
        if is_lost {
            let problem =
                "too much has changed since the last push was taken; come back and say what is held";
            return Err(Ended { why: StreamEnd::Slow, status: Reason::TooFarBehind.status(problem) });
        }
        let Some(push) = push else { return Ok(None) };
        let resources = push.resources.len() + push.tombstones.len();
        let parts = taken.seat().session.parts(push).map_err(refused)?;
        self.shared.metrics.pushed(resources);
        self.pushed = Some(Instant::now());
        for part in parts {
            if let Some(gone) = self.send(control_message::Message::Push(part)).await? {
                return Ok(Some(gone));
            }
        }
        Ok(None)
    }

    /// Sends within the time of the push on its way: with many parts that is no longer, for they are held until then.
    async fn send(&mut self, message: control_message::Message) -> Result<Option<Gone>, Ended> {
        let message = ControlMessage { message: Some(message) };
        let slowest = self.pushed.unwrap_or_else(Instant::now) + self.shared.timeouts.acknowledge;
        match time::timeout_at(slowest, self.outgoing.send(Ok(message))).await {
            Ok(Ok(())) => Ok(None),
            Ok(Err(_)) => Ok(Some(Gone)),
            Err(_) => Err(self.slow()),
        }
    }

    fn hear(&mut self, taken: &Taken, message: SidecarMessage) -> Result<(), Ended> {
        if !self.flood.take(self.began.elapsed()) {
            let most = self.shared.limits.messages_per_second;
            let limit = "limits.messagesPerSecond";
            let problem = format!("more than {most} messages a second (`{limit}`)");
            let status = quota::exceeded(Reason::Flood, limit, self.identity.as_str(), problem);
            return Err(Ended { why: StreamEnd::Flood, status });
        }
        match message.message {
            Some(Message::Subscribe(wanted)) => {
                taken.seat().session.subscribe(wanted.services.into_iter().map(service)).map_err(refused)
            }
            Some(Message::Unsubscribe(unwanted)) => {
                let services: Vec<_> = unwanted.services.into_iter().map(service).collect();
                taken.seat().session.unsubscribe(&services);
                Ok(())
            }
            Some(Message::Ack(ack)) => {
                self.not_understood(&ack.not_understood);
                let mut seat = taken.seat();
                seat.session.ack(ack).map_err(refused)?;
                self.answered(&mut seat, "ack");
                Ok(())
            }
            Some(Message::Nack(nack)) => {
                for Refusal { name, path, problem, .. } in &nack.refusals {
                    let ResourceName { kind, namespace, name } = name.clone().unwrap_or_default();
                    tracing::warn!(identity = %self.identity, "a sidecar refuses {kind} {namespace}/{name}: {path}: {problem}");
                }
                self.not_understood(&nack.not_understood);
                let taken_in = self.shared.mirror.look(|world| taken.seat().session.nack(nack, world));
                taken_in.map_err(refused)?;
                self.answered(&mut taken.seat(), "nack");
                Ok(())
            }
            Some(Message::Told(told)) => {
                if let Err(why) = self.questions.told(*told) {
                    tracing::warn!(identity = %self.identity, reason = ?why, "a sidecar's answer is ignored");
                    self.shared.metrics.answer_ignored(why.name());
                }
                Ok(())
            }
            Some(Message::Hello(_)) => Err(protocol("a second Hello; a stream has one")),
            None => {
                tracing::debug!(identity = %self.identity, "a sidecar says what this version does not know; it is ignored");
                self.shared.metrics.unknown();
                Ok(())
            }
        }
    }

    fn not_understood(&self, hashes: &[Vec<u8>]) {
        if !hashes.is_empty() {
            let (identity, resources) = (&self.identity, hashes.len());
            tracing::warn!(%identity, resources, "a sidecar does not know all of what it is told; it is of an earlier version: upgrade it");
        }
    }

    fn answered(&mut self, seat: &mut Seat, result: &'static str) {
        if let Some(pushed) = self.pushed.take() {
            seat.answered_in = pushed.elapsed();
            self.shared.metrics.answered(result, seat.answered_in);
        }
    }

    fn slow(&self) -> Ended {
        let problem = "a push was not acknowledged in time (`timeouts.acknowledge`)";
        let status = Reason::SlowConsumer.status_of(problem, &[("limit", "timeouts.acknowledge")]);
        Ended { why: StreamEnd::Slow, status }
    }
}

/// Nobody says who he is not, and nobody shows up in another namespace than his identity's.
fn check(node: &Node, identity: &SpiffeId) -> Result<(), String> {
    if node.identity != identity.as_str() {
        return Err(format!("the Hello is of `{}`, the certificate of `{identity}`", node.identity));
    }
    match identity.namespace() {
        Some(namespace) if node.namespace != namespace => Err(format!(
            "the Hello is of the namespace `{}`, the certificate of `{namespace}`; mend `node.namespace`",
            node.namespace
        )),
        _ => Ok(()),
    }
}

/// What a sidecar says of itself is kept as long as its stream lives, and shown.
fn words(node: &Node) -> Result<(), String> {
    let Node { name, namespace, region, zone, version, .. } = node;
    let said =
        [("name", name), ("namespace", namespace), ("region", region), ("zone", zone), ("version", version)];
    for (field, text) in said {
        if text.len() > LONGEST_NAME {
            return Err(format!("`node.{field}` has {} bytes; write at most {LONGEST_NAME}", text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(format!("`node.{field}` is {text:?}; write it without control characters"));
        }
    }
    if name.contains('@') {
        return Err(format!(
            "`node.name` is {name:?}; write it without `@`, behind which the identity stands"
        ));
    }
    Ok(())
}

fn service(name: ServiceName) -> Service {
    Service::new(name.namespace, name.name)
}

/// The next question, once there is room to send it.
async fn next<T>(
    asked: &mut mpsc::Receiver<Box<Asking>>,
    outgoing: mpsc::Sender<T>,
) -> Option<(mpsc::OwnedPermit<T>, Box<Asking>)> {
    let room = outgoing.reserve_owned().await.ok()?;
    Some((room, asked.recv().await?))
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => future::pending().await,
    }
}

/// A message that is too large is the sidecar's fault; anything else is a broken connection.
fn broken(status: Status) -> Result<Gone, Ended> {
    let status = reason::named(status);
    match status.code() {
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => {
            Err(Ended { why: StreamEnd::Limit, status })
        }
        tonic::Code::InvalidArgument | tonic::Code::Unimplemented => {
            Err(Ended { why: StreamEnd::Protocol, status })
        }
        _ => Ok(Gone),
    }
}

fn refused(error: SessionError) -> Ended {
    match error {
        SessionError::TooMany { .. }
        | SessionError::LongName { .. }
        | SessionError::TooMuchAtOnce { .. }
        | SessionError::TooMuchHeld { .. } => {
            Ended { why: StreamEnd::Limit, status: Reason::TooMuch.status(error.to_string()) }
        }
        SessionError::Nonce { .. } | SessionError::EmptyNack => protocol(&error.to_string()),
    }
}

fn protocol(problem: &str) -> Ended {
    Ended { why: StreamEnd::Protocol, status: Reason::BadMessage.status(problem) }
}

fn no_hello() -> Ended {
    Ended { why: StreamEnd::NoHello, status: Reason::NoHello.status("the first message must be a Hello") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_believed_as_far_as_the_certificate_goes() {
        let identity = SpiffeId::parse("spiffe://mesh.test/ns/shop/sa/orders").unwrap();
        let node = |identity: &str, namespace: &str| Node {
            identity: identity.to_owned(),
            namespace: namespace.to_owned(),
            ..Node::default()
        };
        check(&node(identity.as_str(), "shop"), &identity).unwrap();
        assert!(check(&node("spiffe://mesh.test/ns/shop/sa/prices", "shop"), &identity).is_err());
        assert!(check(&node("", "shop"), &identity).is_err());
        assert!(check(&node(identity.as_str(), "bank"), &identity).unwrap_err().contains("`bank`"));
        let other = SpiffeId::parse("spiffe://mesh.test/machine/7").unwrap();
        check(&node(other.as_str(), "anything"), &other).unwrap();
    }

    #[test]
    fn what_a_sidecar_says_of_itself_is_short_and_fit_to_be_shown() {
        let node = |name: &str, region: &str| Node {
            name: name.to_owned(),
            region: region.to_owned(),
            ..Node::default()
        };
        words(&node("orders-1", "sao-paulo")).unwrap();
        for (node, told) in [
            (node(&"x".repeat(254), ""), "`node.name` has 254 bytes; write at most 253"),
            (node("orders-1", "\u{1b}[2J"), "`node.region` is \"\\u{1b}[2J\""),
            (node("orders-1@spiffe://mesh.test/a", ""), "without `@`"),
        ] {
            let problem = words(&node).unwrap_err();
            assert!(problem.contains(told), "{problem}");
        }
    }
}
