//! Sorts changes by key with bounded memory: what doesn't fit is written to sorted files and merged. Of each key the change
//! with the highest version is left.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// So many files of one size become one: open files and their buffers stay few however much there is to sort.
const MERGED_AT_ONCE: usize = 64;

/// What a file is read and written through.
const BUFFER: usize = 64 << 10;

/// Stands for "no value" where a value's length would be.
const TOMBSTONE: u32 = u32::MAX;

/// A record of a topic, as far as a snapshot needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Change {
    pub key: Vec<u8>,
    pub version: i64,
    /// When the request that read it was sent, in microseconds.
    pub captured: i64,
    /// It came with the first load.
    pub initial: bool,
    /// What `body` was written with.
    pub schema: u32,
    /// `None`: deleted.
    pub body: Option<Vec<u8>>,
}

impl Change {
    /// What it takes, with what is kept beside it.
    fn size(&self) -> usize {
        self.key.len() + self.body.as_ref().map_or(0, Vec::len) + size_of::<Self>()
    }

    /// By key; of one key the newest first.
    fn order(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| other.version.cmp(&self.version))
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let body = self.body.as_deref();
        out.write_all(&length(&self.key)?.to_le_bytes())?;
        out.write_all(&body.map_or(Ok(TOMBSTONE), length)?.to_le_bytes())?;
        out.write_all(&self.version.to_le_bytes())?;
        out.write_all(&self.captured.to_le_bytes())?;
        out.write_all(&self.schema.to_le_bytes())?;
        out.write_all(&[u8::from(self.initial)])?;
        out.write_all(&self.key)?;
        out.write_all(body.unwrap_or_default())
    }

    /// `None`: the file ends here.
    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 29];
        match from.read(&mut head[..1])? {
            0 => return Ok(None),
            _ => from.read_exact(&mut head[1..])?,
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let wide = |at: usize| (u64::from(number(at + 4)) << 32 | u64::from(number(at))).cast_signed();
        let body = number(4);
        let mut bytes = |length: u32| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; length as usize];
            from.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let key = bytes(number(0))?;
        Ok(Some(Self {
            key,
            version: wide(8),
            captured: wide(16),
            initial: head[28] != 0,
            schema: number(24),
            body: if body == TOMBSTONE { None } else { Some(bytes(body)?) },
        }))
    }
}

/// Takes changes in any order.
pub(super) struct Sorter {
    folder: PathBuf,
    /// So much is held in memory.
    limit: usize,
    held: Vec<Change>,
    bytes: usize,
    /// Sorted files; those of a level are made of [`MERGED_AT_ONCE`] of the one before.
    levels: Vec<Vec<PathBuf>>,
    files: u64,
    superseded: u64,
}

impl Sorter {
    /// Files go to `folder`, which must be there.
    pub fn new(folder: &Path, limit: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            limit,
            held: Vec::new(),
            bytes: 0,
            levels: Vec::new(),
            files: 0,
            superseded: 0,
        }
    }

    pub fn push(&mut self, change: Change) -> io::Result<()> {
        self.bytes += change.size();
        self.held.push(change);
        if self.bytes >= self.limit { self.spill() } else { Ok(()) }
    }

    /// All of them in the order of the keys.
    pub fn finish(mut self) -> io::Result<Sorted> {
        // What is held goes to a file, too: whoever takes the changes needs the memory for what is made of them.
        if !self.held.is_empty() {
            self.spill()?;
        }
        let mut runs = Vec::new();
        for path in self.levels.iter().flatten() {
            runs.push(Run::open(path)?);
            // Its bytes stay until the file is closed, and no longer. Elsewhere an open file can't be removed.
            if cfg!(unix) {
                std::fs::remove_file(path)?;
            }
        }
        let mut sorted = Sorted::of(runs)?;
        sorted.superseded = self.superseded;
        Ok(sorted)
    }

    fn spill(&mut self) -> io::Result<()> {
        self.held.sort_unstable_by(Change::order);
        let held = std::mem::take(&mut self.held);
        self.bytes = 0;
        let path = self.write(vec![Run::Memory(held.into_iter())])?;
        self.add(0, path)
    }

    fn add(&mut self, level: usize, path: PathBuf) -> io::Result<()> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(path);
        if self.levels[level].len() < MERGED_AT_ONCE {
            return Ok(());
        }
        let full = std::mem::take(&mut self.levels[level]);
        let runs = full.iter().map(|path| Run::open(path)).collect::<io::Result<Vec<_>>>()?;
        let merged = self.write(runs)?;
        for path in full {
            std::fs::remove_file(path)?;
        }
        self.add(level + 1, merged)
    }

    fn write(&mut self, runs: Vec<Run>) -> io::Result<PathBuf> {
        self.files += 1;
        let path = self.folder.join(format!("changes-{}", self.files));
        let mut out = BufWriter::with_capacity(BUFFER, File::create(&path)?);
        let mut sorted = Sorted::of(runs)?;
        while let Some(change) = sorted.next()? {
            change.write(&mut out)?;
        }
        self.superseded += sorted.superseded;
        out.flush()?;
        Ok(path)
    }
}

/// Changes in order.
enum Run {
    Memory(std::vec::IntoIter<Change>),
    File(BufReader<File>),
}

impl Run {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::File(BufReader::with_capacity(BUFFER, File::open(path)?)))
    }

    fn next(&mut self) -> io::Result<Option<Change>> {
        match self {
            Self::Memory(changes) => Ok(changes.next()),
            Self::File(file) => Change::read(file),
        }
    }
}

/// The first change of a run.
struct Head {
    change: Change,
    run: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.change.order(&other.change).then_with(|| self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

/// Changes in the order of the keys, one of each.
pub(super) struct Sorted {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<Head>>,
    last: Option<Vec<u8>>,
    /// How many were left out because a newer one of their key was there.
    pub superseded: u64,
}

impl Sorted {
    fn of(runs: Vec<Run>) -> io::Result<Self> {
        let mut sorted = Self { heads: BinaryHeap::with_capacity(runs.len()), runs, last: None, superseded: 0 };
        for run in 0..sorted.runs.len() {
            sorted.refill(run)?;
        }
        Ok(sorted)
    }

    fn refill(&mut self, run: usize) -> io::Result<()> {
        if let Some(change) = self.runs[run].next()? {
            self.heads.push(Reverse(Head { change, run }));
        }
        Ok(())
    }

    pub fn next(&mut self) -> io::Result<Option<Change>> {
        while let Some(Reverse(Head { change, run })) = self.heads.pop() {
            self.refill(run)?;
            if self.last.as_deref() == Some(&*change.key) {
                self.superseded += 1;
                continue;
            }
            self.last = Some(change.key.clone());
            return Ok(Some(change));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn of_each_key_the_newest_is_left_in_order_however_little_fits_in_memory() {
        let mut random = fastrand::Rng::with_seed(7);
        for limit in [1, 500, 20_000, usize::MAX] {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(folder.path(), limit);
            let mut newest: BTreeMap<Vec<u8>, Change> = BTreeMap::new();
            for version in 0..5_000 {
                let key = format!("worker-{}", random.u32(..900)).into_bytes();
                let body = (!random.u32(..5).eq(&0)).then(|| vec![b'x'; random.usize(..40)]);
                let initial = random.bool();
                let change = Change { key: key.clone(), version, captured: -version, initial, schema: 9, body };
                newest.insert(key, change.clone());
                sorter.push(change).unwrap();
            }
            let mut sorted = sorter.finish().unwrap();
            assert_eq!(folder.path().read_dir().unwrap().count(), 0, "limit {limit}");
            let mut found = Vec::new();
            while let Some(change) = sorted.next().unwrap() {
                found.push(change);
            }
            assert_eq!(sorted.superseded + found.len() as u64, 5_000, "limit {limit}");
            assert_eq!(found, newest.into_values().collect::<Vec<_>>(), "limit {limit}");
        }
    }
}
