//! Where local memories are kept: in a folder, or on the disk of a simulated machine, which forgets in a crash what
//! wasn't synced.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use redb::{Builder, Database, Durability, WriteTransaction};

#[cfg(any(test, feature = "testing"))]
pub use self::simulated::SimulatedDisk;

/// Where local memories are kept. They are disposable: each is rebuilt from its topic where it has gone.
#[derive(Debug, Clone)]
pub enum Place {
    /// In files of this folder, which is made where it isn't there.
    Folder(PathBuf),
    /// On the disk of a simulated machine.
    #[cfg(any(test, feature = "testing"))]
    Simulated(SimulatedDisk),
}

impl From<PathBuf> for Place {
    fn from(folder: PathBuf) -> Self {
        Self::Folder(folder)
    }
}

impl Place {
    /// Opens the file of `name`, and has `prepare` make what is missing in it and say what it holds. A damaged one is
    /// removed and made anew. `cache_bytes`: of its pages, so many are kept in RAM.
    pub(crate) fn open_whole<T>(
        &self,
        name: &str,
        cache_bytes: usize,
        prepare: impl Fn(&Database) -> Result<T, redb::Error>,
    ) -> Result<(Database, T), redb::Error> {
        let file = format!("{}.redb", name.replace(['|', '/'], "-"));
        let open = || -> Result<(Database, T), redb::Error> {
            let db = self.open(Database::builder().set_cache_size(cache_bytes), &file)?;
            let holds = prepare(&db)?;
            Ok((db, holds))
        };
        // The store asserts on a file that was cut off, which is damage like any other here.
        let damage = match std::panic::catch_unwind(AssertUnwindSafe(open)) {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(redb::Error::DatabaseAlreadyOpen)) => return Err(redb::Error::DatabaseAlreadyOpen),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the file isn't whole".to_owned(),
        };
        tracing::warn!(memory = name, damage, "local memory is damaged, building it anew");
        self.remove(&file)?;
        open()
    }

    /// Opens the file, makes it where it isn't there.
    pub(super) fn open(&self, builder: &mut Builder, file: &str) -> Result<Database, redb::Error> {
        match self {
            Self::Folder(folder) => {
                std::fs::create_dir_all(folder)?;
                Ok(builder.create(folder.join(file))?)
            }
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(disk) => Ok(builder.create_with_backend(disk.open(file))?),
        }
    }

    /// Removes the file.
    pub(super) fn remove(&self, file: &str) -> Result<(), redb::Error> {
        match self {
            Self::Folder(folder) => std::fs::remove_file(folder.join(file))?,
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(disk) => disk.remove(file),
        }
        Ok(())
    }
}

/// Writes what is seen at once but reaches the disk with the next commit that isn't of this kind.
pub(crate) fn write(
    db: &Database,
    write: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::None)?;
    write(&txn)?;
    txn.commit()?;
    Ok(())
}

#[cfg(any(test, feature = "testing"))]
mod simulated {
    use std::collections::BTreeMap;
    use std::fmt;
    use std::io::{Error, ErrorKind};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use redb::StorageBackend;

    use crate::log::memory::{Fault, When};

    type Hook = Arc<dyn Fn(When) -> Fault + Send + Sync>;

    /// A disk that outlives processes. Clones are the same disk.
    #[derive(Clone, Default)]
    pub struct SimulatedDisk {
        files: Arc<Mutex<BTreeMap<String, Arc<Mutex<Contents>>>>>,
        /// Asked before and after each sync of this handle's files.
        faults: Option<Hook>,
    }

    #[derive(Default)]
    struct Contents {
        data: Vec<u8>,
        /// What was there before each write since the last sync.
        undo: Vec<Undo>,
        /// The process that had it open has crashed.
        lost: bool,
    }

    impl Contents {
        fn resize(&mut self, len: usize) {
            self.data.truncate(len);
            // Zeroed pages are only made when they are touched.
            let mut grown = vec![0; len];
            grown[..self.data.len()].copy_from_slice(&self.data);
            self.data = grown;
        }
    }

    struct Undo {
        len: usize,
        at: usize,
        was: Vec<u8>,
    }

    impl fmt::Debug for SimulatedDisk {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "SimulatedDisk({} files)", lock(&self.files).len())
        }
    }

    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    impl SimulatedDisk {
        /// A handle for one process: its syncs ask `hook`. A stall there is none: syncing doesn't wait.
        #[must_use]
        pub fn with_faults(&self, hook: Arc<dyn Fn(When) -> Fault + Send + Sync>) -> Self {
            Self { files: Arc::clone(&self.files), faults: Some(hook) }
        }

        /// The machine goes down: open files are cut off from those who have them open, and what wasn't synced is lost,
        /// or happens to be there all the same.
        pub fn crash(&self, unsynced_survives: bool) {
            for file in lock(&self.files).values_mut() {
                let mut open = lock(file);
                while let Some(undo) = open.undo.pop() {
                    if !unsynced_survives {
                        open.resize(undo.len);
                        open.data[undo.at..undo.at + undo.was.len()].copy_from_slice(&undo.was);
                    }
                }
                open.lost = true;
                let data = std::mem::take(&mut open.data);
                drop(open);
                *file = Arc::new(Mutex::new(Contents { data, ..Contents::default() }));
            }
        }

        pub(super) fn open(&self, file: &str) -> SimulatedFile {
            let contents = lock(&self.files).entry(file.to_owned()).or_default().clone();
            SimulatedFile { contents, faults: self.faults.clone() }
        }

        pub(super) fn remove(&self, file: &str) {
            lock(&self.files).remove(file);
        }
    }

    pub(super) struct SimulatedFile {
        contents: Arc<Mutex<Contents>>,
        faults: Option<Hook>,
    }

    impl fmt::Debug for SimulatedFile {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("SimulatedFile")
        }
    }

    impl SimulatedFile {
        fn contents(&self) -> Result<MutexGuard<'_, Contents>, Error> {
            let contents = lock(&self.contents);
            if contents.lost { Err(Error::other("the process has crashed")) } else { Ok(contents) }
        }

        fn step(&self, when: When) -> Result<(), Error> {
            match self.faults.as_ref().map_or(Fault::Ok, |hook| hook(when)) {
                Fault::Ok | Fault::Stall(_) => Ok(()),
                Fault::Unavailable | Fault::Crash => Err(Error::other("an injected fault")),
            }
        }
    }

    fn end(offset: u64, len: usize) -> Result<(usize, usize), Error> {
        let at = usize::try_from(offset).map_err(Error::other)?;
        Ok((at, at + len))
    }

    impl StorageBackend for SimulatedFile {
        fn len(&self) -> Result<u64, Error> {
            Ok(self.contents()?.data.len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
            let (at, end) = end(offset, out.len())?;
            let contents = self.contents()?;
            out.copy_from_slice(contents.data.get(at..end).ok_or(ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn set_len(&self, len: u64) -> Result<(), Error> {
            let mut contents = self.contents()?;
            let (len, _) = end(len, 0)?;
            let was = contents.data.get(len..).unwrap_or_default().to_vec();
            let undo = Undo { len: contents.data.len(), at: len.min(contents.data.len()), was };
            contents.undo.push(undo);
            contents.resize(len);
            Ok(())
        }

        fn sync_data(&self) -> Result<(), Error> {
            self.step(When::Before)?;
            self.contents()?.undo.clear();
            self.step(When::After)
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
            let mut contents = self.contents()?;
            let (at, end) = end(offset, data.len())?;
            let place = contents.data.get_mut(at..end).ok_or(ErrorKind::UnexpectedEof)?;
            let was = place.to_vec();
            place.copy_from_slice(data);
            let len = contents.data.len();
            contents.undo.push(Undo { len, at, was });
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use redb::{ReadableDatabase, TableDefinition};

    use super::*;

    const NURSES: TableDefinition<&str, u64> = TableDefinition::new("nurses");

    fn put(db: &Database, name: &str, durability: Durability) {
        let mut txn = db.begin_write().unwrap();
        txn.set_durability(durability).unwrap();
        txn.open_table(NURSES).unwrap().insert(name, 1).unwrap();
        txn.commit().unwrap();
    }

    fn there(db: &Database, name: &str) -> bool {
        db.begin_read().unwrap().open_table(NURSES).unwrap().get(name).unwrap().is_some()
    }

    #[test]
    fn what_was_not_synced_is_lost_with_the_machine() {
        let disk = SimulatedDisk::default();
        let place = Place::Simulated(disk.clone());
        let db = place.open(&mut Database::builder(), "nurses").unwrap();
        put(&db, "amal", Durability::Immediate);
        put(&db, "ben", Durability::None);
        disk.crash(false);
        drop(db);
        let db = place.open(&mut Database::builder(), "nurses").unwrap();
        assert!(there(&db, "amal"));
        assert!(!there(&db, "ben"));
    }

    #[test]
    fn what_was_closed_is_there() {
        let place = Place::Simulated(SimulatedDisk::default());
        let db = place.open(&mut Database::builder(), "nurses").unwrap();
        put(&db, "amal", Durability::None);
        drop(db);
        assert!(there(&place.open(&mut Database::builder(), "nurses").unwrap(), "amal"));
    }
}
