//! Changes: judged as a whole, then written as a whole.

use std::{collections::HashSet, sync::Arc};

use tokio::task;
use tonic::Status;
use trama_proto::{
    admin::v1::{
        AppliedResource, ApplyRequest, ApplyResponse, DeleteRequest, DeleteResponse, Deletion, PolicyProblem,
        ResourceChange, Stamp, ValidateRequest, ValidateResponse, applied_resource::Outcome,
    },
    discovery::v1::ResourceName,
    document::{Document, Resource, ResourceId},
    policy::v1,
};

use super::{Shared, error, read};
use crate::{
    mirror,
    model::{World, hash},
    policy::{self, Edit},
    reason::Reason,
    store::{Change, Expect, MOST_CHANGES, StoreError},
};

/// An edit, and what is there before it.
struct Planned {
    edit: Edit,
    /// The version that is there; 0: none.
    version: u64,
    outcome: Outcome,
}

impl Shared {
    pub(super) async fn apply(&self, request: ApplyRequest) -> Result<ApplyResponse, Status> {
        bounded("changes", request.changes.len())?;
        let edits = request.changes.into_iter().enumerate().map(
            |(at, ResourceChange { resource, expected_version })| {
                let field = format!("changes[{at}].resource");
                let (id, resource) = named(&field, resource)?;
                Ok(((id, Some(resource)), expected_version))
            },
        );
        let edits = edits.collect::<Result<Vec<_>, Status>>()?;
        let (stamp, planned) = self.change(edits).await?;
        let resources =
            planned.into_iter().map(|Planned { edit: (id, _), version, outcome }| AppliedResource {
                name: Some(error::name(&id)),
                version: if outcome == Outcome::Unchanged { version } else { stamp.revision },
                outcome: outcome.into(),
            });
        Ok(ApplyResponse { resources: resources.collect(), stamp: Some(stamp) })
    }

    pub(super) async fn delete(&self, request: DeleteRequest) -> Result<DeleteResponse, Status> {
        bounded("deletions", request.deletions.len())?;
        let edits =
            request.deletions.into_iter().enumerate().map(|(at, Deletion { name, expected_version })| {
                let name = name.unwrap_or_default();
                let id = read::id(&format!("deletions[{at}].name"), &name)?;
                Ok(((id, None), expected_version))
            });
        let edits = edits.collect::<Result<Vec<_>, Status>>()?;
        let (stamp, _) = self.change(edits).await?;
        Ok(DeleteResponse { stamp: Some(stamp) })
    }

    pub(super) async fn validate(&self, request: ValidateRequest) -> Result<ValidateResponse, Status> {
        bounded("resources", request.resources.len())?;
        self.ready()?;
        let edits = request.resources.into_iter().enumerate().map(|(at, resource)| {
            let (id, resource) = named(&format!("resources[{at}]"), Some(resource))?;
            Ok((id, Some(resource)))
        });
        let edits = edits.collect::<Result<Vec<Edit>, Status>>()?;
        once(edits.iter().map(|(id, _)| id))?;
        Ok(ValidateResponse { problems: judged(self.mirror.look(World::documents), edits).await? })
    }

    /// Makes the edits, all or none.
    async fn change(&self, edits: Vec<(Edit, Option<u64>)>) -> Result<(Stamp, Vec<Planned>), Status> {
        self.ready()?;
        once(edits.iter().map(|((id, _), _)| id))?;
        let _changing = self.changing.lock().await;
        let (planned, stamp, in_force) = self.mirror.look(|world| {
            let planned = edits.into_iter().map(|(edit, expected)| plan(world, edit, expected));
            let planned = planned.collect::<Result<Vec<_>, Status>>()?;
            Ok::<_, Status>((planned, world.stamp(), world.documents()))
        })?;
        let edits = real(&planned).map(|planned| planned.edit.clone()).collect();
        let problems = judged(in_force, edits).await?;
        if !problems.is_empty() {
            return Err(error::refused(&problems));
        }
        let changes: Vec<_> = real(&planned).map(written).collect();
        if changes.is_empty() {
            return Ok((read::stamp(stamp), planned));
        }
        let names: Vec<_> = real(&planned).map(|planned| planned.edit.0.clone()).collect();
        let stamp = self.store.transact(changes).await.map_err(|problem| match problem {
            // Another control plane was faster.
            StoreError::Conflict { ref key, expected, found } => {
                let id = names.iter().find(|id| mirror::key(id) == *key);
                let other = || Reason::VersionChanged.status(problem.to_string());
                id.map_or_else(other, |id| error::changed(id, expected, found))
            }
            other => error::of_store(other),
        })?;
        for name in &names {
            tracing::info!(revision = stamp.revision, "changed: {name}");
        }
        self.mirror.reach(stamp.revision).await;
        Ok((read::stamp(stamp), planned))
    }
}

/// The judgement of a large policy takes a while: nobody waits for it but who asks.
async fn judged(in_force: Vec<Arc<Document>>, edits: Vec<Edit>) -> Result<Vec<PolicyProblem>, Status> {
    let judged = task::spawn_blocking(move || policy::judge(&in_force, &edits)).await;
    judged.map_err(|ended| Reason::Internal.status(format!("the judgement broke off: {ended}")))
}

fn plan(world: &World, edit: Edit, expected: Option<u64>) -> Result<Planned, Status> {
    let (id, resource) = &edit;
    let held = world.get(id);
    let version = held.map_or(0, |held| held.version.number);
    match (resource, expected) {
        (None, _) if held.is_none() => return Err(error::not_found(&error::name(id))),
        (_, Some(expected)) if expected != version => return Err(error::changed(id, expected, version)),
        _ => {}
    }
    let outcome = match (held, resource) {
        (None, _) => Outcome::Created,
        (Some(held), Some(resource)) if held.version.hash == hash(resource) => Outcome::Unchanged,
        _ => Outcome::Configured,
    };
    Ok(Planned { edit, version, outcome })
}

/// What is the same already is not written: its version would rise, and everybody would be told.
fn real(planned: &[Planned]) -> impl Iterator<Item = &Planned> {
    planned.iter().filter(|planned| planned.outcome != Outcome::Unchanged)
}

fn written(Planned { edit: (id, resource), version, .. }: &Planned) -> Change {
    let key = mirror::key(id);
    let change = match resource {
        Some(resource) => Change::put(key, mirror::encode(resource)),
        None => Change::delete(key),
    };
    // What was judged is what is there.
    change.expecting(if *version == 0 { Expect::Absent } else { Expect::Version(*version) })
}

fn named(field: &str, resource: Option<v1::Resource>) -> Result<(ResourceId, Resource), Status> {
    let missing = "there is none, or one of a kind that this version does not know";
    let resource = resource.and_then(|it| it.kind).ok_or_else(|| error::field(field, "", missing))?;
    let id = ResourceId::of(&resource);
    let name = ResourceName { kind: id.kind.to_owned(), namespace: id.namespace, name: id.name };
    Ok((read::id(&format!("{field}.metadata"), &name)?, resource))
}

fn bounded(field: &str, found: usize) -> Result<(), Status> {
    if found > MOST_CHANGES {
        return Err(error::too_much(format!(
            "{field}: more than {MOST_CHANGES}, got {found}; make several requests"
        )));
    }
    Ok(())
}

fn once<'a>(ids: impl Iterator<Item = &'a ResourceId>) -> Result<(), Status> {
    let mut seen = HashSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(error::field(
                "metadata.name",
                &id.to_string(),
                "named twice; which of the two should hold?",
            ));
        }
    }
    Ok(())
}
