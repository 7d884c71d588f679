//! Writes records as a JSON array, laid out so that the records can be copied out of it.
//!
//! ```text
//! [⏎
//! {…},⏎
//! {…}⏎
//! ]⏎
//! ```
//!
//! The object is a JSON document for whoever reads it whole. Its *items* (the records with the commas between them) begin and
//! end at whole bytes that depend on nothing before them: in gzip the deflate stream is fully flushed on both sides, in zstd
//! they are frames of their own. So a server copies them behind its own head, and puts several lists' items one after the other.

use std::io::{self, Write};

use crc32fast::Hasher;

use super::coder::{Coder, GZIP_HEADER, gzip_trailer};
use super::manifest::{Coding, Items};

/// What stands before the first record.
pub(super) const HEAD: &[u8] = b"[\n";

/// What stands behind the last one.
pub(super) const TAIL: &[u8] = b"\n]\n";

/// What stands between two records.
pub const BETWEEN: &[u8] = b",\n";

/// So much is compressed at once, at least.
const CHUNK: usize = 64 * 1024;

/// Writes one list. It isn't complete before [`Self::finish`].
pub struct ListWriter<W: Write> {
    out: Counted<W>,
    coding: Coding,
    coder: Coder,
    crc: Hasher,
    start: u64,
    /// What hasn't gone through the coder yet.
    pending: Vec<u8>,
    plain_bytes: u64,
    records: u64,
}

/// What a list came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// How many records it has.
    pub records: u64,
    /// The object's size.
    pub bytes: u64,
    /// Where the records are.
    pub items: Items,
}

impl<W: Write> ListWriter<W> {
    /// Begins a list. `level` is the coding's own: gzip 1 to 9, zstd 1 to 22.
    pub fn new(coding: Coding, level: u32, out: W) -> io::Result<Self> {
        let mut out = Counted { out, bytes: 0 };
        let mut coder = Coder::new(coding, level)?;
        if coding == Coding::Gzip {
            out.write_all(&GZIP_HEADER)?;
        }
        coder.part(HEAD, &mut out)?;
        coder.end_piece(&mut out)?;
        let start = out.bytes;
        Ok(Self { out, coding, coder, crc: Hasher::new(), start, pending: Vec::new(), plain_bytes: 0, records: 0 })
    }

    /// Adds a record: one JSON value on one line.
    pub fn push(&mut self, record: &[u8]) -> io::Result<()> {
        self.push_items(record, 1)
    }

    /// Adds so many records as they stand in another list, uncompressed, with what is between them.
    pub fn push_items(&mut self, items: &[u8], records: u64) -> io::Result<()> {
        if records == 0 {
            return Ok(());
        }
        if self.records > 0 {
            self.pending.extend_from_slice(BETWEEN);
        }
        self.records += records;
        // What is large needn't be gathered.
        if items.len() >= CHUNK {
            self.compress_pending()?;
            return self.compress(items);
        }
        self.pending.extend_from_slice(items);
        if self.pending.len() >= CHUNK { self.compress_pending() } else { Ok(()) }
    }

    fn compress_pending(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.compress(&pending)?;
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    fn compress(&mut self, plain: &[u8]) -> io::Result<()> {
        self.crc.update(plain);
        self.plain_bytes += plain.len() as u64;
        self.coder.part(plain, &mut self.out)
    }

    /// Ends the list, flushes the output and hands it back.
    pub fn finish(mut self) -> io::Result<(W, Listed)> {
        self.compress_pending()?;
        self.coder.end_piece(&mut self.out)?;
        let end = self.out.bytes;
        self.coder.part(TAIL, &mut self.out)?;
        self.coder.end_stream(&mut self.out)?;
        let (crc32, plain_bytes) = (self.crc.clone().finalize(), self.plain_bytes);
        if self.coding == Coding::Gzip {
            let mut whole = Hasher::new();
            whole.update(HEAD);
            whole.combine(&self.crc);
            whole.update(TAIL);
            let length = (HEAD.len() + TAIL.len()) as u64 + plain_bytes;
            self.out.write_all(&gzip_trailer(whole.finalize(), length))?;
        }
        self.out.flush()?;
        let items = Items { start: self.start, end, plain_bytes, crc32 };
        Ok((self.out.out, Listed { records: self.records, bytes: self.out.bytes, items }))
    }
}

struct Counted<W: Write> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
