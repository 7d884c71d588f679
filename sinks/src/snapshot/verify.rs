//! Whether a generation is what its manifest says: digests, counts, checksums, order, windows; and whether it is what its
//! topics say.

mod rows;
mod topic;

use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;
use crc32fast::Hasher;
use object_store::ObjectStoreExt;
use pipeline::snapshot::splice::{Stretch, splice};
use pipeline::snapshot::{Coding, Dataset, Form, Manifest, Object, Set, Store};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::SnapshotError;
use super::base::hex;

pub use self::topic::{Compared, compare_with_topic};

/// So many problems are told; the rest is counted.
const TOLD: usize = 100;

/// So much of an object is asked for at once.
const PIECE: u64 = 8 << 20;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Objects that were read.
    pub objects: u64,
    /// Their size.
    pub bytes: u64,
    /// What is wrong, by object or dataset. No contents.
    pub problems: Vec<String>,
    /// Problems that aren't told one by one.
    pub more: u64,
}

impl Verified {
    fn problem(&mut self, of: &str, what: impl std::fmt::Display) {
        if self.problems.len() < TOLD {
            self.problems.push(format!("{of}: {what}"));
        } else {
            self.more += 1;
        }
    }
}

/// Reads everything that a manifest names. `told` hears how many bytes were read.
pub async fn verify(
    store: &Store,
    manifest: &Manifest,
    told: impl Fn(u64) + Send + Sync + 'static,
) -> Result<Verified, SnapshotError> {
    let (store, manifest, handle) = (store.clone(), manifest.clone(), Handle::current());
    let work = move || {
        let mut looking = Looking { store: &store, handle: &handle, told: &told, found: Verified::default() };
        for (name, dataset) in &manifest.datasets {
            looking.dataset(name, dataset)?;
        }
        Ok(looking.found)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|panicked| SnapshotError::Scratch { source: io::Error::other(panicked) })?
}

struct Looking<'a> {
    store: &'a Store,
    handle: &'a Handle,
    told: &'a (dyn Fn(u64) + Send + Sync),
    found: Verified,
}

impl Looking<'_> {
    fn dataset(&mut self, name: &str, dataset: &Dataset) -> Result<(), SnapshotError> {
        let windows = dataset.windows.iter().flat_map(|window| std::iter::once(&window.part).chain(&window.whole));
        let mut seen = std::collections::BTreeSet::new();
        for set in [&dataset.full, &dataset.deleted].into_iter().chain(windows) {
            for object in &set.objects {
                if seen.insert(object.path.clone()) {
                    self.object(set, object)?;
                }
            }
        }
        let mut sum = 0;
        let mut last = None;
        for window in &dataset.windows {
            sum += window.part.records;
            if window.whole.as_ref().is_some_and(|whole| whole.records != sum) {
                self.found.problem(name, format_args!("depth {} hasn't the records of its windows", window.depth));
            }
            if last.is_some_and(|last| window.from > last) {
                self.found.problem(name, format_args!("window {} begins after the one before", window.depth));
            }
            last = Some(window.from);
        }
        if sum > dataset.full.records {
            self.found.problem(name, "its windows have more records than the full set");
        }
        if dataset.deleted.records < dataset.windows.iter().map(|window| window.deleted).sum() {
            self.found.problem(name, "its windows have more deletions than the list of them");
        }
        match rows::compare(self.store, self.handle, dataset) {
            Ok(problems) => problems.into_iter().for_each(|problem| self.found.problem(name, problem)),
            Err(error @ SnapshotError::Damaged { .. }) => self.found.problem(name, error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn object(&mut self, set: &Set, object: &Object) -> Result<(), SnapshotError> {
        self.found.objects += 1;
        let mut from = Stored::open(self, object)?;
        let read = match object.form {
            // Its rows are compared with those of other files.
            Form::Parquet => io::copy(&mut from, &mut io::sink()).map(|_| ()),
            Form::Json => self.json(set, object, &mut from),
        };
        if let Err(error) = read {
            self.found.problem(&object.path, error);
        }
        // What the decoder didn't need.
        let rest = io::copy(&mut from, &mut io::sink());
        if let Some(trouble) = from.trouble.take() {
            return Err(trouble);
        }
        if let Err(error) = rest {
            self.found.problem(&object.path, error);
        }
        let (bytes, digest) = (from.at, hex(&from.digest.finalize()));
        self.found.bytes += bytes;
        if bytes != object.bytes {
            self.found.problem(&object.path, format_args!("{bytes} bytes instead of {}", object.bytes));
        } else if digest != object.sha256 {
            self.found.problem(&object.path, "its digest isn't the one of the manifest");
        }
        (self.told)(self.found.bytes);
        Ok(())
    }

    /// A list as a document; then its records, cut out as the API does.
    fn json(&mut self, set: &Set, object: &Object, from: &mut Stored<'_>) -> io::Result<()> {
        let listed = read_list(plain(object.coding, from)?)?;
        if listed.records != set.records {
            let text = format!("{} records instead of {}", listed.records, set.records);
            self.found.problem(&object.path, text);
        }
        let Some(items) = object.items else {
            self.found.problem(&object.path, "the manifest doesn't say where its records are");
            return Ok(());
        };
        if (items.plain_bytes, items.crc32) != (listed.plain_bytes, listed.crc32) {
            self.found.problem(&object.path, "its records have another checksum or length");
        }
        let stretches = splice(object.coding, b"[", &[object], b"]")?;
        let mut spliced: Box<dyn Read + '_> = Box::new(io::empty());
        for stretch in stretches {
            spliced = match stretch {
                Stretch::Bytes(bytes) => Box::new(spliced.chain(io::Cursor::new(bytes))),
                Stretch::Of { range, .. } => {
                    let mut of = Stored::open(self, object).map_err(io::Error::other)?;
                    (of.at, of.end) = (range.start, range.end);
                    Box::new(spliced.chain(of))
                }
            };
        }
        let mut hasher = Hasher::new();
        let mut length = 0;
        let mut decoded = plain(object.coding, &mut spliced)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match decoded.read(&mut buffer)? {
                0 => break,
                read => {
                    hasher.update(&buffer[..read]);
                    length += read as u64;
                }
            }
        }
        let mut wanted = Hasher::new();
        wanted.update(b"[");
        wanted.combine(&Hasher::new_with_initial_len(items.crc32, items.plain_bytes));
        wanted.update(b"]");
        drop(decoded);
        drop(spliced);
        if (length, hasher.finalize()) != (items.plain_bytes + 2, wanted.finalize()) {
            self.found.problem(&object.path, "its records, cut out, aren't what the manifest says");
        }
        Ok(())
    }
}

/// Decompressed.
fn plain<'r>(coding: Coding, from: &'r mut dyn Read) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match coding {
        Coding::Identity => Box::new(from),
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(from)),
        Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(from)?),
    })
}

struct List {
    records: u64,
    plain_bytes: u64,
    crc32: u32,
}

/// One record on each line, between brackets on lines of their own.
fn read_list(from: impl Read) -> io::Result<List> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut lines = BufReader::with_capacity(256 << 10, from);
    let mut line = Vec::new();
    let mut next = |line: &mut Vec<u8>| -> io::Result<bool> {
        line.clear();
        let read = lines.read_until(b'\n', line)?;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(read > 0)
    };
    if !next(&mut line)? || line != b"[" {
        return Err(wrong("it doesn't begin as a list".into()));
    }
    let (mut crc, mut plain_bytes, mut records) = (Hasher::new(), 0, 0);
    let mut expects_more = true;
    loop {
        if !next(&mut line)? {
            return Err(wrong("it ends in the middle".into()));
        }
        if line == b"]" && (records == 0 || !expects_more) {
            break;
        }
        if line.is_empty() && records == 0 {
            expects_more = false;
            continue;
        }
        if !expects_more {
            return Err(wrong(format!("something follows record {records}")));
        }
        if records > 0 {
            crc.update(b"\n");
            plain_bytes += 1;
        }
        crc.update(&line);
        plain_bytes += line.len() as u64;
        records += 1;
        expects_more = line.last() == Some(&b',');
        let record = if expects_more { &line[..line.len() - 1] } else { &line[..] };
        if serde_json::from_slice::<IgnoredAny>(record).is_err() {
            return Err(wrong(format!("record {records} isn't JSON on one line")));
        }
    }
    if next(&mut line)? {
        return Err(wrong("something follows the list".into()));
    }
    Ok(List { records, plain_bytes, crc32: crc.finalize() })
}

/// An object, read piece by piece.
struct Stored<'a> {
    store: Store,
    handle: Handle,
    location: object_store::path::Path,
    what: &'a str,
    at: u64,
    end: u64,
    piece: Bytes,
    digest: Sha256,
    trouble: Option<SnapshotError>,
}

impl<'a> Stored<'a> {
    fn open(looking: &Looking<'_>, object: &'a Object) -> Result<Self, SnapshotError> {
        Ok(Self {
            store: looking.store.clone(),
            handle: looking.handle.clone(),
            location: looking.store.path(&object.path)?,
            what: &object.path,
            at: 0,
            end: object.bytes,
            piece: Bytes::new(),
            digest: Sha256::new(),
            trouble: None,
        })
    }
}

impl Read for Stored<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && self.at < self.end {
            let range = self.at..self.end.min(self.at + PIECE);
            let got = self.handle.block_on(self.store.objects().get_range(&self.location, range));
            self.piece = match got {
                Ok(bytes) => bytes,
                Err(error @ object_store::Error::NotFound { .. }) => {
                    return Err(io::Error::new(io::ErrorKind::NotFound, error));
                }
                Err(error) => {
                    let failure = pipeline::snapshot::failed(self.what, &error);
                    self.trouble = Some(failure.into());
                    return Err(io::Error::other("the store failed"));
                }
            };
            self.digest.update(&self.piece);
            self.at += self.piece.len() as u64;
        }
        let taken = self.piece.len().min(out.len());
        out[..taken].copy_from_slice(&self.piece.split_to(taken));
        Ok(taken)
    }
}
