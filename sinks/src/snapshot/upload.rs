//! Streams what a thread writes into an object of the store: bounded buffers, and the digest on the way.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use pipeline::snapshot::{Coding, Form, Items, Object, Store, StoreError, failed};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::SnapshotError;
use super::base::hex;

/// A part of an upload. Some stores want all parts but the last to be of one size; most want at least 5 MiB.
const PART: usize = 5 << 20;

/// Stores take 10,000 parts: whoever needs more than half of them gets larger ones.
const MANY: usize = 5_000;
const LARGE_PART: usize = 64 << 20;

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

    /// Begins an object. It isn't there before [`Upload::finish`].
    pub fn begin(&self, path: &str) -> Result<Upload, SnapshotError> {
        let location = self.store.path(path)?;
        let (parts, given) = mpsc::channel(1);
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
            parts,
            done,
            waiting: Vec::with_capacity(1 << 16),
            sent: 0,
            bytes: 0,
            digest: Sha256::new(),
        })
    }

    /// What the store said when something failed because of it.
    pub fn trouble(&self) -> Option<StoreError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

enum Piece {
    Part(Bytes),
    /// The last one.
    End(Bytes),
}

/// Stores what comes. When the writer goes without an end, nothing is stored.
async fn receive(
    store: &Store,
    location: &Path,
    mut given: mpsc::Receiver<Piece>,
    step: &Stored,
) -> object_store::Result<()> {
    let mut upload: Option<Box<dyn MultipartUpload>> = None;
    loop {
        match (given.recv().await, &mut upload) {
            (Some(Piece::End(bytes)), None) => {
                return store.objects().put(location, PutPayload::from(bytes)).await.map(|_| ());
            }
            (Some(piece), open) => {
                let (bytes, is_last) = match piece {
                    Piece::Part(bytes) => (bytes, false),
                    Piece::End(bytes) => (bytes, true),
                };
                let open = match open {
                    Some(open) => open,
                    None => open.insert(store.objects().put_multipart(location).await?),
                };
                let ended = async {
                    if !bytes.is_empty() {
                        open.put_part(PutPayload::from(bytes)).await?;
                    }
                    if is_last { open.complete().await.map(|_| true) } else { Ok(false) }
                };
                let ended = ended.await;
                step();
                match ended {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(error) => {
                        let _ = open.abort().await;
                        return Err(error);
                    }
                }
            }
            (None, Some(open)) => {
                open.abort().await?;
                return Ok(());
            }
            (None, None) => return Ok(()),
        }
    }
}

/// An object that is being written, by a thread that may wait.
pub(super) struct Upload {
    path: String,
    parts: mpsc::Sender<Piece>,
    done: oneshot::Receiver<bool>,
    waiting: Vec<u8>,
    sent: usize,
    bytes: u64,
    digest: Sha256,
}

impl Upload {
    /// Ends it: it is in the store when this answers.
    pub fn finish(mut self, form: Form, coding: Coding, items: Option<Items>) -> io::Result<Object> {
        self.digest.update(&self.waiting);
        let last = std::mem::take(&mut self.waiting);
        self.parts.blocking_send(Piece::End(last.into())).map_err(|_| gone())?;
        if !self.done.blocking_recv().unwrap_or(false) {
            return Err(gone());
        }
        let sha256 = hex(&self.digest.finalize());
        Ok(Object { form, coding, path: self.path, bytes: self.bytes, sha256, items })
    }
}

/// Why the store didn't take it is in [`Uploads::trouble`].
fn gone() -> io::Error {
    io::Error::other("the store didn't take an object")
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = if self.sent < MANY { PART } else { LARGE_PART };
        let taken = bytes.len().min(size - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        self.bytes += taken as u64;
        if self.waiting.len() == size {
            self.digest.update(&self.waiting);
            let part = std::mem::take(&mut self.waiting);
            self.parts.blocking_send(Piece::Part(part.into())).map_err(|_| gone())?;
            self.sent += 1;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
