//! The headers of a change: CloudEvents Kafka binding 1.0.2 (binary mode), and ours.

use std::fmt::Write;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use schemas::{ContentHash, Key};
use xxhash_rust::xxh3::Xxh3;

use super::Stamp;
use crate::change::{Epoch, Version, header};
use crate::log::Headers;

/// What the changes of one call have in common, as headers have it.
pub(super) struct Common {
    source: Bytes,
    captured: Bytes,
    run: Bytes,
    ask: &'static str,
}

impl Common {
    pub fn of(component: &str, stamp: &Stamp) -> Self {
        Self {
            source: format!("muster/{component}").into(),
            captured: time_text(stamp.captured).into(),
            run: Bytes::copy_from_slice(stamp.run.as_bytes()),
            ask: stamp.asked.as_str(),
        }
    }
}

/// Everything that goes into a change's headers.
pub(super) struct ChangeHeaders<'a> {
    pub topic: &'a str,
    pub key: &'a Key,
    pub kind: &'static str,
    pub version: Version,
    pub hash: Option<ContentHash>,
    pub edited: Option<ContentHash>,
    pub time: Option<DateTime<Utc>>,
    pub writer: Epoch,
    pub common: &'a Common,
}

impl ChangeHeaders<'_> {
    pub fn build(&self) -> Headers {
        // One string has all texts of a change, where each would be allocated twice: there are millions of changes.
        let mut text = String::with_capacity(320);
        let mut put = |value: std::fmt::Arguments<'_>| {
            let from = text.len();
            // A string takes everything.
            let _ = text.write_fmt(value);
            from..text.len()
        };
        let id = put(format_args!("{:032x}", event_id(self.topic, self.key, self.version)));
        let kind = put(format_args!("{}.{}", self.topic, self.kind));
        let time = self.time.map(|time| put(format_args!("{}", time_text(time))));
        let subject = put(format_args!("{}", self.key.as_str()));
        let version = put(format_args!("{}", self.version));
        let hash = self.hash.map(|hash| put(format_args!("{hash}")));
        let edited = self.edited.map(|edited| put(format_args!("{edited}")));
        let writer = put(format_args!("{}", self.writer));
        let text = Bytes::from(text);

        let mut headers = Headers(Vec::with_capacity(13));
        headers.push(header::CE_SPECVERSION, Bytes::from_static(b"1.0"));
        headers.push(header::CE_ID, text.slice(id));
        headers.push(header::CE_SOURCE, self.common.source.clone());
        headers.push(header::CE_TYPE, text.slice(kind));
        if let Some(time) = time {
            headers.push(header::CE_TIME, text.slice(time));
        }
        headers.push(header::CE_SUBJECT, text.slice(subject));
        headers.push(header::VERSION, text.slice(version));
        if let Some(hash) = hash {
            headers.push(header::HASH, text.slice(hash));
        }
        if let Some(edited) = edited {
            headers.push(header::EDITED, text.slice(edited));
        }
        headers.push(header::CAPTURED, self.common.captured.clone());
        headers.push(header::ASK, Bytes::from_static(self.common.ask.as_bytes()));
        headers.push(header::RUN, self.common.run.clone());
        headers.push(header::WRITER, text.slice(writer));
        headers
    }
}

/// The headers of a record that is appended again: all as they were, but for version, id and writer.
pub(super) fn healed(topic: &str, key: &Key, mut was: Headers, version: Version, writer: Epoch) -> Headers {
    was.0.retain(|(name, _)| ![header::VERSION, header::CE_ID, header::WRITER].contains(&name.as_ref()));
    was.push(header::CE_ID, format!("{:032x}", event_id(topic, key, version)));
    was.push(header::VERSION, version.to_string());
    was.push(header::WRITER, writer.to_string());
    was
}

/// The same change has the same id, wherever and whenever it is written.
fn event_id(topic: &str, key: &Key, version: Version) -> u128 {
    let mut hasher = Xxh3::new();
    for part in [topic.as_bytes(), key.as_str().as_bytes(), &version.0.to_le_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest128()
}

fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
