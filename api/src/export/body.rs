//! The bytes of an answer, piece by piece as the client takes them. Nothing is read before it is wanted, and an answer is never
//! silently short: what can't be read breaks the connection off.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetResultPayload, ObjectStore, ObjectStoreExt};
use pipeline::snapshot::splice::Stretch;
use pipeline::snapshot::{Coding, Manifest, Store, StoreError};
use tokio::task::JoinHandle;

use super::audit::Entry;
use super::buffers::{Buffers, Room};
use super::plan::Plan;
use super::transform::{Decode, Lines};

/// So many files are kept open for an answer, so that what it is made of stays readable when its generation is pruned. An answer
/// that is joined from more opens the others when it comes to them.
pub const OPEN_FILES: usize = 4;

/// An answer may be joined from hundreds of objects, each of which is asked for before it begins. In a folder each is an open
/// file.
const ASKED_AT_ONCE: usize = 16;

/// So much is decompressed at once: others wait for this thread, too.
const MOST_DECODED: usize = 64 * 1024;

/// A piece of an answer that is to be read.
enum Piece {
    Bytes(Bytes),
    Object { path: Path, file: Option<File>, range: Range<u64> },
}

/// An answer whose objects are all there, and as long as the manifest says.
pub(super) struct Opened {
    pieces: VecDeque<Piece>,
    decode: Option<Coding>,
    lines: Option<Lines>,
    bytes: u64,
    store: Store,
}

/// Opens all that an answer is made of.
pub(super) async fn open(store: &Store, manifest: &Manifest, plan: Plan) -> Result<Opened, StoreError> {
    let mut pieces = VecDeque::with_capacity(plan.stretches.len());
    let mut open_files = 0;
    let piece = |stretch| piece(store, manifest, stretch);
    let at_once = if store.is_local() { 1 } else { ASKED_AT_ONCE };
    let mut found = futures::stream::iter(plan.stretches).map(piece).buffered(at_once);
    while let Some(mut piece) = found.try_next().await? {
        if let Piece::Object { file, .. } = &mut piece {
            file.take_if(|_| open_files == OPEN_FILES);
            open_files += usize::from(file.is_some());
        }
        pieces.push_back(piece);
    }
    let lines = plan.lines.then(Lines::default);
    Ok(Opened { pieces, decode: plan.decode, lines, bytes: plan.bytes, store: store.clone() })
}

/// A piece whose object is there, and as long as the manifest says.
async fn piece(store: &Store, manifest: &Manifest, stretch: Stretch) -> Result<Piece, StoreError> {
    let (path, range) = match stretch {
        Stretch::Bytes(bytes) => return Ok(Piece::Bytes(bytes)),
        Stretch::Of { path, range } => (path, range),
    };
    let located = store.path(&path)?;
    let found = store.objects().get_opts(&located, GetOptions { head: true, ..GetOptions::default() }).await;
    let found = found.map_err(|error| pipeline::snapshot::failed(&path, &error))?;
    let expected = manifest.objects().find(|object| object.path == path).map(|object| object.bytes);
    if expected != Some(found.meta.size) {
        let reason = format!("it has {} bytes, the manifest says {expected:?}", found.meta.size);
        return Err(StoreError::NotUnderstood { path, reason });
    }
    let file = match found.payload {
        GetResultPayload::File(file, _) => Some(file),
        GetResultPayload::Stream(_) => None,
    };
    Ok(Piece::Object { path: located, file, range })
}

impl Opened {
    /// The body. How it ended is noted in `export`.
    pub(super) fn body(self, buffers: &Arc<Buffers>, export: Entry) -> Body {
        let reading = Reading {
            pieces: self.pieces,
            reader: None,
            coding: self.decode,
            decoding: None,
            lines: self.lines,
            left: self.bytes,
            store: self.store,
            buffers: Arc::clone(buffers),
            export,
        };
        Body::from_stream(futures::stream::try_unfold(reading, Reading::next))
    }
}

/// An answer under way.
struct Reading {
    pieces: VecDeque<Piece>,
    reader: Option<Reader>,
    coding: Option<Coding>,
    /// What was read and isn't decompressed yet.
    decoding: Option<(Decode, Bytes)>,
    lines: Option<Lines>,
    /// What the client was promised and hasn't got.
    left: u64,
    store: Store,
    buffers: Arc<Buffers>,
    export: Entry,
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        match self.piece().await {
            Ok(Some(bytes)) => {
                self.left -= bytes.len() as u64;
                self.export.sent(bytes.len());
                Ok(Some((bytes, self)))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.export.failed(&error);
                Err(error)
            }
        }
    }

    /// What comes next; never nothing, and never more than was promised.
    async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(bytes) = self.raw().await? {
            let bytes = match &mut self.lines {
                Some(lines) => self.buffers.room(bytes.len()).hold(lines.run(&bytes)),
                None => bytes,
            };
            if bytes.is_empty() {
                continue;
            }
            if bytes.len() as u64 > self.left {
                return Err(broken("it is longer than the manifest says"));
            }
            return Ok(Some(bytes));
        }
        if self.left > 0 {
            return Err(broken("it is shorter than the manifest says"));
        }
        Ok(None)
    }

    /// The same before the commas go.
    async fn raw(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some((decode, from)) = &mut self.decoding {
                let room = self.buffers.room(MOST_DECODED);
                let mut to = Vec::with_capacity(room.size());
                let taken = decode.run(from, &mut to)?;
                *from = from.slice(taken..);
                if !to.is_empty() {
                    return Ok(Some(room.hold(to)));
                }
                if taken > 0 {
                    continue;
                }
            }
            if let Some(reader) = self.reader.take() {
                match reader.read(&self.store, &self.buffers).await? {
                    Some((bytes, reader)) => {
                        self.reader = Some(reader);
                        match &mut self.decoding {
                            Some((_, from)) if from.is_empty() => *from = bytes,
                            Some(_) => return Err(broken("a list can't be decompressed")),
                            None => return Ok(Some(bytes)),
                        }
                        continue;
                    }
                    None => self.decoding = None,
                }
            }
            match self.pieces.pop_front() {
                None => return Ok(None),
                Some(Piece::Bytes(bytes)) if bytes.is_empty() => {}
                Some(Piece::Bytes(bytes)) => return Ok(Some(bytes)),
                Some(Piece::Object { path, file, range }) => {
                    self.reader = Some(Reader::open(&self.store, path, file, range).await?);
                    let decode = self.coding.map(Decode::new).transpose()?.flatten();
                    self.decoding = decode.map(|decode| (decode, Bytes::new()));
                }
            }
        }
    }
}

/// Reads part of an object.
struct Reader {
    /// What hasn't been asked for yet.
    range: Range<u64>,
    from: From,
}

enum From {
    /// A local store's file, opened once.
    File(File),
    /// A store that is asked for each piece. Where memory is plentiful, for the next one while one is being sent.
    Store { path: Path, ahead: Option<Ahead> },
}

/// A piece that is being fetched. Nobody needs it when this is dropped.
struct Ahead(JoinHandle<object_store::Result<Bytes>>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Reader {
    async fn open(store: &Store, path: Path, file: Option<File>, range: Range<u64>) -> io::Result<Self> {
        if let Some(file) = file {
            return Ok(Self { range, from: From::File(file) });
        }
        let options = GetOptions { head: true, ..GetOptions::default() };
        let from = match store.objects().get_opts(&path, options).await?.payload {
            GetResultPayload::File(file, _) => From::File(file),
            GetResultPayload::Stream(_) => From::Store { path, ahead: None },
        };
        Ok(Self { range, from })
    }

    /// The next bytes, as many as there is room for; `None`: that was all.
    async fn read(self, store: &Store, buffers: &Arc<Buffers>) -> io::Result<Option<(Bytes, Self)>> {
        let Self { mut range, from } = self;
        match from {
            From::File(file) => {
                let (next, room) = next(&mut range, buffers);
                if next.is_empty() {
                    return Ok(None);
                }
                let size = next.end - next.start;
                // By this thread, which will also let go of it: each thread of the pool would keep some memory for itself.
                let bytes = Vec::with_capacity(room.size());
                let turn = buffers.turn().await;
                let (file, bytes) = tokio::task::spawn_blocking(move || read_at(file, next, bytes)).await??;
                drop(turn);
                if bytes.len() as u64 != size {
                    return Err(broken("an object ends too early"));
                }
                Ok(Some((room.hold(bytes), Self { range, from: From::File(file) })))
            }
            From::Store { path, ahead } => {
                let fetch = |range: &mut Range<u64>| {
                    let (next, room) = next(range, buffers);
                    (!next.is_empty()).then(|| Ahead(tokio::spawn(fetch(store, &path, next, room))))
                };
                let Some(mut present) = ahead.or_else(|| fetch(&mut range)) else { return Ok(None) };
                let bytes = (&mut present.0).await??;
                let ahead = if buffers.plenty() { fetch(&mut range) } else { None };
                Ok(Some((bytes, Self { range, from: From::Store { path, ahead } })))
            }
        }
    }
}

/// Takes from a range as much as there is room for.
fn next(range: &mut Range<u64>, buffers: &Arc<Buffers>) -> (Range<u64>, Room) {
    let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let room = buffers.room(left);
    let end = range.start + room.size() as u64;
    let next = range.start..end;
    range.start = end;
    (next, room)
}

fn fetch(
    store: &Store,
    path: &Path,
    range: Range<u64>,
    room: Room,
) -> impl Future<Output = object_store::Result<Bytes>> + use<> {
    let (objects, path) = (Arc::clone(store.objects()), path.clone());
    async move {
        let bytes = objects.get_range(&path, range.clone()).await?;
        // Stores answer what there is of a range.
        if bytes.len() as u64 != range.end - range.start {
            let source = broken("an object ends too early").into();
            return Err(object_store::Error::Generic { store: "snapshots", source });
        }
        Ok(room.hold(bytes))
    }
}

fn read_at(mut file: File, range: Range<u64>, mut bytes: Vec<u8>) -> io::Result<(File, Vec<u8>)> {
    let size = range.end - range.start;
    file.seek(SeekFrom::Start(range.start))?;
    (&mut file).take(size).read_to_end(&mut bytes)?;
    Ok((file, bytes))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
