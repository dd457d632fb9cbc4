//! A sidecar's side of the policy stream, without the stream: it takes what the control plane says, and gives what to
//! answer and what is in force from now on. Pure but for the compiler that it is handed. Its twin is the control plane's
//! `distribute::Session`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write,
    sync::Arc,
};

use trama_proto::{
    Problem, Problems,
    discovery::v1::{
        Ack, Hello, Nack, Node, Push, Refusal, ResourceName, SidecarMessage, Subscribe, Unsubscribe,
        VersionedResource, sidecar_message::Message,
    },
    document::{Document, ResourceId},
};

use super::held::{Held, Stamp, State, Version, resource_name, service_name};
use crate::config::{convert::Extent, snapshot::Snapshot};

/// The most services that one sidecar asks for: a control plane takes no more.
const MOST_SERVICES: usize = 10_000;

/// What makes a snapshot of documents, of a revision.
pub(super) trait Compile: FnMut(&[&Document], Extent<'_>, u64) -> Result<Snapshot, Problems> {}
impl<F: FnMut(&[&Document], Extent<'_>, u64) -> Result<Snapshot, Problems>> Compile for F {}

/// What the control plane may not say. The stream ends: another one may be better.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Older than what is held.
    #[error("a push of epoch {} and revision {} is older than what is held ({} and {})", .pushed.epoch, .pushed.revision, .held.epoch, .held.revision)]
    Older { pushed: Stamp, held: Stamp },
    /// It makes no sense.
    #[error("a push makes no sense: {0}")]
    Malformed(String),
}

/// What becomes of a push.
#[derive(Debug)]
pub(super) struct Answer {
    /// To be sent, in this order.
    pub(super) messages: Vec<SidecarMessage>,
    /// What is in force now, or why nothing has changed.
    pub(super) result: Result<Snapshot, Problems>,
}

/// What a sidecar holds, wants and was told.
#[derive(Debug)]
pub(super) struct Subscriber {
    state: State,
    /// The last push that came, used or not.
    latest: Stamp,
    /// Wanted as long as the sidecar lives: its own service and those of its listeners.
    always: BTreeSet<Arc<str>>,
    wanted: BTreeSet<Arc<str>>,
    /// What could not be used, and would not be now: a new stream says so, that it is not sent again.
    refused: BTreeMap<ResourceId, Refusal>,
    /// Subscriptions of this stream: how many were sent, and those that are not answered yet.
    subscriptions: u64,
    unanswered: VecDeque<(u64, Vec<Arc<str>>)>,
}

impl Subscriber {
    /// Begins with what was kept, if anything was.
    pub(super) fn new(state: State, always: BTreeSet<Arc<str>>) -> Self {
        let wanted = state.whole.union(&always).cloned().collect();
        Self {
            latest: state.stamp,
            state,
            always,
            wanted,
            refused: BTreeMap::new(),
            subscriptions: 0,
            unanswered: VecDeque::new(),
        }
    }

    /// What is held, compiled.
    pub(super) fn compiled(&self, mut compile: impl Compile) -> Result<Snapshot, Problems> {
        let State { stamp, whole, .. } = &self.state;
        compile(&self.state.documents(), Extent::Services(whole), stamp.revision)
    }

    /// Holds nothing any more, and still refuses what is older.
    pub(super) fn forget(&mut self) {
        self.state = State { stamp: self.state.stamp, ..State::default() };
    }

    /// What is held, as it is kept on disk.
    pub(super) fn kept(&self) -> Vec<u8> {
        self.state.encode()
    }

    /// The first messages of a new stream: what is held, so that nothing is sent again, and all that is wanted.
    pub(super) fn begin(&mut self, node: Node) -> [SidecarMessage; 2] {
        self.subscriptions = 0;
        self.unanswered.clear();
        let hello = Hello {
            node: Some(node),
            held: self.state.names(),
            refused: self.refused.values().cloned().collect(),
        };
        [message(Message::Hello(hello)), self.subscribe(self.wanted.iter().cloned().collect())]
    }

    /// Requests ask for services: what to send, if anything. Without a stream it is remembered for the next one.
    pub(super) fn want(&mut self, labels: impl IntoIterator<Item = Arc<str>>) -> Option<SidecarMessage> {
        let mut new = Vec::new();
        for label in labels {
            if self.wanted.len() < MOST_SERVICES && self.wanted.insert(Arc::clone(&label)) {
                new.push(label);
            }
        }
        (!new.is_empty()).then(|| self.subscribe(new))
    }

    /// Takes a push: all of it or nothing.
    pub(super) fn push(&mut self, push: Push, mut compile: impl Compile) -> Result<Answer, Fault> {
        let stamp = Stamp { epoch: push.epoch, revision: push.revision };
        if stamp < self.latest {
            return Err(Fault::Older { pushed: stamp, held: self.latest });
        }
        let versions = versions(&push.resources)?;
        let gone = gone(&push.tombstones, &versions)?;
        self.latest = stamp;
        let mut next = self.state.clone();
        next.stamp = stamp;
        if let Err(problems) = put(&mut next, push.resources, &versions) {
            return Ok(self.refuse(push.nonce, problems, &versions, &gone));
        }
        for id in &gone {
            next.resources.remove(id);
        }
        next.whole.extend(self.answered(push.subscribed));
        let forgotten = self.forgotten(&mut next);
        match compile(&next.documents(), Extent::Services(&next.whole), stamp.revision) {
            Err(problems) => Ok(self.refuse(push.nonce, problems, &versions, &gone)),
            Ok(snapshot) => {
                self.state = next;
                self.refused.retain(|id, _| !versions.contains_key(id) && !gone.contains(id));
                self.unanswered.retain(|(number, _)| *number > push.subscribed);
                let mut messages = vec![message(Message::Ack(Ack { nonce: push.nonce }))];
                if !forgotten.is_empty() {
                    self.wanted.retain(|label| !forgotten.contains(label));
                    let services = forgotten.iter().map(|label| service_name(label)).collect();
                    messages.push(message(Message::Unsubscribe(Unsubscribe { services })));
                }
                Ok(Answer { messages, result: Ok(snapshot) })
            }
        }
    }

    fn refuse(
        &mut self,
        nonce: u64,
        problems: Problems,
        versions: &BTreeMap<ResourceId, Version>,
        gone: &[ResourceId],
    ) -> Answer {
        let refusals = refusals(&problems, versions, gone);
        for refusal in refusals.iter().filter(|refusal| !refusal.hash.is_empty()) {
            let name = refusal.name.clone().unwrap_or_default();
            let id = ResourceId::new(&name.kind, name.namespace, name.name);
            self.refused.extend(id.map(|id| (id, refusal.clone())));
        }
        let nack = message(Message::Nack(Nack { nonce, refusals }));
        Answer { messages: vec![nack], result: Err(problems) }
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
    fn forgotten(&self, next: &mut State) -> Vec<Arc<str>> {
        let was = |label: &str, state: &State| {
            let name = service_name(label);
            let id = ResourceId::new("Service", name.namespace, name.name);
            id.is_some_and(|id| state.resources.contains_key(&id))
        };
        let gone =
            |label: &&Arc<str>| !self.always.contains(*label) && was(label, &self.state) && !was(label, next);
        let forgotten: Vec<_> = self.wanted.iter().filter(gone).cloned().collect();
        for label in &forgotten {
            next.whole.remove(label);
        }
        forgotten
    }
}

/// The versions of the resources of a push; each may be in it once.
fn versions(resources: &[VersionedResource]) -> Result<BTreeMap<ResourceId, Version>, Fault> {
    let mut versions = BTreeMap::new();
    for (at, VersionedResource { version, resource }) in resources.iter().enumerate() {
        let kind = resource.as_ref().and_then(|it| Some((it, it.kind.as_ref()?)));
        let (resource, kind) = kind
            .ok_or_else(|| Fault::Malformed(format!("resource {at} has no kind that this version knows")))?;
        let id = ResourceId::of(kind);
        if versions.insert(id.clone(), Version::of(*version, resource)).is_some() {
            return Err(Fault::Malformed(format!("{id} is in it twice")));
        }
    }
    Ok(versions)
}

fn gone(
    tombstones: &[ResourceName],
    versions: &BTreeMap<ResourceId, Version>,
) -> Result<Vec<ResourceId>, Fault> {
    let named = tombstones.iter().map(|name| {
        let id = ResourceId::new(&name.kind, &name.namespace, &name.name);
        let id =
            id.ok_or_else(|| Fault::Malformed(format!("a tombstone of an unknown kind {:?}", name.kind)))?;
        if versions.contains_key(&id) {
            return Err(Fault::Malformed(format!("{id} is both there and gone")));
        }
        Ok(id)
    });
    named.collect()
}

/// Puts the resources in, or tells all that is wrong with them.
fn put(
    state: &mut State,
    resources: Vec<VersionedResource>,
    versions: &BTreeMap<ResourceId, Version>,
) -> Result<(), Problems> {
    let mut wrong = Vec::new();
    for kind in resources.into_iter().filter_map(|pushed| pushed.resource?.kind) {
        match Document::received("the control plane", kind) {
            Ok(document) => {
                let id = document.id.clone();
                let version = versions.get(&id).copied();
                let held = version.map(|version| Held { version, document: Arc::new(document) });
                state.resources.extend(held.map(|held| (id, held)));
            }
            Err(problems) => wrong.extend(problems),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Problems(wrong)) }
}

/// Which resources of a push the problems are about, with the first problem of each. Where they are about none of them,
/// as when the end of one resource breaks another that is held, nobody can say which it is: then it is all of them.
fn refusals(
    problems: &Problems,
    versions: &BTreeMap<ResourceId, Version>,
    gone: &[ResourceId],
) -> Vec<Refusal> {
    let of = |id: &ResourceId| {
        let id = id.to_string();
        problems.0.iter().filter(move |problem| problem.resource == id)
    };
    let named: Vec<_> = versions
        .iter()
        .filter_map(|(id, version)| {
            let first = of(id).next()?;
            Some(refusal(id, Some(version), first, first.field.clone(), of(id).count() - 1))
        })
        .collect();
    let Some(first) = problems.0.first().filter(|_| named.is_empty()) else { return named };
    let pushed = versions.iter().map(|(id, version)| (id, Some(version)));
    let pushed = pushed.chain(gone.iter().map(|id| (id, None)));
    pushed.map(|(id, version)| refusal(id, version, first, String::new(), problems.0.len() - 1)).collect()
}

fn refusal(
    id: &ResourceId,
    version: Option<&Version>,
    problem: &Problem,
    path: String,
    more: usize,
) -> Refusal {
    let mut text = String::new();
    // Of another resource, or of none: the path alone would mislead.
    if path.is_empty() && !problem.field.is_empty() {
        write!(text, "{}: {}: ", problem.resource, problem.field).ok();
    }
    text.push_str(&problem.problem);
    if !problem.value.is_empty() {
        write!(text, ", got {}", problem.value).ok();
    }
    write!(text, "; {}", problem.remedy).ok();
    if more > 0 {
        write!(text, " (and {more} more)").ok();
    }
    Refusal {
        name: Some(resource_name(id)),
        version: version.map_or(0, |version| version.number),
        path,
        problem: text,
        hash: version.map_or_else(Vec::new, |version| version.hash.to_vec()),
    }
}

fn message(message: Message) -> SidecarMessage {
    SidecarMessage { message: Some(message) }
}

#[cfg(test)]
mod tests;
