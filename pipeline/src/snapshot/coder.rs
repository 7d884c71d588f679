//! Compresses piece by piece, so that pieces that were compressed one by one can be put together.

use std::io::{self, Write};

use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder;

use super::manifest::Coding;

/// Deflate, no flags, no time, no extra flags, no particular system (RFC 1952, 2.3).
pub(super) const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// What a gzip member ends with: of all that was compressed, the CRC-32 and the length modulo 2^32.
pub(super) fn gzip_trailer(crc32: u32, plain_bytes: u64) -> [u8; 8] {
    let length = (plain_bytes & 0xffff_ffff) as u32;
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc32.to_le_bytes());
    trailer[4..].copy_from_slice(&length.to_le_bytes());
    trailer
}

/// A stream that is compressed piece by piece. Of gzip it makes the deflate stream alone.
pub(super) enum Coder {
    Identity,
    /// Pieces end with a full flush: at a whole byte, and nothing behind refers to anything before.
    Gzip {
        deflate: Box<Compress>,
        buffer: Vec<u8>,
    },
    /// Each piece is a frame.
    Zstd {
        level: i32,
        frame: Option<Box<Encoder<'static, Vec<u8>>>>,
    },
}

/// Room for what one call compresses.
const ROOM: usize = 32 * 1024;

impl Coder {
    pub(super) fn new(coding: Coding, level: u32) -> io::Result<Self> {
        Ok(match coding {
            Coding::Identity => Self::Identity,
            Coding::Gzip => {
                let deflate = Box::new(Compress::new(Compression::new(level), false));
                Self::Gzip { deflate, buffer: Vec::with_capacity(ROOM) }
            }
            Coding::Zstd => {
                let level = i32::try_from(level).map_err(io::Error::other)?;
                Self::Zstd { level, frame: None }
            }
        })
    }

    /// Adds to the present piece.
    pub(super) fn part(&mut self, plain: &[u8], out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Identity => out.write_all(plain),
            Self::Gzip { deflate, buffer } => run(deflate, buffer, plain, FlushCompress::None, out),
            Self::Zstd { level, frame } => {
                let encoder = match frame {
                    Some(encoder) => encoder,
                    None => frame.insert(Box::new(zstd_encoder(*level)?)),
                };
                encoder.write_all(plain)?;
                out.write_all(encoder.get_ref())?;
                encoder.get_mut().clear();
                Ok(())
            }
        }
    }

    /// Ends the present piece. Another may follow.
    pub(super) fn end_piece(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Identity => Ok(()),
            Self::Gzip { deflate, buffer } => run(deflate, buffer, &[], FlushCompress::Full, out),
            Self::Zstd { frame, .. } => match frame.take() {
                Some(encoder) => out.write_all(&encoder.finish()?),
                None => Ok(()),
            },
        }
    }

    /// Ends the stream with the present piece.
    pub(super) fn end_stream(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Gzip { deflate, buffer } => run(deflate, buffer, &[], FlushCompress::Finish, out),
            Self::Identity | Self::Zstd { .. } => self.end_piece(out),
        }
    }
}

/// How far back zstd looks, as a power of two: some lists are written at a time, and a slow reader whose answer is decompressed
/// takes up as much. Records of one list resemble each other, so more of them hardly helps.
pub(super) const ZSTD_WINDOW_LOG: u32 = 20;

fn zstd_encoder(level: i32) -> io::Result<Encoder<'static, Vec<u8>>> {
    let mut encoder = Encoder::new(Vec::with_capacity(ROOM), level)?;
    // Levels 1 and 2 look back less far than that.
    if level > 2 {
        encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
    }
    Ok(encoder)
}

/// Compresses all of it. A flush is complete when the compressor leaves room in the buffer, a stream when it says so.
fn run(
    deflate: &mut Compress,
    buffer: &mut Vec<u8>,
    mut plain: &[u8],
    flush: FlushCompress,
    out: &mut impl Write,
) -> io::Result<()> {
    loop {
        buffer.clear();
        let before = deflate.total_in();
        let status = deflate.compress_vec(plain, buffer, flush)?;
        let taken = usize::try_from(deflate.total_in() - before).map_err(io::Error::other)?;
        plain = &plain[taken..];
        out.write_all(buffer)?;
        let has_room = buffer.len() < buffer.capacity();
        let done = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            _ => plain.is_empty() && has_room,
        };
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, zstd_sys::ZSTD_EndDirective};

    use super::*;

    /// What is said of it (docs/snapshots.md): the window, and the tables in which zstd looks things up, in bytes.
    fn zstd_memory(level: u32) -> u64 {
        let mebibytes = match level {
            0..=2 => 2,
            3..=4 => 4,
            5..=8 => 9,
            9 => 16,
            10..=11 => 22,
            12..=18 => 66,
            _ => 83,
        };
        mebibytes << 20
    }

    /// Without the bound on the window, level 19 takes some 90 MiB for each list.
    #[test]
    fn what_is_said_of_zstds_memory_is_so() {
        let plain: Vec<u8> = (0..4_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut compressed = vec![0; 8 << 20];
        for level in 1..=19 {
            let mut context = CCtx::create();
            context.set_parameter(CParameter::CompressionLevel(level)).unwrap();
            if level > 2 {
                context.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG)).unwrap();
            }
            let (mut from, mut to) = (InBuffer::around(&plain), OutBuffer::around(compressed.as_mut_slice()));
            context.compress_stream2(&mut to, &mut from, ZSTD_EndDirective::ZSTD_e_continue).unwrap();
            let (taken, said) = (context.sizeof() as u64, zstd_memory(level.unsigned_abs()));
            assert!(taken <= said, "level {level}: {taken} bytes, {said} are said");
        }
    }
}
