//! Headers as the file stores them: one blob, names that Muster writes as one byte. Changing a number here makes
//! files unreadable: only ever add.

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes};

use super::super::Headers;

/// A name's number is its place, counted from 1; 0 says that the name follows.
const KNOWN: &[&str] = &[
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "ce_subject",
    "version",
    "hash",
    "captured",
    "ask",
    "run",
    "writer",
    "from",
    "edited",
    "content-type",
];

/// `None` where there are none.
pub(super) fn encode(headers: &Headers) -> Option<Vec<u8>> {
    if headers.0.is_empty() {
        return None;
    }
    let mut blob = Vec::with_capacity(headers.size() + headers.0.len() * 2);
    for (name, value) in &headers.0 {
        match KNOWN.iter().position(|known| known == name) {
            Some(index) => blob.put_u8(index as u8 + 1),
            None => {
                blob.put_u8(0);
                put_sized(&mut blob, name.as_bytes());
            }
        }
        put_sized(&mut blob, value);
    }
    Some(blob)
}

/// The headers again; `None` when the blob isn't one of ours.
pub(super) fn decode(blob: Option<Vec<u8>>) -> Option<Headers> {
    let mut blob = Bytes::from(blob.unwrap_or_default());
    let mut headers = Headers::default();
    while blob.has_remaining() {
        let name = match blob.get_u8() {
            0 => Cow::Owned(String::from_utf8(take_sized(&mut blob)?.to_vec()).ok()?),
            number => Cow::Borrowed(*KNOWN.get(number as usize - 1)?),
        };
        let value = take_sized(&mut blob)?;
        headers.0.push((name, value));
    }
    Some(headers)
}

/// Length (7 bits a byte, lowest first), then the bytes.
fn put_sized(blob: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    while length >= 0x80 {
        blob.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    blob.put_u8(length as u8);
    blob.put_slice(bytes);
}

fn take_sized(blob: &mut Bytes) -> Option<Bytes> {
    let mut length = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = blob.try_get_u8().ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return (length <= blob.len()).then(|| blob.split_to(length));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_in_order_with_repeated_empty_and_binary_ones() {
        let mut headers = Headers::default();
        headers.push("ce_id", "7");
        headers.push("colour", vec![0, 255, 128]);
        headers.push("colour", "");
        headers.push("hash", vec![7; 300]);
        assert_eq!(decode(encode(&headers)), Some(headers));
        assert_eq!(encode(&Headers::default()), None);
        assert_eq!(decode(None), Some(Headers::default()));
    }

    #[test]
    fn a_damaged_blob_is_not_read_past_its_end() {
        assert_eq!(decode(Some(vec![2, 200, 1, b'x'])), None);
        assert_eq!(decode(Some(vec![99, 0])), None);
        assert_eq!(decode(Some(vec![0])), None);
        assert_eq!(decode(Some(vec![1, 255, 255, 255, 255, 255])), None);
    }
}
