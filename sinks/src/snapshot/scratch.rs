//! A folder for the files of one run. It is held by a lock while the run lasts, and whatever nobody holds any more is swept
//! by the next run: a run that was killed leaves nothing for long, and two of one configuration don't meet.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use pipeline::snapshot::private_folder;

/// In each run's folder: locked while it is in use.
const HELD: &str = "held";

/// A run's folder. Removed when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    _held: File,
}

impl Scratch {
    /// Makes one below `parent`, where what is left of others is swept first.
    pub fn below(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        // Between making a folder and locking it, nobody sweeps.
        let sweeping = File::create(parent.join("lock"))?;
        sweeping.lock()?;
        sweep(parent);
        let path = parent.join(format!("run-{:016x}", fastrand::u64(..)));
        private_folder(&path)?;
        let held = File::create(path.join(HELD))?;
        held.lock()?;
        Ok(Self { path, _held: held })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The lock goes with the process, and then the folder with the next run.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders that nobody holds. What can't be removed stays: there may be room enough.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for folder in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let is_held =
            File::open(folder.join(HELD)).is_ok_and(|held| matches!(held.try_lock(), Err(TryLockError::WouldBlock)));
        if is_held {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::warn!(folder = %folder.display(), error = %error, "what a former run left can't be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_its_owner_may_look_at_it() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::below(parent.path()).unwrap();
        assert_eq!(fs::metadata(scratch.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    /// With one folder for all, the second run emptied the first one's.
    #[test]
    fn runs_dont_meet_and_what_was_left_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join("run-left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("changes-1"), "x").unwrap();
        let first = Scratch::below(parent.path()).unwrap();
        fs::write(first.path().join("changes-1"), "x").unwrap();
        let second = Scratch::below(parent.path()).unwrap();
        assert!(!left.exists() && first.path().join("changes-1").exists());
        assert_ne!(first.path(), second.path());
        let gone = first.path().to_owned();
        drop(first);
        assert!(!gone.exists() && second.path().exists());
    }
}
