//! What one sidecar was told of what everybody is told: names and addresses of services, and what holds for the mesh.
//!
//! That is the most of what a sidecar is told, and nearly always the same for all. So a session does not keep it: it keeps
//! the moment of the world at which it was told all of it, and the world remembers what has changed since.

use std::collections::BTreeMap;

use trama_proto::document::ResourceId;

use crate::model::{Digest, Relation, Version, World};

/// What one sidecar was told last of each.
#[derive(Debug, Default)]
pub(super) struct Common {
    /// It was told what there was at this revision. `None`: it was told nothing.
    at: Option<u64>,
    /// But of these it was told this, or nothing. There are some between a Hello and the first push alone.
    apart: BTreeMap<ResourceId, Option<Digest>>,
}

/// The world has forgotten what there was when the sidecar was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooFarBehind;

/// What a sidecar has otherwise than it is.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Differences {
    /// What it has to be told, with the version that it is then.
    pub(super) news: BTreeMap<ResourceId, Version>,
    /// What is gone.
    pub(super) gone: Vec<ResourceId>,
}

impl Common {
    /// Takes out of what a sidecar says it has what everybody has, as far as it is what there is now.
    pub(super) fn of_held(held: &mut BTreeMap<ResourceId, Digest>, world: &World) -> Self {
        let mut has: BTreeMap<_, _> = held.extract_if(.., |id, _| Relation::is_everybodys(id.kind)).collect();
        if has.is_empty() {
            return Self::default();
        }
        let mut apart = BTreeMap::new();
        for (id, is) in world.everybodys() {
            let has = has.remove(id);
            if has != Some(is.hash) {
                apart.insert(id.clone(), has);
            }
        }
        apart.extend(has.into_iter().map(|(id, hash)| (id, Some(hash))));
        Self { at: Some(world.stamp().revision), apart }
    }

    /// What it has to be told.
    pub(super) fn differences(&self, world: &World) -> Result<Differences, TooFarBehind> {
        let Some(at) = self.at else {
            let news = world.everybodys().map(|(id, version)| (id.clone(), version)).collect();
            return Ok(Differences { news, gone: Vec::new() });
        };
        let changed = world.changed_since(at).ok_or(TooFarBehind)?;
        let mut told: BTreeMap<&ResourceId, Option<Digest>> =
            changed.into_iter().filter(|(id, _)| Relation::is_everybodys(id.kind)).collect();
        told.extend(self.apart.iter().map(|(id, hash)| (id, *hash)));
        let mut differences = Differences::default();
        for (id, told) in told {
            match world.get(id).map(|held| held.told) {
                Some(is) if told != Some(is.hash) => drop(differences.news.insert(id.clone(), is)),
                None if told.is_some() => differences.gone.push(id.clone()),
                _ => {}
            }
        }
        Ok(differences)
    }

    /// What it was told last of a resource, if everybody is told of it. What has changed since is gathered once, for all that
    /// are asked for.
    pub(super) fn told<'w>(&'w self, world: &'w World) -> impl Fn(&ResourceId) -> Option<Digest> + 'w {
        let changed = self.at.and_then(|at| world.changed_since(at));
        move |id| {
            if !Relation::is_everybodys(id.kind) {
                return None;
            }
            if let Some(apart) = self.apart.get(id) {
                return *apart;
            }
            let before = changed.as_ref()?.get(id).copied();
            before.unwrap_or_else(|| world.get(id).map(|held| held.told.hash))
        }
    }

    /// It was told all that there is at a revision.
    pub(super) fn caught_up(&mut self, revision: u64) {
        *self = Self { at: Some(revision), apart: BTreeMap::new() };
    }
}
