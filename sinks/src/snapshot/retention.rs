//! What goes: generations that are old, and objects that no generation names. A manifest goes before its objects.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use object_store::{Error, ObjectStoreExt};
use pipeline::snapshot::{Generation, Store, failed};
use serde::{Deserialize, Serialize};

use super::SnapshotError;

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Generations.
    pub generations: Vec<Generation>,
    /// Objects that no generation names any more, or never did, and what killed writers have left of others.
    pub objects: u64,
    /// Their size.
    pub bytes: u64,
}

/// Deletes all generations but the newest `keep`, and then the objects that none of the remaining ones names. Those that are
/// younger than `grace` stay: somebody may be about to publish them. A manifest that can't be read stops it before any
/// object goes.
pub async fn prune(store: &Store, keep: usize, grace: Duration, now: DateTime<Utc>) -> Result<Pruned, SnapshotError> {
    let mut pruned = Pruned::default();
    let generations = store.generations().await?;
    let old = generations.len().saturating_sub(keep.max(1));
    for generation in &generations[..old] {
        let path = store.path(&format!("generations/{generation}.json"))?;
        delete(store, &path).await?;
        pruned.generations.push(*generation);
    }
    // Listed again, in case others published: what they name must be known before anything goes. Lists may lag behind: what
    // follows the newest that is listed is asked for by name.
    let mut named: BTreeSet<String> = BTreeSet::new();
    let remaining = store.generations().await?;
    let mut newest = None;
    for generation in remaining.iter().chain(&generations[old..]) {
        let Some(manifest) = store.manifest(*generation).await? else { continue };
        named.extend(manifest.objects().map(|object| object.path.clone()));
        if newest.as_ref().is_none_or(|newest: &pipeline::snapshot::Manifest| newest.generation < manifest.generation) {
            newest = Some(manifest);
        }
    }
    while let Some(known) = &newest {
        let Some(next) = store.manifest(known.generation.next()).await? else { break };
        named.extend(next.objects().map(|object| object.path.clone()));
        newest = Some(next);
    }
    let mut kept = BTreeSet::new();
    for path in &named {
        kept.insert(store.path(path)?);
    }
    let young = now - TimeDelta::from_std(grace).unwrap_or(TimeDelta::MAX);
    let mut listed = store.objects().list(Some(&store.path("data")?));
    let mut orphans = Vec::new();
    while let Some(object) = listed.next().await {
        let object = object.map_err(|error| failed("listing objects", &error))?;
        if object.last_modified < young && !kept.contains(&object.location) {
            pruned.objects += 1;
            pruned.bytes += object.size;
            orphans.push(object.location);
        }
    }
    for orphan in orphans {
        delete(store, &orphan).await?;
    }
    pruned.objects += store.sweep_unfinished(young).await?;
    Ok(pruned)
}

async fn delete(store: &Store, path: &object_store::path::Path) -> Result<(), SnapshotError> {
    match store.objects().delete(path).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(failed(path.as_ref(), &error).into()),
    }
}
