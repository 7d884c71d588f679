//! File locks between test processes. The kernel lets go of them however a process ends.

use std::fs::{File, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result};

/// Waits until nobody else holds the file, and holds it alone until dropped.
pub(crate) async fn exclusive(path: &Path) -> Result<File> {
    take(path, File::lock).await
}

/// Waits until nobody holds the file alone, and holds it, beside others, until dropped.
pub(crate) async fn shared(path: &Path) -> Result<File> {
    take(path, File::lock_shared).await
}

async fn take(path: &Path, how: fn(&File) -> std::io::Result<()>) -> Result<File> {
    let path = path.to_path_buf();
    let taken = tokio::task::spawn_blocking(move || {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|file| how(&file).map(|()| file)).with_context(|| format!("locking {}", path.display()))
    });
    taken.await.context("waiting for a file lock")?
}
