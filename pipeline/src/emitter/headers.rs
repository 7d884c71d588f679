//! The headers of a change: CloudEvents Kafka binding 1.0.2 (binary mode), and ours.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use schemas::{ContentHash, Key};
use xxhash_rust::xxh3::Xxh3;

use super::Stamp;
use crate::change::{Epoch, Version, header};
use crate::log::Headers;

/// Everything that goes into a change's headers.
pub(super) struct ChangeHeaders<'a> {
    pub topic: &'a str,
    pub component: &'a str,
    pub key: &'a Key,
    pub kind: &'static str,
    pub version: Version,
    pub hash: Option<ContentHash>,
    pub edited: Option<ContentHash>,
    pub time: Option<DateTime<Utc>>,
    pub writer: Epoch,
    pub stamp: &'a Stamp,
}

impl ChangeHeaders<'_> {
    pub fn build(&self) -> Headers {
        let mut headers = Headers(Vec::with_capacity(13));
        headers.push(header::CE_SPECVERSION, Bytes::from_static(b"1.0"));
        headers.push(header::CE_ID, event_id(self.topic, self.key, self.version));
        headers.push(header::CE_SOURCE, format!("muster/{}", self.component));
        headers.push(header::CE_TYPE, format!("{}.{}", self.topic, self.kind));
        if let Some(time) = self.time {
            headers.push(header::CE_TIME, time_text(time));
        }
        headers.push(header::CE_SUBJECT, Bytes::copy_from_slice(self.key.as_str().as_bytes()));
        headers.push(header::VERSION, self.version.to_string());
        if let Some(hash) = self.hash {
            headers.push(header::HASH, hash.to_string());
        }
        if let Some(edited) = self.edited {
            headers.push(header::EDITED, edited.to_string());
        }
        headers.push(header::CAPTURED, time_text(self.stamp.captured));
        headers.push(header::ASK, Bytes::from_static(self.stamp.asked.as_str().as_bytes()));
        headers.push(header::RUN, Bytes::copy_from_slice(self.stamp.run.as_bytes()));
        headers.push(header::WRITER, self.writer.to_string());
        headers
    }
}

/// The headers of a record that is appended again: all as they were, but for version, id and writer.
pub(super) fn healed(topic: &str, key: &Key, mut was: Headers, version: Version, writer: Epoch) -> Headers {
    was.0.retain(|(name, _)| ![header::VERSION, header::CE_ID, header::WRITER].contains(&name.as_ref()));
    was.push(header::CE_ID, event_id(topic, key, version));
    was.push(header::VERSION, version.to_string());
    was.push(header::WRITER, writer.to_string());
    was
}

/// The same change has the same id, wherever and whenever it is written.
fn event_id(topic: &str, key: &Key, version: Version) -> String {
    let mut hasher = Xxh3::new();
    for part in [topic.as_bytes(), key.as_str().as_bytes(), &version.0.to_le_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    format!("{:032x}", hasher.digest128())
}

fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
