//! The world, kept as the store has it: listed once, then changed as the store's watch tells.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tokio::{sync::watch, time};
use trama_proto::{
    document::{Resource, ResourceId},
    policy::v1,
};

use crate::{
    model::World,
    store::{Batch, Stamp, Store, StoreError},
};

/// Where policy is kept; the rest of the key is `<kind>/<namespace>/<name>`.
const POLICY: &str = "policy/";
/// Until a store that failed is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Where a resource is kept.
pub fn key(id: &ResourceId) -> String {
    format!("{POLICY}{}/{}/{}", id.kind, id.namespace, id.name)
}

/// Whose key it is; `None`: not a resource's.
pub fn resource_of(key: &str) -> Option<ResourceId> {
    let mut parts = key.strip_prefix(POLICY)?.splitn(3, '/');
    ResourceId::new(parts.next()?, parts.next()?, parts.next()?)
}

/// What the store keeps of a resource.
pub fn encode(resource: &Resource) -> Vec<u8> {
    v1::Resource { kind: Some(resource.clone()) }.encode_to_vec()
}

/// A watch of all policy after a revision.
pub fn watch(store: &dyn Store, revision: u64) -> crate::store::Watch {
    store.watch(POLICY, revision)
}

/// The world as this control plane knows it.
#[derive(Default)]
pub struct Mirror {
    world: RwLock<World>,
    /// `None` before the first sync.
    stamp: watch::Sender<Option<Stamp>>,
}

impl Mirror {
    /// A look at the world. Short: who writes to it waits.
    pub fn look<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.world.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last change; `None` before the first sync.
    pub fn stamps(&self) -> watch::Receiver<Option<Stamp>> {
        self.stamp.subscribe()
    }

    /// Whether the world is known. An empty one is not the same as none.
    pub fn is_synced(&self) -> bool {
        self.stamp.borrow().is_some()
    }

    /// Waits until a revision is known here.
    pub async fn reach(&self, revision: u64) {
        let reached = |stamp: &Option<Stamp>| stamp.is_some_and(|stamp| stamp.revision >= revision);
        // The sender is our own.
        self.stamp.subscribe().wait_for(reached).await.ok();
    }

    /// Follows the store for ever.
    pub async fn follow(self: Arc<Self>, store: Arc<dyn Store>) {
        loop {
            match self.once(&*store).await {
                // Further behind than the store remembers: list again.
                StoreError::Compacted { .. } => {}
                error => {
                    tracing::warn!(%error, "the store cannot be followed; sidecars keep what they have");
                    time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn once(&self, store: &dyn Store) -> StoreError {
        let listing = match store.list(POLICY, None, usize::MAX).await {
            Ok(listing) => listing,
            Err(error) => return error,
        };
        let resources = listing.entries.into_iter().filter_map(|entry| {
            let (id, resource) = read(&entry.key, entry.value)?;
            Some((entry.version, id, resource))
        });
        self.change(|world| world.find(listing.at, resources));
        let mut watch = watch(store, listing.at.revision);
        loop {
            match watch.next().await {
                Ok(batch) => self.change(|world| take(world, batch)),
                Err(error) => return error,
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut World)) {
        let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut world);
        let stamp = world.stamp();
        drop(world);
        self.stamp.send_replace(Some(stamp));
    }
}

fn take(world: &mut World, Batch { revision, changes }: Batch) {
    for (key, value) in changes {
        match value {
            Some(value) => {
                if let Some((id, resource)) = read(&key, value) {
                    world.change(revision, id, Some(resource));
                }
            }
            None => {
                if let Some(id) = resource_of(&key) {
                    world.change(revision, id, None);
                }
            }
        }
    }
}

/// What cannot be read is left out rather than keep all the rest from the sidecars; a later version may have written it.
pub(crate) fn read(key: &str, value: Bytes) -> Option<(ResourceId, Resource)> {
    let id = resource_of(key);
    let resource = v1::Resource::decode(value).ok().and_then(|resource| resource.kind);
    let read = id.zip(resource);
    if read.is_none() {
        tracing::error!(key, "the store holds what is no resource of this version; it is left out");
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, Memory};

    fn service(name: &str) -> (ResourceId, Change) {
        let metadata = v1::Metadata { name: name.to_owned(), ..v1::Metadata::default() };
        let resource = Resource::Service(v1::Service { metadata: Some(metadata), spec: None });
        let id = ResourceId::of(&resource);
        let change = Change::put(key(&id), encode(&resource));
        (id, change)
    }

    #[tokio::test]
    async fn the_world_is_what_was_there_and_what_comes() {
        let store: Arc<dyn Store> = Arc::new(Memory::new(3));
        let (before, change) = service("before");
        store.transact(vec![change, Change::put("policy/Nothing/a/b", "?")]).await.unwrap();
        let mirror = Arc::new(Mirror::default());
        assert!(!mirror.is_synced());
        let task = tokio::spawn(Arc::clone(&mirror).follow(Arc::clone(&store)));
        mirror.reach(1).await;
        assert_eq!(mirror.look(World::stamp), Stamp { epoch: 3, revision: 1 });
        assert_eq!(mirror.look(|world| world.get(&before).unwrap().version.number), 1);

        let (after, change) = service("after");
        store.transact(vec![change, Change::delete(key(&before))]).await.unwrap();
        mirror.reach(2).await;
        assert!(mirror.look(|world| world.get(&before).is_none() && world.get(&after).is_some()));
        task.abort();
    }

    #[tokio::test]
    async fn one_that_is_too_far_behind_lists_again() {
        let store = Arc::new(Memory::keeping(1, 2));
        let mirror = Arc::new(Mirror::default());
        let task = tokio::spawn(Arc::clone(&mirror).follow(store.clone()));
        mirror.reach(0).await;
        // On this runtime of one thread the follower does not run meanwhile.
        for number in 0..5 {
            store.transact(vec![service(&format!("s{number}")).1]).await.unwrap();
        }
        mirror.reach(5).await;
        assert_eq!(mirror.look(|world| world.resources().count()), 5);
        let new = |world: &World| world.changed_since(0).map(|changed| changed.len());
        assert_eq!(mirror.look(new), Some(5), "who has seen what was before knows what is new");
        task.abort();
    }
}
