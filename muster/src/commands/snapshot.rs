//! `muster snapshot`: make snapshots, list them, show them, verify them, delete old ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use chrono::Utc;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use pipeline::snapshot::{Dataset, Generation, Manifest, Store};
use pipeline::state::{Request, RequestKind};
use serde_json::json;
use sinks::snapshot::verify::{Compared, Verified, compare_with_topic, verify};
use sinks::snapshot::{NAME, SnapshotSettings, prune};

use super::ask_owner;
use crate::args::SnapshotAction;
use crate::output::{Output, table};
use crate::process::{Process, environment, snapshots};
use crate::settings::Settings;
use crate::{exit, progress};

/// Does it.
pub async fn run(settings: &Settings, action: &SnapshotAction, output: Output) -> Result<u8> {
    let Some(of) = &settings.snapshots else { bail!("the configuration has no section [snapshots]") };
    let store = || Store::open_to_read(&of.store, &environment).context("the store of the snapshots");
    match action {
        SnapshotAction::Run { here: false } => ask(settings, output).await,
        SnapshotAction::Run { here: true } => make_here(settings, of, output).await,
        SnapshotAction::List => list(&store()?, output).await,
        SnapshotAction::Show { generation } => show(&manifest(&store()?, *generation).await?, output),
        SnapshotAction::Verify { generation, topic, keys } => {
            let store = store()?;
            let manifest = manifest(&store, *generation).await?;
            check(settings, of, &store, &manifest, topic.then_some(*keys), output).await
        }
        SnapshotAction::Prune { keep } => {
            let keep = keep.map_or(of.keep, |keep| keep as usize);
            let pruned = prune(&store()?, keep, of.grace, Utc::now()).await?;
            output.show(&pruned, || {
                let bytes = HumanBytes(pruned.bytes);
                format!("{} generations and {} files ({bytes}) deleted", pruned.generations.len(), pruned.objects)
            })?;
            Ok(exit::DONE)
        }
    }
}

/// Asks whoever does the job.
async fn ask(settings: &Settings, output: Output) -> Result<u8> {
    let id = uuid::Uuid::new_v4().to_string();
    let request = Request { id, target: NAME.to_owned(), kind: RequestKind::Run, at: Utc::now(), answer: None };
    let answer = ask_owner(settings, request).await?;
    output.show(&answer, || answer.text.clone())?;
    Ok(if answer.done { exit::DONE } else { exit::FAILED })
}

/// Two that make one at the same time do no harm: one of them publishes.
async fn make_here(settings: &Settings, of: &SnapshotSettings, output: Output) -> Result<u8> {
    let process = Process::open(settings).await?;
    let stop = super::stop_on_signals()?;
    let watching = tokio::spawn(progress::watch(Arc::clone(&process.runtime.health), stop.child_token()));
    let job = snapshots(settings, of)?;
    let made = tokio::select! {
        made = job.make(&process.runtime, Utc::now()) => made,
        () = stop.cancelled() => bail!("stopped; the last snapshot is as it was"),
    };
    stop.cancel();
    watching.await.context("the progress lines' task")?;
    process.close().await;
    let report = made?;
    output.show(&report, || report.text())?;
    Ok(exit::DONE)
}

async fn manifest(store: &Store, generation: Option<u64>) -> Result<Manifest> {
    let found = match generation {
        Some(number) => store.manifest(Generation(number)).await?,
        None => store.latest(None).await?,
    };
    match generation {
        Some(number) => found.with_context(|| format!("there is no generation {number}: see `muster snapshot list`")),
        None => found.context("there is no snapshot yet: `muster snapshot run` makes one"),
    }
}

async fn list(store: &Store, output: Output) -> Result<u8> {
    let mut manifests = Vec::new();
    for generation in store.generations().await?.into_iter().rev() {
        // Pruned in between.
        manifests.extend(store.manifest(generation).await?);
    }
    let shown: Vec<_> = manifests.iter().map(summary).collect();
    output.show(&shown, || {
        let rows: Vec<Vec<String>> = manifests
            .iter()
            .map(|manifest| {
                let records: u64 = manifest.datasets.values().map(|dataset| dataset.full.records).sum();
                vec![
                    manifest.generation.to_string(),
                    manifest.nominal.to_rfc3339(),
                    manifest.published.to_rfc3339(),
                    manifest.datasets.len().to_string(),
                    records.to_string(),
                    HumanBytes(bytes(manifest)).to_string(),
                ]
            })
            .collect();
        table(&["generation", "stands for", "published", "datasets", "records", "size"], &rows)
    })?;
    Ok(exit::DONE)
}

/// Of all objects, each counted once.
fn bytes(manifest: &Manifest) -> u64 {
    let sizes: BTreeMap<&str, u64> = manifest.objects().map(|object| (object.path.as_str(), object.bytes)).collect();
    sizes.values().sum()
}

fn summary(manifest: &Manifest) -> serde_json::Value {
    let of = |dataset: &Dataset| json!({ "date": dataset.date, "records": dataset.full.records });
    let datasets: BTreeMap<_, _> = manifest.datasets.iter().map(|(name, dataset)| (name, of(dataset))).collect();
    json!({
        "generation": manifest.generation, "nominal": manifest.nominal, "published": manifest.published,
        "datasets": datasets, "bytes": bytes(manifest),
    })
}

fn show(manifest: &Manifest, output: Output) -> Result<u8> {
    output.show(manifest, || {
        let mut lines = vec![format!(
            "generation {}, stands for {}, published {}",
            manifest.generation, manifest.nominal, manifest.published
        )];
        for (name, dataset) in &manifest.datasets {
            lines.push(String::new());
            lines.push(format!("{name}, from {}, complete up to {}", dataset.topic, dataset.date));
            let mut rows = vec![vec!["full".into(), String::new(), dataset.full.records.to_string(), String::new()]];
            for window in &dataset.windows {
                rows.push(vec![
                    format!("depth {}", window.depth),
                    window.from.to_rfc3339(),
                    window.part.records.to_string(),
                    window.deleted.to_string(),
                ]);
            }
            lines.push(table(&["", "changed from", "records", "deleted"], &rows));
            let since = dataset.deletions_since;
            lines.push(format!("{} deletions, complete from {since}", dataset.deleted.records));
        }
        lines.join("\n")
    })?;
    Ok(exit::DONE)
}

async fn check(
    settings: &Settings,
    of: &SnapshotSettings,
    store: &Store,
    manifest: &Manifest,
    topic: Option<usize>,
    output: Output,
) -> Result<u8> {
    let bar = ProgressBar::new(bytes(manifest));
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left") {
        bar.set_style(style);
    }
    let shown = bar.clone();
    let found = verify(store, manifest, move |bytes| shown.set_position(bytes)).await?;
    bar.finish_and_clear();
    let mut compared: BTreeMap<String, Compared> = BTreeMap::new();
    if let Some(keys) = topic {
        let process = Process::open(settings).await?;
        let scratch = of.scratch_below(&settings.folder);
        for (name, dataset) in &manifest.datasets {
            compared.insert(name.clone(), compare_with_topic(&process.runtime, store, dataset, &scratch, keys).await?);
        }
        process.close().await;
    }
    let is_right = found.problems.is_empty() && compared.values().all(Compared::is_equal);
    let object = json!({ "generation": manifest.generation, "right": is_right, "files": found, "topics": compared });
    output.show(&object, || told(manifest, &found, &compared))?;
    Ok(if is_right { exit::DONE } else { exit::FAILED })
}

fn told(manifest: &Manifest, found: &Verified, compared: &BTreeMap<String, Compared>) -> String {
    let size = HumanBytes(found.bytes);
    let wrong = found.problems.len() as u64 + found.more;
    let verdict = if wrong == 0 { "all as the manifest says".to_owned() } else { format!("{wrong} problems") };
    let mut lines = vec![format!("generation {}: {} files, {size}: {verdict}", manifest.generation, found.objects)];
    lines.extend(found.problems.iter().cloned());
    for (name, compared) in compared {
        lines.push(format!(
            "{name}: {} keys the same, {} moved on, {} missing, {} surplus, {} of another version",
            compared.same, compared.moved_on, compared.missing, compared.surplus, compared.differing
        ));
        lines.extend(compared.keys.iter().map(|key| format!("  {key}")));
    }
    lines.join("\n")
}
