//! What is done to records while they are answered: decompressing, and leaving out the commas between them. Both work on pieces
//! of any size, and hold no more than one.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};
use pipeline::snapshot::Coding;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

/// Decompresses the records of one list.
pub(super) enum Decode {
    /// A stretch of a deflate stream between two full flushes.
    Gzip(Box<Decompress>),
    /// Whole frames.
    Zstd(Box<Decoder<'static>>),
}

impl Decode {
    pub(super) fn new(coding: Coding) -> io::Result<Option<Self>> {
        Ok(match coding {
            Coding::Identity => None,
            Coding::Gzip => Some(Self::Gzip(Box::new(Decompress::new(false)))),
            Coding::Zstd => Some(Self::Zstd(Box::new(Decoder::new()?))),
        })
    }

    /// Decompresses some of `from` into an empty `to`, no more than it has capacity for; answers how much of `from` was taken.
    /// Where nothing is taken and nothing made, more is needed.
    pub(super) fn run(&mut self, from: &[u8], to: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Gzip(inflate) => {
                let before = inflate.total_in();
                let status = inflate.decompress_vec(from, to, FlushDecompress::None)?;
                let taken = usize::try_from(inflate.total_in() - before).map_err(io::Error::other)?;
                if status == Status::StreamEnd && taken < from.len() {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a list's deflate stream ends inside its records",
                    ));
                }
                Ok(taken)
            }
            Self::Zstd(decoder) => {
                to.resize(to.capacity(), 0);
                let (mut input, mut output) = (InBuffer::around(from), OutBuffer::around(to.as_mut_slice()));
                decoder.run(&mut input, &mut output)?;
                let (taken, made) = (input.pos(), output.pos());
                to.truncate(made);
                Ok(taken)
            }
        }
    }
}

/// Leaves out the comma before each line's end. Records hold no raw line end.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The last byte so far was a comma, and was held back.
    comma: bool,
}

impl Lines {
    pub(super) fn run(&mut self, from: &[u8]) -> Vec<u8> {
        let mut to = Vec::with_capacity(from.len() + 1);
        let mut rest = from;
        if self.comma
            && let Some(first) = rest.first()
        {
            if *first != b'\n' {
                to.push(b',');
            }
            self.comma = false;
        }
        if let Some(before) = rest.strip_suffix(b",") {
            (self.comma, rest) = (true, before);
        }
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b",\n") {
                Some(record) => {
                    to.extend_from_slice(record);
                    to.push(b'\n');
                }
                None => to.extend_from_slice(line),
            }
        }
        to
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use pipeline::snapshot::list::ListWriter;

    use super::*;

    #[test]
    fn commas_go_wherever_the_pieces_end() {
        let text = b"{\"a\":[1,2]},\n{\"b\":\",\"},\n{},\n{}\n";
        let expected = b"{\"a\":[1,2]}\n{\"b\":\",\"}\n{}\n{}\n";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let made: Vec<u8> = text.chunks(size).flat_map(|piece| lines.run(piece)).collect();
            assert_eq!(made, expected, "pieces of {size}");
        }
    }

    #[test]
    fn records_are_decompressed_whatever_the_sizes_of_the_pieces() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let mut list = ListWriter::new(coding, 6, Vec::new()).unwrap();
            for i in 0..5_000 {
                list.push(format!("{{\"id\":{i}}}").as_bytes()).unwrap();
            }
            let (bytes, listed) = list.finish().unwrap();
            let items = &bytes[listed.items.start as usize..listed.items.end as usize];
            for (piece, room) in [(1, 10), (7, 4_000), (1 << 20, 64), (1 << 20, 1 << 20)] {
                let mut decode = Decode::new(coding).unwrap().unwrap();
                let mut plain = Vec::new();
                for mut from in items.chunks(piece) {
                    loop {
                        let mut to = Vec::with_capacity(room);
                        let taken = decode.run(from, &mut to).unwrap();
                        from = &from[taken..];
                        plain.extend_from_slice(&to);
                        if taken == 0 && to.is_empty() {
                            break;
                        }
                    }
                }
                assert_eq!(plain.len() as u64, listed.items.plain_bytes, "{coding:?}, {piece}, {room}");
                assert!(plain.ends_with(b"{\"id\":4999}"));
            }
        }
    }
}
