//! One sidecar's stream, without the stream.
//!
//! At most one push is on its way. What changes meanwhile is not queued: the next push is the difference between what the
//! sidecar then has and what it should have. So a slow sidecar costs no memory and sees fewer, larger steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use prost::Message;
use trama_proto::{
    discovery::{
        problem_text,
        v1::{self as discovery, Ack, Hello, Nack, Node, Push, ResourceName, VersionedResource},
    },
    document::ResourceId,
    policy::v1,
};

use super::{
    common::{Common, Differences},
    parts::{PART, Parts, parts},
};
use crate::model::{Digest, Needed, Place, Relation, Service, Version, World};

/// A sidecar may not say that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// An answer to something that was not asked.
    #[error("nonce {found} is not the push on its way ({expected:?})")]
    Nonce {
        /// What it answers.
        found: u64,
        /// What is on its way.
        expected: Option<u64>,
    },
    /// A refusal of nothing.
    #[error("a refusal names no resource; say which could not be used, or acknowledge")]
    EmptyNack,
    /// More services than a sidecar can need.
    #[error("{found} services are subscribed to, more than {MOST_SERVICES}")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// A name that no service has.
    #[error("the name of a service that is subscribed to has {found} bytes, more than {LONGEST_NAME}")]
    LongName {
        /// How many.
        found: usize,
    },
    /// More than the sidecar takes at once.
    #[error(
        "a push of {found} bytes is more than the {MOST_AT_ONCE} that a sidecar of this version takes; upgrade it"
    )]
    TooMuchAtOnce {
        /// How many.
        found: usize,
    },
    /// More resources than there can be.
    #[error("the Hello names {found} resources, more than {MOST_HELD}")]
    TooMuchHeld {
        /// How many.
        found: usize,
    },
}

/// The most services that one sidecar subscribes to.
pub const MOST_SERVICES: usize = 10_000;
/// The longest name or namespace, in bytes: a DNS name has no more (RFC 1035 section 2.3.4).
pub const LONGEST_NAME: usize = 253;
/// The most resources that a Hello may name, held or refused.
pub const MOST_HELD: usize = 100_000;

/// The largest message that every sidecar takes.
const MOST_AT_ONCE: usize = 64 << 20;

/// The most addresses of its own that are believed of a sidecar.
const MOST_ADDRESSES: usize = 64;

/// Why a sidecar cannot use what it was told of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is refused; `None`: the resource's end.
    pub version: Option<Version>,
    /// The field.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What one sidecar has, wants, and was told.
#[derive(Debug)]
pub struct Session {
    /// Whether it has said what it wants. Before, what it has is neither too much nor too little.
    subscribed: bool,
    /// Whether it takes a push in parts.
    takes_parts: bool,
    /// How many subscriptions it has made, and how many of them are answered by a push that is in use.
    heard: u64,
    replied: u64,
    place: Place,
    services: BTreeSet<Service>,
    /// What the sidecar was told last of each resource and has heard, whether it uses it or not: by its own word, then by
    /// its answers. It is not told twice. What cannot be used it keeps and tries again by itself.
    told: BTreeMap<ResourceId, Digest>,
    /// The same of what everybody is told.
    common: Common,
    /// The world has forgotten what there was when the sidecar was told last.
    lost: bool,
    refused: BTreeMap<ResourceId, Refusal>,
    /// What it has told that it does not know all of.
    not_understood: BTreeMap<ResourceId, Version>,
    on_its_way: Option<OnItsWay>,
    nonce: u64,
    /// What was needed when it was last compared with what the sidecar has, and at which revision.
    compared: Option<(u64, Needed)>,
    acknowledged: u64,
}

#[derive(Debug)]
struct OnItsWay {
    nonce: u64,
    revision: u64,
    heard: u64,
    sent: BTreeMap<ResourceId, Version>,
    gone: Vec<ResourceId>,
}

impl Session {
    /// Begins with what a sidecar says it has and refuses, and where it says that it is. What it has is believed: who lies
    /// gets too little, and only himself. Whether `node` has its identity and namespace is for the caller to see; its
    /// addresses give it nothing that is another's.
    pub fn new(hello: &Hello, node: &Node, world: &World) -> Result<Self, SessionError> {
        let found = hello.held.len() + hello.refused.len();
        if found > MOST_HELD {
            return Err(SessionError::TooMuchHeld { found });
        }
        let held = hello.held.iter().filter_map(|held| {
            let id = id(held.name.as_ref()?)?;
            Some((id, held.hash.as_slice().try_into().ok()?))
        });
        let mut told: BTreeMap<_, _> = held.collect();
        let refused: BTreeMap<_, _> = hello.refused.iter().filter_map(refusal).collect();
        for (id, refusal) in &refused {
            match refusal.version {
                Some(version) => drop(told.insert(id.clone(), version.hash)),
                None => drop(told.remove(id)),
            }
        }
        let common = Common::of_held(&mut told, world);
        Ok(Self {
            subscribed: false,
            takes_parts: hello.takes_parts,
            heard: 0,
            replied: 0,
            place: place(node),
            services: BTreeSet::new(),
            told,
            common,
            lost: false,
            refused,
            not_understood: BTreeMap::new(),
            on_its_way: None,
            nonce: 0,
            compared: None,
            acknowledged: 0,
        })
    }

    /// Wants what concerns more services.
    pub fn subscribe(&mut self, services: impl IntoIterator<Item = Service>) -> Result<(), SessionError> {
        self.subscribed = true;
        self.heard += 1;
        self.compared = None;
        for service in services {
            let found = service.namespace.len().max(service.name.len());
            if found > LONGEST_NAME {
                return Err(SessionError::LongName { found });
            }
            self.services.insert(service);
        }
        match self.services.len() {
            found if found > MOST_SERVICES => Err(SessionError::TooMany { found }),
            _ => Ok(()),
        }
    }

    /// Wants it no more. What only those services needed is taken back with the next push.
    pub fn unsubscribe<'a>(&mut self, services: impl IntoIterator<Item = &'a Service>) {
        for service in services {
            self.services.remove(service);
        }
        self.compared = None;
    }

    /// What to send now, if anything: nothing before the first subscription, nor while a push is on its way. Each
    /// subscription is answered, be it by an empty push.
    pub fn next(&mut self, world: &World) -> Option<Push> {
        if !self.subscribed || self.on_its_way.is_some() {
            return None;
        }
        let Ok(Differences { mut news, mut gone }) = self.common.differences(world) else {
            self.lost = true;
            return None;
        };
        let stamp = world.stamp();
        let (needed, may_be_news) = self.now_needed(world);
        let mut later = Vec::new();
        if may_be_news {
            let now = needed.resources.iter().filter_map(|id| Some((id, world.get(id)?.told)));
            let new = now.filter(|(id, version)| self.told.get(*id) != Some(&version.hash));
            news.extend(new.map(|(id, version)| (id.clone(), version)));
            // Make before break: what is only needed no more waits until it is known that no route leads there any more, for
            // a sidecar that refuses one goes on with the old.
            let leads_elsewhere = news.keys().any(|id| id.kind == "Route");
            let too_much = self.told.keys().filter(|id| !needed.resources.contains(*id)).cloned();
            let (waits, ended): (Vec<_>, Vec<_>) =
                too_much.partition(|id| leads_elsewhere && world.get(id).is_some());
            gone.extend(ended);
            gone.sort_unstable();
            later = waits;
        }
        self.compared = later.is_empty().then_some((stamp.revision, needed));
        if news.is_empty() && gone.is_empty() && self.replied == self.heard {
            self.acknowledged = self.acknowledged.max(stamp.revision);
            self.common.caught_up(stamp.revision);
            return None;
        }
        let sent = news;
        self.nonce += 1;
        let push = Push {
            epoch: stamp.epoch,
            revision: stamp.revision,
            nonce: self.nonce,
            resources: sent.iter().filter_map(|(id, version)| versioned(world, id, *version)).collect(),
            tombstones: gone.iter().map(name).collect(),
            subscribed: self.heard,
            more: false,
        };
        self.on_its_way =
            Some(OnItsWay { nonce: self.nonce, revision: stamp.revision, heard: self.heard, sent, gone });
        Some(push)
    }

    /// A push as the sidecar takes it.
    pub fn parts(&self, push: Push) -> Result<Parts, SessionError> {
        if self.takes_parts {
            return Ok(parts(push, PART));
        }
        match push.encoded_len() {
            found if found > MOST_AT_ONCE => Err(SessionError::TooMuchAtOnce { found }),
            _ => Ok(parts(push, usize::MAX)),
        }
    }

    /// A push is in use, and what has recovered is too.
    pub fn ack(&mut self, Ack { nonce, recovered, not_understood }: Ack) -> Result<(), SessionError> {
        self.answered(Nack { nonce, refusals: Vec::new(), recovered, not_understood }, None)
    }

    /// A push is in use, but for what is refused.
    pub fn nack(&mut self, nack: Nack, world: &World) -> Result<(), SessionError> {
        if nack.refusals.is_empty() {
            return Err(SessionError::EmptyNack);
        }
        self.answered(nack, Some(world))
    }

    fn answered(
        &mut self,
        Nack { nonce, refusals, recovered, not_understood }: Nack,
        world: Option<&World>,
    ) -> Result<(), SessionError> {
        let OnItsWay { revision, heard, sent, gone, .. } = self.pushed(nonce)?;
        self.replied = heard;
        let before = self.refused.len();
        for id in sent.keys().chain(&gone) {
            self.refused.remove(id);
            self.not_understood.remove(id);
        }
        let not_understood: BTreeSet<_> = not_understood.iter().map(Vec::as_slice).collect();
        let not_understood = sent.iter().filter(|(_, version)| not_understood.contains(&version.hash[..]));
        self.not_understood.extend(not_understood.map(|(id, version)| (id.clone(), *version)));
        for id in recovered.iter().filter_map(id) {
            self.refused.remove(&id);
        }
        let fewer = self.refused.len() < before;
        self.common.caught_up(revision);
        let own = sent.iter().filter(|(id, _)| !Relation::is_everybodys(id.kind));
        self.told.extend(own.map(|(id, version)| (id.clone(), version.hash)));
        for id in &gone {
            self.told.remove(id);
        }
        let told_to_all = world.map(|world| self.common.told(world));
        let ended: BTreeSet<_> = gone.iter().collect();
        for discovery::Refusal { name, version: number, path, problem, .. } in refusals {
            let Some(id) = name.as_ref().and_then(id) else { continue };
            let held = || self.told.get(&id).copied().or_else(|| told_to_all.as_ref()?(&id));
            let held = || held().map(|hash| Version { number, hash });
            let version = sent.get(&id).copied().or_else(held);
            // Of what it was never told it has nothing to say.
            if version.is_some() || ended.contains(&id) {
                let [path, problem] = [path, problem].map(|text| problem_text(text, ""));
                self.refused.insert(id, Refusal { version, path, problem });
            }
        }
        if fewer || !self.refused.is_empty() {
            // What is kept for a refused route's sake.
            self.compared = None;
        }
        self.acknowledged = revision;
        Ok(())
    }

    /// The last revision of which the sidecar has everything that it needs and can use.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The services that it asked for.
    pub fn services(&self) -> &BTreeSet<Service> {
        &self.services
    }

    /// Whether it is so far behind that the world has forgotten what it has: it must come back and say so.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// What it could not use, by resource.
    pub fn refused(&self) -> &BTreeMap<ResourceId, Refusal> {
        &self.refused
    }

    /// What it does not know all of, by resource, with the version that it was told.
    pub fn not_understood(&self) -> &BTreeMap<ResourceId, Version> {
        &self.not_understood
    }

    /// A sidecar that refused a route goes on with the old one, and nobody here knows any more where that led: so it keeps
    /// what it has besides routes, and hears of changes to it.
    fn needed(&self, world: &World) -> Needed {
        let mut needed = world.needed(&self.services, &self.place);
        if self.refused.keys().any(|id| id.kind == "Route" && needed.resources.contains(id)) {
            let kept = self.told.keys().filter(|id| id.kind != "Route" && world.get(id).is_some());
            needed.resources.extend(kept.cloned());
        }
        needed
    }

    /// What the sidecar needs besides what everybody does, and whether any of it may be news to it. Cheap where nothing that
    /// has changed concerns it, which is nearly always.
    fn now_needed(&mut self, world: &World) -> (Needed, bool) {
        let Some((revision, needed)) = self.compared.take() else { return (self.needed(world), true) };
        let Some(changed) = world.changed_since(revision) else { return (self.needed(world), true) };
        let concerned = |id: &&ResourceId| {
            self.told.contains_key(*id)
                || needed.resources.contains(*id)
                || world.get(id).is_some_and(|held| needed.may_gain(id, held))
        };
        let mut own = changed.keys().filter(|id| !Relation::is_everybodys(id.kind));
        if own.any(concerned) { (self.needed(world), true) } else { (needed, false) }
    }

    fn pushed(&mut self, nonce: u64) -> Result<OnItsWay, SessionError> {
        match self.on_its_way.take() {
            Some(pushed) if pushed.nonce == nonce => Ok(pushed),
            other => {
                let expected = other.as_ref().map(|pushed| pushed.nonce);
                self.on_its_way = other;
                Err(SessionError::Nonce { found: nonce, expected })
            }
        }
    }
}

fn place(node: &Node) -> Place {
    let address = |bytes: &Vec<u8>| {
        let v4 = <[u8; 4]>::try_from(&bytes[..]).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(&bytes[..]).map(IpAddr::from)).ok()
    };
    let addresses = node.addresses.iter().take(MOST_ADDRESSES).filter_map(address);
    let addresses = addresses.map(|address| address.to_canonical()).collect();
    Place { identity: node.identity.clone(), namespace: node.namespace.clone(), addresses }
}

fn versioned(world: &World, id: &ResourceId, version: Version) -> Option<VersionedResource> {
    let held = world.get(id)?;
    let resource = Some(v1::Resource { kind: Some(held.resource().clone()) });
    let (endpoints, hash) = (held.endpoints.clone(), version.hash.to_vec());
    Some(VersionedResource { version: version.number, resource, endpoints, hash })
}

/// One that a sidecar remembers from an earlier stream.
fn refusal(told: &discovery::Refusal) -> Option<(ResourceId, Refusal)> {
    let version = match told.hash.as_slice() {
        [] => None,
        hash => Some(Version { number: told.version, hash: hash.try_into().ok()? }),
    };
    let [path, problem] = [&told.path, &told.problem].map(|text| problem_text(text.clone(), ""));
    let refusal = Refusal { version, path, problem };
    Some((id(told.name.as_ref()?)?, refusal))
}

/// `None`: there can be none with this name.
fn id(name: &ResourceName) -> Option<ResourceId> {
    if name.namespace.len().max(name.name.len()) > LONGEST_NAME {
        return None;
    }
    ResourceId::new(&name.kind, &name.namespace, &name.name)
}

fn name(id: &ResourceId) -> ResourceName {
    ResourceName { kind: id.kind.to_owned(), namespace: id.namespace.clone(), name: id.name.clone() }
}
