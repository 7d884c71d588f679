//! One process at a time: a locked file beside the database that names who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::LogError;

/// The process that holds an embedded log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The local socket on which it takes commands, once it listens.
    pub socket: Option<PathBuf>,
}

/// Who holds the log at `path`; `None`: nobody.
pub fn holder(path: &Path) -> Option<Holder> {
    let mut file = File::open(lock_path(path)).ok()?;
    // A holder that is just writing its name needs a moment.
    for _ in 0..10 {
        match file.try_lock_shared() {
            Ok(()) => return None,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(_)) => return None,
        }
        if let Some(holder) = read(&mut file) {
            return Some(holder);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Held as long as it lives; the operating system lets go when the process ends, however it ends.
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub fn take(path: &Path) -> Result<Self, LogError> {
        let lock = lock_path(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(|err| not_writable(&lock, &err))?;
        // Somebody who asks for the holder, and finds none, has the lock for a moment.
        for _ in 0..5 {
            match file.try_lock() {
                Ok(()) => {
                    let mut taken = Self { file };
                    taken.write(None).map_err(|err| not_writable(&lock, &err))?;
                    return Ok(taken);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(err)) => return Err(not_writable(&lock, &err)),
            }
        }
        let who = match holder(path) {
            Some(holder) => format!("process {}", holder.pid),
            None => "another process".to_owned(),
        };
        Err(LogError::Refused {
            reason: format!("{} is in use by {who}", path.display()),
            hint: "stop that process first, or give this one another file: the embedded log serves one process at a \
                   time"
                .into(),
        })
    }

    /// Writes who holds it, and where it takes commands.
    pub fn write(&mut self, socket: Option<&Path>) -> io::Result<()> {
        let holder = Holder { pid: std::process::id(), socket: socket.map(Path::to_owned) };
        let text = serde_json::to_vec(&holder)?;
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&text)?;
        self.file.flush()
    }
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn not_writable(lock: &Path, err: &io::Error) -> LogError {
    LogError::Refused {
        reason: format!("{} can't be locked: {err}", lock.display()),
        hint: "the folder must be writable, on a local disk".into(),
    }
}
