//! One sidecar's stream, without the stream.
//!
//! At most one push is on its way. What changes meanwhile is not queued: the next push is the difference between what the
//! sidecar then has and what it should have. So a slow sidecar costs no memory and sees fewer, larger steps.

use std::collections::{BTreeMap, BTreeSet};

use trama_proto::{
    discovery::v1::{self as discovery, Hello, Push, ResourceName, VersionedResource},
    document::ResourceId,
    policy::v1,
};

use crate::model::{Needed, Service, Version, World};

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
    #[error("a refusal names no resource of the push; say which could not be used")]
    EmptyNack,
    /// More services than a sidecar can need.
    #[error("{found} services are subscribed to, more than {MOST_SERVICES}")]
    TooMany {
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
/// The most resources that a Hello may name, held or refused.
pub const MOST_HELD: usize = 100_000;

/// Why a sidecar could not use a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was refused.
    pub version: Version,
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
    /// How many subscriptions it has made, and how many of them are answered by a push that is in use.
    heard: u64,
    answered: u64,
    services: BTreeSet<Service>,
    /// What the sidecar has: by its own word, then by its acknowledgements.
    has: BTreeMap<ResourceId, [u8; 32]>,
    refused: BTreeMap<ResourceId, Refusal>,
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
    /// Begins with what a sidecar says it has and refuses. It is believed: who lies gets too little, and only himself.
    pub fn new(hello: &Hello) -> Result<Self, SessionError> {
        let found = hello.held.len() + hello.refused.len();
        if found > MOST_HELD {
            return Err(SessionError::TooMuchHeld { found });
        }
        let held = hello.held.iter().filter_map(|held| {
            let id = id(held.name.as_ref()?)?;
            Some((id, held.hash.as_slice().try_into().ok()?))
        });
        Ok(Self {
            subscribed: false,
            heard: 0,
            answered: 0,
            services: BTreeSet::new(),
            has: held.collect(),
            refused: hello.refused.iter().filter_map(refusal).collect(),
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
        self.services.extend(services);
        self.compared = None;
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
        if !self.subscribed || self.on_its_way.is_some() || self.up_to_date(world) {
            return None;
        }
        let needed = self.needed(world);
        let sent: BTreeMap<_, _> = needed
            .resources
            .iter()
            .filter_map(|id| Some((id, world.get(id)?.version)))
            .filter(|(id, version)| self.has.get(*id) != Some(&version.hash))
            .filter(|(id, version)| {
                self.refused.get(*id).is_none_or(|refusal| refusal.version.hash != version.hash)
            })
            .map(|(id, version)| (id.clone(), version))
            .collect();
        let gone: Vec<_> = self.has.keys().filter(|id| !needed.resources.contains(*id)).cloned().collect();
        let stamp = world.stamp();
        self.compared = Some((stamp.revision, needed));
        if sent.is_empty() && gone.is_empty() && self.answered == self.heard {
            self.acknowledged = self.acknowledged.max(stamp.revision);
            return None;
        }
        self.nonce += 1;
        let push = Push {
            epoch: stamp.epoch,
            revision: stamp.revision,
            nonce: self.nonce,
            resources: sent.iter().filter_map(|(id, version)| versioned(world, id, *version)).collect(),
            tombstones: gone.iter().map(name).collect(),
            subscribed: self.heard,
        };
        self.on_its_way =
            Some(OnItsWay { nonce: self.nonce, revision: stamp.revision, heard: self.heard, sent, gone });
        Some(push)
    }

    /// A push is in use.
    pub fn ack(&mut self, nonce: u64) -> Result<(), SessionError> {
        let OnItsWay { revision, heard, sent, gone, .. } = self.pushed(nonce)?;
        self.answered = heard;
        for (id, version) in sent {
            if self.refused.remove(&id).is_some() {
                // What was kept for the old one's sake may go now.
                self.compared = None;
            }
            self.has.insert(id, version.hash);
        }
        for id in gone {
            self.has.remove(&id);
        }
        self.acknowledged = revision;
        Ok(())
    }

    /// Some resources of a push cannot be used. Nothing of it is in use: the rest of it is sent again without them, and
    /// they stay away until their content changes.
    pub fn nack(
        &mut self,
        nonce: u64,
        refusals: Vec<(ResourceName, String, String)>,
    ) -> Result<(), SessionError> {
        let pushed = self.pushed(nonce)?;
        let mut any = false;
        for (name, path, problem) in refusals {
            let found = id(&name).and_then(|id| pushed.sent.get_key_value(&id));
            if let Some((id, version)) = found {
                self.refused.insert(id.clone(), Refusal { version: *version, path, problem });
                any = true;
            }
        }
        self.compared = None;
        if any { Ok(()) } else { Err(SessionError::EmptyNack) }
    }

    /// The last revision of which the sidecar has everything that it needs and can use.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The services that it asked for.
    pub fn services(&self) -> &BTreeSet<Service> {
        &self.services
    }

    /// What it could not use, by resource.
    pub fn refused(&self) -> &BTreeMap<ResourceId, Refusal> {
        &self.refused
    }

    /// A sidecar that refused a route goes on with the old one, and nobody here knows any more where that led: so it keeps
    /// what it has and hears of changes to it.
    fn needed(&mut self, world: &World) -> Needed {
        let mut needed = world.needed(&self.services);
        let current = |id: &ResourceId| world.get(id).map(|held| held.version.hash);
        // A change that was taken back is refused no more.
        self.refused.retain(|id, _| self.has.get(id).copied() != current(id));
        if self.refused.keys().any(|id| id.kind == "Route" && needed.resources.contains(id)) {
            needed.resources.extend(self.has.keys().filter(|id| current(id).is_some()).cloned());
        }
        self.refused.retain(|id, _| needed.resources.contains(id));
        needed
    }

    /// Cheap where a change does not concern this sidecar, which is nearly always.
    fn up_to_date(&mut self, world: &World) -> bool {
        let Some((revision, needed)) = &mut self.compared else { return false };
        let Some(changed) = world.changed_since(*revision) else { return false };
        let concerned = |id: &ResourceId| {
            needed.resources.contains(id) || world.get(id).is_some_and(|held| needed.may_gain(id, held))
        };
        if changed.into_iter().any(|id| self.has.contains_key(id) || concerned(id)) {
            return false;
        }
        *revision = world.stamp().revision;
        self.acknowledged = self.acknowledged.max(*revision);
        true
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

fn versioned(world: &World, id: &ResourceId, version: Version) -> Option<VersionedResource> {
    let resource = world.get(id)?.resource.clone();
    Some(VersionedResource { version: version.number, resource: Some(v1::Resource { kind: Some(resource) }) })
}

/// One that a sidecar remembers from an earlier stream.
fn refusal(told: &discovery::Refusal) -> Option<(ResourceId, Refusal)> {
    let version = Version { number: told.version, hash: told.hash.as_slice().try_into().ok()? };
    let refusal = Refusal { version, path: told.path.clone(), problem: told.problem.clone() };
    Some((id(told.name.as_ref()?)?, refusal))
}

fn id(name: &ResourceName) -> Option<ResourceId> {
    ResourceId::new(&name.kind, &name.namespace, &name.name)
}

fn name(id: &ResourceId) -> ResourceName {
    ResourceName { kind: id.kind.to_owned(), namespace: id.namespace.clone(), name: id.name.clone() }
}
