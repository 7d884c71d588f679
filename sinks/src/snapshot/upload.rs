//! Streams what a thread writes into an object of the store: bounded buffers, and the digest on the way.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use pipeline::snapshot::{Coding, Form, Items, Object, Store, StoreError, failed};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::SnapshotError;
use super::base::hex;

/// A part of an upload. Some stores want all parts but the last to be of one size; most want at least 5 MiB.
const PART: usize = 5 << 20;

/// Stores take 10,000 parts: whoever needs more than half of them gets larger ones.
const MANY: usize = 5_000;
const LARGE_PART: usize = 32 << 20;

/// What a part is gathered in: buffers of one size, for one that grows is copied again and again, and takes up to twice as much.
const BLOCK: usize = 256 << 10;

/// Where objects go, and what went wrong first.
#[derive(Clone)]
pub(super) struct Uploads {
    store: Store,
    handle: Handle,
    trouble: Arc<Mutex<Option<StoreError>>>,
    stored: Stored,
}

/// Told of each part that is stored.
pub(super) type Stored = Arc<dyn Fn() + Send + Sync>;

impl Uploads {
    pub fn new(store: &Store, handle: &Handle, stored: Stored) -> Self {
        Self { store: store.clone(), handle: handle.clone(), trouble: Arc::default(), stored }
    }

    /// Begins an object of which a scratch file is written, too.
    pub fn begin_with_copy(&self, path: &str, copy: &std::path::Path) -> Result<Upload, SnapshotError> {
        let copy = File::create(copy).map_err(|source| SnapshotError::Scratch { source })?;
        Ok(Upload { copy: Some(copy), ..self.begin(path)? })
    }

    /// Begins an object. It isn't there before [`Upload::finish`].
    pub fn begin(&self, path: &str) -> Result<Upload, SnapshotError> {
        let location = self.store.path(path)?;
        let (parts, given) = mpsc::channel(1);
        let room = Arc::new(Semaphore::new(1));
        let (tell, done) = oneshot::channel();
        let (store, trouble) = (self.store.clone(), Arc::clone(&self.trouble));
        let what = path.to_owned();
        let step = Arc::clone(&self.stored);
        self.handle.spawn(async move {
            let ended = receive(&store, &location, given, &step).await;
            let stored = ended.is_ok();
            if let Err(error) = ended {
                let mut first = trouble.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| failed(&what, &error));
            }
            // Whoever waited may have gone.
            let _ = tell.send(stored);
        });
        Ok(Upload {
            path: path.to_owned(),
            handle: self.handle.clone(),
            parts,
            room,
            done,
            blocks: Vec::new(),
            block: Vec::new(),
            waiting: 0,
            sent: 0,
            bytes: 0,
            digest: Sha256::new(),
            copy: None,
        })
    }

    /// What the store said when something failed because of it.
    pub fn trouble(&self) -> Option<StoreError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A part on its way to the store.
struct Piece {
    bytes: PutPayload,
    is_last: bool,
    /// Until it is stored, the writer keeps back the next one.
    _room: OwnedSemaphorePermit,
}

/// Stores what comes. When the writer goes without an end, nothing is stored.
async fn receive(
    store: &Store,
    location: &Path,
    mut given: mpsc::Receiver<Piece>,
    step: &Stored,
) -> object_store::Result<()> {
    let mut upload: Option<Box<dyn MultipartUpload>> = None;
    while let Some(Piece { bytes, is_last, _room }) = given.recv().await {
        let open = match &mut upload {
            None if is_last => return store.objects().put(location, bytes).await.map(|_| ()),
            None => upload.insert(store.objects().put_multipart(location).await?),
            Some(open) => open,
        };
        let ended = async {
            if bytes.content_length() > 0 {
                open.put_part(bytes).await?;
            }
            if is_last { open.complete().await.map(|_| ()) } else { Ok(()) }
        };
        let ended = ended.await;
        step();
        match ended {
            Ok(()) if is_last => return Ok(()),
            Ok(()) => {}
            Err(error) => {
                let _ = open.abort().await;
                return Err(error);
            }
        }
    }
    match upload {
        Some(mut open) => {
            // Why the writer went is what is told; an abort that fails would take its place.
            let _ = open.abort().await;
            Ok(())
        }
        None => Ok(()),
    }
}

/// An object that is being written, by a thread that may wait.
pub(super) struct Upload {
    path: String,
    handle: Handle,
    parts: mpsc::Sender<Piece>,
    /// For one part on its way, beside the one that is gathered.
    room: Arc<Semaphore>,
    done: oneshot::Receiver<bool>,
    /// The next part: full blocks, the one that isn't full, and how many bytes they have.
    blocks: Vec<Bytes>,
    block: Vec<u8>,
    waiting: usize,
    sent: usize,
    bytes: u64,
    digest: Sha256,
    /// Where the same bytes go.
    copy: Option<File>,
}

impl Upload {
    /// Ends it: it is in the store when this answers.
    pub fn finish(mut self, form: Form, coding: Coding, items: Option<Items>) -> io::Result<Object> {
        self.send(true)?;
        if !self.done.blocking_recv().unwrap_or(false) {
            return Err(gone());
        }
        let sha256 = hex(&self.digest.finalize());
        Ok(Object { form, coding, path: self.path, bytes: self.bytes, sha256, items })
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.digest.update(&self.block);
        if let Some(copy) = &mut self.copy {
            copy.write_all(&self.block)?;
        }
        self.blocks.push(std::mem::take(&mut self.block).into());
        Ok(())
    }

    fn send(&mut self, is_last: bool) -> io::Result<()> {
        self.end_block()?;
        let bytes: PutPayload = std::mem::take(&mut self.blocks).into_iter().collect();
        self.waiting = 0;
        self.sent += 1;
        let room = self.handle.block_on(Arc::clone(&self.room).acquire_owned()).map_err(io::Error::other)?;
        self.parts.blocking_send(Piece { bytes, is_last, _room: room }).map_err(|_| gone())
    }
}

/// Why the store didn't take it is in [`Uploads::trouble`].
fn gone() -> io::Error {
    io::Error::other("the store didn't take an object")
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = if self.sent < MANY { PART } else { LARGE_PART };
        if self.block.capacity() == 0 {
            self.block.reserve_exact(BLOCK);
        }
        let taken = bytes.len().min(size - self.waiting).min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        self.bytes += taken as u64;
        self.waiting += taken;
        if self.waiting == size {
            self.send(false)?;
        } else if self.block.len() == BLOCK {
            self.end_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
