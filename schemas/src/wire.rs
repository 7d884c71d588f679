//! The Confluent wire format: a zero, the schema's id in four bytes, the Avro body.

use crate::{malformed::Malformed, schema::SchemaId};

/// Bytes before the body.
pub const HEADER: usize = 5;

/// The message for a body.
pub fn frame(id: SchemaId, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + body.len());
    frame_into(id, &mut message);
    message.extend_from_slice(body);
    message
}

/// Appends the header; the caller encodes the body behind it.
pub fn frame_into(id: SchemaId, message: &mut Vec<u8>) {
    message.push(0);
    message.extend_from_slice(&id.0.to_be_bytes());
}

/// The schema's id and the body of a message.
pub fn unframe(message: &[u8]) -> Result<(SchemaId, &[u8]), Malformed> {
    let Some((header, body)) = message.split_first_chunk::<HEADER>() else {
        return Err(Malformed::new(0, format!("{} bytes, shorter than the header of a message", message.len())));
    };
    let [magic, id @ ..] = *header;
    if magic != 0 {
        return Err(Malformed::new(0, format!("begins with {magic:#04x}, not with 0 and a schema id")));
    }
    Ok((SchemaId(u32::from_be_bytes(id)), body))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn frames_come_back() {
        let message = frame(SchemaId(258), b"body");
        assert_eq!(message, b"\0\0\0\x01\x02body");
        assert_eq!(unframe(&message).unwrap(), (SchemaId(258), &b"body"[..]));
    }

    #[test]
    fn json_and_stumps_are_told_apart_from_avro() {
        assert_eq!(unframe(b"{\"id\": 1}").unwrap_err().reason, "begins with 0x7b, not with 0 and a schema id");
        assert_eq!(unframe(b"\0\0").unwrap_err().reason, "2 bytes, shorter than the header of a message");
    }
}
