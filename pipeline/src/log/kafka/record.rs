//! From librdkafka's message to our record: copied once, so that its buffers go back at once.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use chrono::DateTime;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers as _, OwnedHeaders};

use crate::log::{Headers, Offset, Record, TopicPartition};

/// The names Muster writes: reading them back allocates nothing.
const NAMES: [&str; 14] = [
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
];

/// Copies a message. Key and headers share one buffer, the value has its own, so that a kept key doesn't hold a value.
pub(super) fn copied(at: &TopicPartition, message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers();
    let small = message.key().map_or(0, <[u8]>::len)
        + headers.map_or(0, |headers| headers.iter().filter_map(|h| h.value).map(<[u8]>::len).sum());
    let mut buffer = BytesMut::with_capacity(small);
    let mut take = |bytes: &[u8]| -> Bytes {
        buffer.extend_from_slice(bytes);
        buffer.split().freeze()
    };
    let key = message.key().map(&mut take);
    let mut copied = Headers(Vec::with_capacity(headers.map_or(0, |headers| headers.count())));
    for header in headers.into_iter().flat_map(|headers| headers.iter()) {
        copied.0.push((name(header.key), header.value.map(&mut take).unwrap_or_default()));
    }
    Record {
        at: at.clone(),
        offset: Offset(message.offset()),
        timestamp: message.timestamp().to_millis().and_then(DateTime::from_timestamp_millis).unwrap_or_default(),
        key,
        value: message.payload().map(Bytes::copy_from_slice),
        headers: copied,
    }
}

fn name(name: &str) -> Cow<'static, str> {
    match NAMES.iter().find(|known| **known == name) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(name.to_owned()),
    }
}

/// Headers as librdkafka takes them.
pub(super) fn native(headers: &Headers) -> Option<OwnedHeaders> {
    if headers.0.is_empty() {
        return None;
    }
    let native = OwnedHeaders::new_with_capacity(headers.0.len());
    Some(headers.0.iter().fold(native, |native, (name, value)| {
        native.insert(rdkafka::message::Header { key: name, value: Some(&value[..]) })
    }))
}
