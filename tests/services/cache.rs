//! What was fetched once stays in one folder outside the checkout, shared by all test processes.

use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lock;

/// `MUSTER_TEST_CACHE`, else `muster-tests` in the user's cache folder.
pub(crate) fn folder() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("MUSTER_TEST_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|caches| caches.join("muster-tests")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/muster-tests")))
        .unwrap_or_else(|| std::env::temp_dir().join("muster-tests-cache"));
    std::fs::create_dir_all(&folder).with_context(|| format!("creating the test cache {}", folder.display()))?;
    folder.canonicalize().with_context(|| format!("finding the test cache {}", folder.display()))
}

/// The folder `name` of the cache. The first process to want it fills a staging folder, which then takes the name in
/// one step; the others wait, so nobody sees half of it.
pub(crate) async fn filled<F, Fut>(name: &str, fill: F) -> Result<PathBuf>
where
    F: FnOnce(PathBuf) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let cache = folder()?;
    let wanted = cache.join(name);
    if wanted.is_dir() {
        return Ok(wanted);
    }
    let _filling = lock::exclusive(&cache.join(format!("{name}.lock"))).await?;
    if !wanted.is_dir() {
        let staging = staging(&cache, name)?;
        fill(staging.path().to_path_buf()).await?;
        std::fs::rename(staging.path(), &wanted).with_context(|| format!("moving to {}", wanted.display()))?;
    }
    Ok(wanted)
}

/// In the cache itself, because a rename is atomic only within one file system.
fn staging(cache: &Path, name: &str) -> Result<tempfile::TempDir> {
    let prefix = format!("{name}.staging-");
    tempfile::Builder::new().prefix(&prefix).tempdir_in(cache).context("creating a staging folder in the test cache")
}
