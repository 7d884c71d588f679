//! Puts an answer together from pieces of stored lists: a head, the records, a tail, without compressing a record again.
//!
//! What comes of it is one gzip member, for many clients ignore all members but the first: deflate streams join at full flushes,
//! and CRC-32s can be combined.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use crc32fast::Hasher;

use super::coder::{Coder, GZIP_HEADER, gzip_trailer};
use super::list::{BETWEEN, HEAD, TAIL};
use super::manifest::{Coding, Items, Object};

/// Head and tail are short: nothing is gained by more.
const LEVEL: u32 = 1;

/// A stretch of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stretch {
    /// These bytes.
    Bytes(Bytes),
    /// Bytes of an object.
    Of {
        /// Its path, as the manifest has it.
        path: String,
        /// Which.
        range: Range<u64>,
    },
}

impl Stretch {
    /// How long it is.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Of { range, .. } => range.end - range.start,
        }
    }
}

/// A list that is made of others' records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// What it is put together from.
    pub stretches: Vec<Stretch>,
    /// Where the records are in it.
    pub items: Items,
}

/// The stretches of `head`, the records of these lists one list after the other, and `tail`, all in `coding`.
///
/// # Errors
/// A list that has another coding, or that has no items: the manifest is at fault.
pub fn splice(coding: Coding, head: &[u8], lists: &[&Object], tail: &[u8]) -> io::Result<Vec<Stretch>> {
    Ok(lay(coding, head, lists, tail)?.stretches)
}

/// One list of the records of these, one list after the other: what [`super::list`] would have written, but for the
/// compressor's choices.
///
/// # Errors
/// As [`splice`].
pub fn join(coding: Coding, lists: &[&Object]) -> io::Result<Joined> {
    lay(coding, HEAD, lists, TAIL)
}

fn lay(coding: Coding, head: &[u8], lists: &[&Object], tail: &[u8]) -> io::Result<Joined> {
    let mut stretches = Vec::with_capacity(2 * lists.len() + 2);
    // Of the whole answer, and of its records alone.
    let (mut crc, mut items_crc) = (Hasher::new(), Hasher::new());
    let (mut plain_bytes, mut items_plain) = (head.len() as u64 + tail.len() as u64, 0);
    let mut coder = Coder::new(coding, LEVEL)?;
    let mut text = Vec::with_capacity(head.len() + 64);
    if coding == Coding::Gzip {
        text.extend_from_slice(&GZIP_HEADER);
    }
    crc.update(head);
    coder.part(head, &mut text)?;
    coder.end_piece(&mut text)?;
    let start = text.len() as u64;
    let mut end = start;
    for list in lists {
        let at_fault = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", list.path));
        let items = list.items.ok_or_else(|| at_fault("the manifest doesn't say where its records are"))?;
        if list.coding != coding || items.start > items.end || items.end > list.bytes {
            return Err(at_fault("the manifest contradicts itself"));
        }
        if items.plain_bytes == 0 {
            continue;
        }
        if items_plain > 0 {
            items_crc.update(BETWEEN);
            items_plain += BETWEEN.len() as u64;
            coder.part(BETWEEN, &mut text)?;
            coder.end_piece(&mut text)?;
            end += text.len() as u64;
        }
        stretches.push(Stretch::Bytes(std::mem::take(&mut text).into()));
        stretches.push(Stretch::Of { path: list.path.clone(), range: items.start..items.end });
        end += items.end - items.start;
        items_crc.combine(&Hasher::new_with_initial_len(items.crc32, items.plain_bytes));
        items_plain += items.plain_bytes;
    }
    crc.combine(&items_crc);
    crc.update(tail);
    plain_bytes += items_plain;
    coder.part(tail, &mut text)?;
    coder.end_stream(&mut text)?;
    if coding == Coding::Gzip {
        text.extend_from_slice(&gzip_trailer(crc.finalize(), plain_bytes));
    }
    stretches.push(Stretch::Bytes(text.into()));
    let items = Items { start, end, plain_bytes: items_plain, crc32: items_crc.finalize() };
    Ok(Joined { stretches, items })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::HashMap;
    use std::io::Read;

    use super::*;
    use crate::snapshot::list::ListWriter;
    use crate::snapshot::manifest::Form;

    const CODINGS: [Coding; 3] = [Coding::Identity, Coding::Gzip, Coding::Zstd];

    /// A list of invented employees, as an object and its bytes.
    fn list(coding: Coding, path: &str, records: Range<u32>) -> (Object, Vec<u8>) {
        let mut writer = ListWriter::new(coding, 6, Vec::new()).unwrap();
        for i in records {
            writer.push(format!("{{\"id\":{i},\"position\":\"P{}\"}}", i % 7).as_bytes()).unwrap();
        }
        let (bytes, listed) = writer.finish().unwrap();
        assert_eq!(listed.bytes, bytes.len() as u64);
        let object = Object {
            form: Form::Json,
            coding,
            path: path.into(),
            bytes: listed.bytes,
            sha256: String::new(),
            items: Some(listed.items),
        };
        (object, bytes)
    }

    fn plain(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Coding::Identity => plain.extend_from_slice(bytes),
            Coding::Gzip => {
                // One member, as clients read it that know no more.
                let mut decoder = flate2::bufread::GzDecoder::new(bytes);
                decoder.read_to_end(&mut plain).unwrap();
                assert!(decoder.into_inner().is_empty(), "something follows the member");
            }
            Coding::Zstd => plain = zstd::stream::decode_all(bytes).unwrap(),
        }
        plain
    }

    fn read(stretches: &[Stretch], objects: &HashMap<String, Vec<u8>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for stretch in stretches {
            let before = bytes.len() as u64;
            match stretch {
                Stretch::Bytes(text) => bytes.extend_from_slice(text),
                Stretch::Of { path, range } => {
                    let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                    bytes.extend_from_slice(&objects[path][range]);
                }
            }
            assert_eq!(bytes.len() as u64 - before, stretch.bytes());
        }
        bytes
    }

    #[test]
    fn a_list_is_a_json_document_of_its_own() {
        for coding in CODINGS {
            for count in [0, 1, 2, 20_000] {
                let (_, bytes) = list(coding, "full", 0..count);
                let records: Vec<serde_json::Value> = serde_json::from_slice(&plain(coding, &bytes)).unwrap();
                assert_eq!(records.len(), count as usize, "{coding:?}");
            }
        }
    }

    #[test]
    fn lists_are_joined_behind_a_head_without_being_compressed_again() {
        for coding in CODINGS {
            let lists = [0..5_000, 5_000..5_000, 5_000..5_001, 5_001..90_000];
            let lists: Vec<(Object, Vec<u8>)> =
                lists.into_iter().enumerate().map(|(i, range)| list(coding, &format!("part-{i}"), range)).collect();
            let of = lists.iter().map(|(object, _)| object).collect::<Vec<_>>();
            let stretches = splice(coding, b"{\"data\":[\n", &of, b"\n]}").unwrap();
            let objects = lists.iter().map(|(object, bytes)| (object.path.clone(), bytes.clone())).collect();
            let bytes = read(&stretches, &objects);
            let answer: serde_json::Value = serde_json::from_slice(&plain(coding, &bytes)).unwrap();
            let ids: Vec<u64> =
                answer["data"].as_array().unwrap().iter().map(|record| record["id"].as_u64().unwrap()).collect();
            assert_eq!(ids, (0..90_000).collect::<Vec<_>>(), "{coding:?}");
        }
    }

    #[test]
    fn joined_lists_are_a_list_that_can_be_spliced_again() {
        for coding in CODINGS {
            let ranges = [0..1, 1..700, 700..700, 700..9_000];
            let lists: Vec<(Object, Vec<u8>)> =
                ranges.into_iter().enumerate().map(|(i, range)| list(coding, &format!("part-{i}"), range)).collect();
            let stored: HashMap<String, Vec<u8>> =
                lists.iter().map(|(object, bytes)| (object.path.clone(), bytes.clone())).collect();
            for upto in 0..=lists.len() {
                let of: Vec<&Object> = lists[..upto].iter().map(|(object, _)| object).collect();
                let joined = join(coding, &of).unwrap();
                let bytes = read(&joined.stretches, &stored);
                let records: Vec<serde_json::Value> = serde_json::from_slice(&plain(coding, &bytes)).unwrap();
                let whole = Object {
                    form: Form::Json,
                    coding,
                    path: "whole".into(),
                    bytes: bytes.len() as u64,
                    sha256: String::new(),
                    items: Some(joined.items),
                };
                let again = splice(coding, b"{\"data\":[", &[&whole], b"]}").unwrap();
                let again = read(&again, &HashMap::from([("whole".into(), bytes)]));
                let answer: serde_json::Value = serde_json::from_slice(&plain(coding, &again)).unwrap();
                assert_eq!(answer["data"].as_array().unwrap(), &records, "{coding:?}, {upto}");
                assert_eq!(records.len(), [0, 1, 700, 700, 9_000][upto]);
            }
        }
    }

    #[test]
    fn no_records_are_an_empty_list() {
        for coding in CODINGS {
            let (empty, bytes) = list(coding, "part", 0..0);
            for of in [vec![], vec![&empty], vec![&empty, &empty]] {
                let stretches = splice(coding, b"{\"data\":[", &of, b"]}").unwrap();
                let bytes = read(&stretches, &HashMap::from([("part".into(), bytes.clone())]));
                assert_eq!(plain(coding, &bytes), b"{\"data\":[]}", "{coding:?}");
            }
        }
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_told_by_the_objects_name() {
        let (mut object, _) = list(Coding::Gzip, "data/00000001/full.json.gz", 0..3);
        let told = splice(Coding::Zstd, b"", &[&object], b"").unwrap_err().to_string();
        assert!(told.starts_with("data/00000001/full.json.gz"), "{told}");
        object.bytes = 3;
        splice(Coding::Gzip, b"", &[&object], b"").unwrap_err();
        object.items = None;
        splice(Coding::Gzip, b"", &[&object], b"").unwrap_err();
    }
}
