//! `muster serve`: the export alone. It needs no log, only the snapshots' store and the operations database, and any number of
//! processes serve at the same time.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::export::{Pepper, Served};
use chrono::{TimeDelta, Utc};
use pipeline::config::Problems;
use pipeline::operations::Operations;
use pipeline::snapshot::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::stop_on_signals;
use crate::process::{environment, open_operations};
use crate::settings::{ExportSettings, Settings};
use crate::{exit, files};

/// How often old exports are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// Serves until told to stop.
pub async fn run(settings: &Settings) -> Result<u8> {
    let Some(export) = &settings.export else { bail!("there is no section [export] in the configuration") };
    let metrics = api::install_metrics()?;
    let operations = open_operations(settings).await?;
    let stop = stop_on_signals()?;
    let store = store(settings)?;
    let served = start(export, store, operations.clone(), stop.clone()).await?;
    let forgetting = tokio::spawn(forget(operations, settings.operations.keep));
    let ended = {
        let watch = served.watch();
        let serving = api::serve_health(settings.http, watch, metrics, stop.clone()).await?;
        served.ended.await.context("the export's task")?;
        stop.cancel();
        serving
    };
    forgetting.abort();
    ended.await.context("the HTTP server's task")??;
    Ok(exit::DONE)
}

/// Forgets old exports; all other history is for `muster run` to forget, by its own `keep`.
async fn forget(operations: Operations, keep: Duration) {
    let keep = TimeDelta::from_std(keep).unwrap_or(TimeDelta::MAX);
    loop {
        if let Some(before) = Utc::now().checked_sub_signed(keep)
            && let Err(error) = operations.forget_exports(before).await
        {
            tracing::debug!(error = %error, "old exports aren't forgotten yet");
        }
        tokio::time::sleep(FORGET_EVERY).await;
    }
}

/// Begins to serve exports.
pub async fn start(
    export: &ExportSettings,
    store: Store,
    operations: Operations,
    stop: CancellationToken,
) -> Result<Served> {
    let pepper = pepper(export)?;
    let address = export.listen;
    let mut options = export.options.clone();
    files::fit(&mut options);
    let served = api::export::serve(address, options, pepper, store, operations, stop).await;
    served.with_context(|| format!("{address} can't be listened on (set `export.listen` to another address)"))
}

/// The site's secret, which keys are hashed with.
pub fn pepper(export: &ExportSettings) -> Result<Pepper> {
    let secret = export.pepper.resolve(&environment).map_err(|problem| Problems::from_iter([problem]))?;
    Ok(Pepper::new(secret).map_err(|error| Problems::from_iter([export.pepper.place().problem(error.to_string())]))?)
}

/// Where snapshots are kept, to be read.
pub fn store(settings: &Settings) -> Result<Store> {
    let Some(snapshots) = &settings.snapshots else { bail!("there is no section [snapshots] in the configuration") };
    match Store::open_to_read(&snapshots.store, &environment) {
        Ok(store) => Ok(store),
        Err(StoreError::Secret(problem)) => Err(Problems::from_iter([problem]).into()),
        Err(error) => Err(error.into()),
    }
}
