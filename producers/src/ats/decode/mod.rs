//! Makes records of what the ATS serves: one element of a list becomes one change or one reject. No I/O, no clock.
//!
//! `split` cuts the body, `shape` takes JSON without judging, `field` judges values, `dates` reads dates; `applicant`
//! and `lists` know the fields of the feeds. A reject carries the key where the id could be read, the place and what
//! was expected there, and never what stood there.

mod applicant;
mod dates;
mod field;
mod id;
mod lists;
mod shape;
pub(super) mod split;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pipeline::change::Change;
use pipeline::reject::{Reason, Reject};
use schemas::records::ats;
use schemas::{Entity, Key, Schema, catalogue, to_avro};
use serde::Deserialize;

use super::AtsFeed;
use field::Wrong;
use split::Element;

/// Larger records are rejected: a message of the log holds a megabyte, and a letter about a record holds the record.
const MAX_RECORD: usize = 512 << 10;
/// Objects and lists inside each other: an applicant needs three, and notes are free.
const MAX_DEPTH: usize = 32;

/// Decodes the records of one feed.
#[derive(Clone, Copy)]
pub(super) struct Decoder {
    feed: AtsFeed,
    zone: Tz,
    schema: &'static Schema,
}

impl Decoder {
    pub(super) fn new(feed: AtsFeed, zone: Tz) -> Self {
        // An entity without a catalogue entry fails a test of `schemas`.
        let entity = catalogue().entity(feed.topic()).expect("every feed's topic is in the catalogue");
        Self { feed, zone, schema: &entity.schema }
    }

    /// The change that the element states: the entity is now this.
    pub(super) fn decode(&self, element: Element<'_>) -> Result<Change, Reject> {
        self.change(element).map_err(|reason| {
            let kept = element.raw.get(..MAX_RECORD).unwrap_or(element.raw);
            Reject::new(self.key(element.raw), reason, Bytes::copy_from_slice(kept))
        })
    }

    fn change(&self, Element { raw, depth }: Element<'_>) -> Result<Change, Reason> {
        if raw.len() > MAX_RECORD {
            return Err(Wrong::new("too_large", "", "at most 512 KiB").into());
        }
        if depth > MAX_DEPTH {
            return Err(Wrong::new("too_deep", "", "at most 32 objects and lists inside each other").into());
        }
        match self.feed {
            AtsFeed::Staff => self.put(&lists::staff(parse(raw)?)?, None),
            AtsFeed::HealthAuthorities => self.put(&lists::health_authority(parse(raw)?)?, None),
            AtsFeed::Reasons => self.put(&lists::reason(parse(raw)?)?, None),
            AtsFeed::Milestones => self.put(&lists::milestone(parse(raw)?)?, None),
            AtsFeed::Applicants => {
                let (applicant, changed) = applicant::applicant(parse(raw)?, self.zone)?;
                self.put(&applicant, changed)
            }
        }
    }

    fn key(&self, raw: &[u8]) -> Option<Key> {
        match self.feed {
            AtsFeed::Applicants => applicant_key(raw),
            AtsFeed::Staff => id::read(raw, "id").map(|id| Key::of(&[Some(&id)])),
            AtsFeed::HealthAuthorities | AtsFeed::Reasons | AtsFeed::Milestones => uuid_key(raw, "id"),
        }
    }

    fn put<T: Entity>(&self, record: &T, time: Option<DateTime<Utc>>) -> Result<Change, Reason> {
        let mut body = Vec::new();
        to_avro(self.schema, record, &mut body).map_err(|error| Reason::new("out_of_range", error.to_string()))?;
        Ok(Change::Put { key: record.key(), body: body.into(), time })
    }
}

/// The key of an applicant that may be wrong otherwise.
pub(super) fn applicant_key(raw: &[u8]) -> Option<Key> {
    uuid_key(raw, "applicant_id")
}

/// An id that can't be the key of any record is none: whose record this is can't be told.
fn uuid_key(raw: &[u8], name: &'static str) -> Option<Key> {
    id::read(raw, name).filter(|id| field::is_uuid(id)).map(|id| Key::of(&[Some(&id)]))
}

/// The topic of a feed's records.
pub(super) fn topic(feed: AtsFeed) -> &'static str {
    match feed {
        AtsFeed::Staff => ats::Staff::TOPIC,
        AtsFeed::HealthAuthorities => ats::HealthAuthority::TOPIC,
        AtsFeed::Reasons => ats::Reason::TOPIC,
        AtsFeed::Milestones => ats::Milestone::TOPIC,
        AtsFeed::Applicants => ats::Applicant::TOPIC,
    }
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a [u8]) -> Result<T, Reason> {
    // A derived struct would also take a list, by position.
    if raw.first() != Some(&b'{') {
        return Err(Wrong::new("wrong_type", "", "an object").into());
    }
    serde_json::from_slice(raw).map_err(|error| {
        // Not the parser's own words: they may quote the record.
        let (line, column) = (error.line(), error.column());
        let expected = if error.is_data() { "each field once" } else { "valid JSON in UTF-8" };
        Reason::new("malformed", format!("line {line}, column {column} of the record: expected {expected}"))
    })
}
