//! From librdkafka's message to our record: copied once, so that its buffers go back at once.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use chrono::DateTime;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders};

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
    let headers = headers_of(at, message);
    let small = message.key().map_or(0, <[u8]>::len)
        + headers.iter().filter_map(|header| header.value).map(<[u8]>::len).sum::<usize>();
    let mut buffer = BytesMut::with_capacity(small);
    let mut take = |bytes: &[u8]| -> Bytes {
        buffer.extend_from_slice(bytes);
        buffer.split().freeze()
    };
    let key = message.key().map(&mut take);
    let mut copied = Headers(Vec::with_capacity(headers.len()));
    for header in headers {
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

/// The message's headers, without those whose names aren't text: somebody else wrote them and nobody here knows them.
/// rdkafka panics over such a name, so each header is asked for on its own.
fn headers_of<'a>(at: &TopicPartition, message: &'a BorrowedMessage<'_>) -> Vec<Header<'a, &'a [u8]>> {
    let Some(headers) = message.headers() else { return Vec::new() };
    let count = headers.count();
    let read = (0..count).filter_map(|n| catch_unwind(AssertUnwindSafe(|| headers.get(n))).ok());
    let read: Vec<_> = read.collect();
    if read.len() < count {
        let skipped = count - read.len();
        tracing::warn!(topic = %at.topic, partition = at.partition, offset = message.offset(), skipped, "headers whose names aren't UTF-8 are skipped");
    }
    read
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
    Some(
        headers
            .0
            .iter()
            .fold(native, |native, (name, value)| native.insert(Header { key: name, value: Some(&value[..]) })),
    )
}
