//! A sidecar's side of the policy stream, without the stream: it takes what the control plane says, and gives what to
//! answer and what is in force from now on. Pure but for the compiler that it is handed. Its twin is the control plane's
//! `distribute::Session`.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use trama_proto::{
    Problem, Problems,
    discovery::v1::{
        Ack, Hello, Nack, Node, Push, Refusal, SidecarMessage, Subscribe, Unsubscribe,
        sidecar_message::Message,
    },
    document::{Document, ResourceId},
};

use super::{
    asked,
    held::{Resources, Stamp, State, Wish, Wishes, resource_name, service_name},
    resolve::{Refusals, Resolved, resolve},
    standing::Standing,
};
use crate::{
    config::{convert::Extent, snapshot::Snapshot},
    discovery::last_good::Content,
};

/// The most services that one sidecar asks for: a control plane takes no more.
const MOST_SERVICES: usize = 10_000;

/// What makes a snapshot of documents, of a revision.
pub trait Compile: FnMut(&[&Document], Extent<'_>, u64) -> Result<Snapshot, Problems> {}
impl<F: FnMut(&[&Document], Extent<'_>, u64) -> Result<Snapshot, Problems>> Compile for F {}

/// What the control plane may not say. The stream ends: another one may be better.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Older than what is held.
    #[error("a push of epoch {} and revision {} is older than what is held ({} and {})", .pushed.epoch, .pushed.revision, .held.epoch, .held.revision)]
    Older {
        /// Of the push.
        pushed: Stamp,
        /// Of what is held.
        held: Stamp,
    },
    /// It makes no sense.
    #[error("a push makes no sense: {0}")]
    Malformed(String),
}

/// What becomes of a push.
#[derive(Debug)]
pub struct Answer {
    /// To be sent, in this order.
    pub messages: Vec<SidecarMessage>,
    /// What is in force now, if it is another policy than before.
    pub snapshot: Option<Snapshot>,
    /// What of the push cannot be used.
    pub refused: Option<Problems>,
    /// How many resources of it this version does not know all of: the kind, or a field. What it does not know is ignored.
    pub not_understood: usize,
}

/// What a sidecar holds, wants and was told.
#[derive(Debug)]
pub struct Subscriber {
    state: Arc<State>,
    /// The last push that came, used or not.
    latest: Stamp,
    /// Wanted as long as the sidecar lives: its own service and those of its listeners.
    always: BTreeSet<Arc<str>>,
    wanted: BTreeSet<Arc<str>>,
    /// What cannot be used, and why: a new stream says so, that it is not sent again.
    refused: Refusals,
    /// Subscriptions of this stream: how many were sent, and those that are not answered yet.
    subscriptions: u64,
    unanswered: VecDeque<(u64, Vec<Arc<str>>)>,
}

impl Subscriber {
    /// Begins with nothing. `always`: services that are wanted before any request asks for them, `namespace/name`.
    pub fn new(always: BTreeSet<Arc<str>>) -> Self {
        Self::with(State::default(), always)
    }

    /// Begins with what was kept; an error says why that is no policy.
    pub fn of_kept(kept: &[u8], always: BTreeSet<Arc<str>>) -> Result<Self, String> {
        State::decode(kept).map(|state| Self::with(state, always))
    }

    fn with(state: State, always: BTreeSet<Arc<str>>) -> Self {
        let wanted = state.standing.told.union(&always).cloned().collect();
        Self {
            latest: state.stamp,
            state: Arc::new(state),
            always,
            wanted,
            refused: Refusals::new(),
            subscriptions: 0,
            unanswered: VecDeque::new(),
        }
    }

    /// What is held, compiled. This version, or this configuration, may have a problem with some of what was kept that its
    /// writer had not; or have none any more with what waits.
    pub fn restore(&mut self, compile: impl Compile) -> Result<Snapshot, Problems> {
        let State { stamp, resources, waiting: newer, standing } = &*self.state;
        let (stamp, standing) = (*stamp, standing.clone());
        let Resolved { resources, waiting, refused, snapshot, problems } =
            kept(resources, newer, compiler(compile, &standing, stamp.revision));
        let nothing = resources.is_empty() && !problems.is_empty();
        self.refused = refused;
        self.put(stamp, standing, resources, waiting);
        let problems = problems.into_iter().map(|(_, problem)| problem);
        snapshot.filter(|_| !nothing).ok_or_else(|| Problems(problems.collect()))
    }

    /// What is held, as it is kept on disk.
    pub fn kept(&self) -> Vec<u8> {
        self.state.encode()
    }

    /// The same for later: what is held now.
    pub(super) fn to_keep(&self) -> Content {
        let state = Arc::clone(&self.state);
        Content::made(move || state.encode())
    }

    /// The first messages of a new stream: what is held, so that nothing is sent again, and all that is wanted.
    pub fn begin(&mut self, node: Node) -> [SidecarMessage; 2] {
        self.subscriptions = 0;
        self.unanswered.clear();
        [message(Message::Hello(self.hello(node))), self.subscribe(self.wanted.iter().cloned().collect())]
    }

    /// What is held and what cannot be used.
    pub fn hello(&self, node: Node) -> Hello {
        let refused = self.refused.values().cloned().collect();
        Hello {
            node: Some(node),
            held: self.state.names(),
            refused,
            answers: asked::answers(),
            takes_parts: true,
            ..Hello::default()
        }
    }

    /// Requests ask for services: what to send, if anything. Without a stream it is remembered for the next one.
    pub fn want(&mut self, labels: impl IntoIterator<Item = Arc<str>>) -> Option<SidecarMessage> {
        let mut new = Vec::new();
        for label in labels {
            if self.wanted.len() < MOST_SERVICES && self.wanted.insert(Arc::clone(&label)) {
                new.push(label);
            }
        }
        (!new.is_empty()).then(|| self.subscribe(new))
    }

    /// Takes a push: what can be used of it.
    pub fn push(&mut self, push: Push, compile: impl Compile) -> Result<Answer, Fault> {
        let stamp = Stamp { epoch: push.epoch, revision: push.revision };
        if stamp < self.latest {
            return Err(Fault::Older { pushed: stamp, held: self.latest });
        }
        let (nonce, subscribed) = (push.nonce, push.subscribed);
        let Pushed { wishes: pushed, not_understood, later } = wishes(push)?;
        self.latest = stamp;
        let mut standing = self.state.standing.clone();
        standing.told.extend(self.answered(subscribed));
        let State { resources: held, waiting, .. } = &*self.state;
        let waiting = waiting.iter().filter(|(id, _)| !pushed.contains_key(id));
        let waiting = waiting.map(|(id, wish)| (id.clone(), wish.clone())).collect();
        let told: BTreeSet<_> = pushed.keys().cloned().collect();
        // What is not there cannot end.
        let wanted = pushed.into_iter().filter(|(id, wish)| !wish.is_end() || held.contains_key(id));
        let compile = compiler(compile, &standing, stamp.revision);
        let Resolved { resources, waiting, refused, snapshot, problems } =
            resolve(held, wanted.collect(), waiting, compile);
        let forgotten = self.forgotten(&resources);
        standing.forget(&forgotten);
        self.wanted.retain(|label| !forgotten.contains(label));
        self.unanswered.retain(|(number, _)| *number > subscribed);
        self.put(stamp, standing, resources, waiting);
        let mut reply = Nack { nonce, not_understood, ..Nack::default() };
        let refused = self.reply(&mut reply, &told, refused, problems);
        let mut messages = vec![message(acknowledged_or_refused(reply))];
        if !forgotten.is_empty() {
            let services = forgotten.iter().map(|label| service_name(label)).collect();
            messages.push(message(Message::Unsubscribe(Unsubscribe { services })));
        }
        Ok(Answer { messages, snapshot, refused, not_understood: later })
    }

    fn put(&mut self, stamp: Stamp, standing: Standing, resources: Resources, waiting: Wishes) {
        let part = standing.part(&resources, &waiting);
        let standing = standing.after(&resources, &part);
        self.state = Arc::new(State { stamp, resources, waiting, standing });
    }

    /// Says what has become of what was told: what is refused now and was not before, and what is so no more.
    fn reply(
        &mut self,
        reply: &mut Nack,
        told: &BTreeSet<ResourceId>,
        refused: Refusals,
        problems: Vec<(ResourceId, Problem)>,
    ) -> Option<Problems> {
        let before = std::mem::replace(&mut self.refused, refused);
        let same = |one: &Refusal, other: &Refusal| (&one.hash, &one.path) == (&other.hash, &other.path);
        let new = self.refused.iter().filter(|(id, refusal)| {
            told.contains(*id) || before.get(*id).is_none_or(|before| !same(before, refusal))
        });
        let (names, refusals): (BTreeSet<_>, Vec<_>) = new.map(|(id, refusal)| (id, refusal.clone())).unzip();
        let recovered = before.keys().filter(|id| !self.refused.contains_key(id) && !told.contains(*id));
        reply.recovered = recovered.map(resource_name).collect();
        reply.refusals = refusals;
        if reply.refusals.is_empty() {
            return None;
        }
        let problems = problems.into_iter().filter(|(id, _)| names.contains(id));
        let mut problems: Vec<_> = problems.map(|(_, problem)| problem).collect();
        problems.dedup();
        Some(Problems(problems))
    }

    fn subscribe(&mut self, labels: Vec<Arc<str>>) -> SidecarMessage {
        self.subscriptions += 1;
        let services = labels.iter().map(|label| service_name(label)).collect();
        self.unanswered.push_back((self.subscriptions, labels));
        message(Message::Subscribe(Subscribe { services }))
    }

    /// The services that the first `subscribed` subscriptions asked for and that are still wanted.
    fn answered(&self, subscribed: u64) -> Vec<Arc<str>> {
        let answered = self.unanswered.iter().filter(|(number, _)| *number <= subscribed);
        answered
            .flat_map(|(_, labels)| labels)
            .filter(|label| self.wanted.contains(*label))
            .cloned()
            .collect()
    }

    /// Services that are gone are wanted no more: should they come back, the first request asks again.
    fn forgotten(&self, next: &Resources) -> Vec<Arc<str>> {
        let is = |label: &str, resources: &Resources| {
            let name = service_name(label);
            let id = ResourceId::new("Service", name.namespace, name.name);
            id.is_some_and(|id| resources.contains_key(&id))
        };
        let gone = |label: &&Arc<str>| {
            !self.always.contains(*label) && is(label, &self.state.resources) && !is(label, next)
        };
        self.wanted.iter().filter(gone).cloned().collect()
    }
}

/// What can be used of what was kept. `newer`: what was told of it later than what was in use.
fn kept(
    resources: &Resources,
    newer: &Wishes,
    mut compile: impl FnMut(&Resources, &Wishes) -> Result<Snapshot, Problems>,
) -> Resolved {
    let kept = resources.iter().map(|(id, held)| (id.clone(), Wish::Put(held.clone()))).collect();
    let mut resolved = resolve(&Resources::new(), kept, Wishes::new(), &mut compile);
    resolved.waiting.extend(newer.iter().map(|(id, wish)| (id.clone(), wish.clone())));
    if resolved.waiting.is_empty() {
        return resolved;
    }
    let Resolved { resources, mut waiting, .. } = resolved;
    waiting.retain(|id, wish| !wish.is_end() || resources.contains_key(id));
    resolve(&resources, Wishes::new(), waiting, compile)
}

/// What makes a policy of what is in use and what is not.
fn compiler(
    mut compile: impl Compile,
    standing: &Standing,
    revision: u64,
) -> impl FnMut(&Resources, &Wishes) -> Result<Snapshot, Problems> {
    move |resources, waiting| {
        let documents: Vec<&Document> = resources.values().map(|held| &*held.document).collect();
        compile(&documents, Extent::Part(&standing.part(resources, waiting)), revision)
    }
}

/// What a push tells.
struct Pushed {
    /// Of each resource one thing.
    wishes: Wishes,
    /// The hashes of what this version does not know all of.
    not_understood: Vec<Vec<u8>>,
    /// How many there are of those, also where their hashes were not told.
    later: usize,
}

/// Reads a push. A later control plane must not be cut off for what it says besides.
fn wishes(push: Push) -> Result<Pushed, Fault> {
    let (mut wishes, mut not_understood, mut later) = (Wishes::new(), Vec::new(), 0);
    for mut told in push.resources {
        let hash = std::mem::take(&mut told.hash);
        let wish = Wish::of("the control plane", told);
        let read = wish.as_ref().and_then(|(_, wish)| wish.version()).map(|version| &version.hash[..]);
        // What is not known is not read either, and so missing in what is hashed here.
        if read.is_none_or(|read| !hash.is_empty() && read != hash) {
            later += 1;
            not_understood.extend((!hash.is_empty()).then_some(hash));
        }
        let Some((id, wish)) = wish else { continue };
        if wishes.insert(id.clone(), wish).is_some() {
            return Err(Fault::Malformed(format!("{id} is in it twice")));
        }
    }
    for name in push.tombstones {
        let Some(id) = ResourceId::new(&name.kind, name.namespace, name.name) else {
            later += 1;
            continue;
        };
        if wishes.insert(id.clone(), Wish::End).is_some_and(|before| !before.is_end()) {
            return Err(Fault::Malformed(format!("{id} is both there and gone")));
        }
    }
    Ok(Pushed { wishes, not_understood, later })
}

/// A refusal of nothing is an acknowledgement.
fn acknowledged_or_refused(reply: Nack) -> Message {
    let Nack { nonce, refusals, recovered, not_understood } = reply;
    match refusals[..] {
        [] => Message::Ack(Ack { nonce, recovered, not_understood }),
        _ => Message::Nack(Nack { nonce, refusals, recovered, not_understood }),
    }
}

fn message(message: Message) -> SidecarMessage {
    SidecarMessage { message: Some(message) }
}

#[cfg(test)]
mod tests;
