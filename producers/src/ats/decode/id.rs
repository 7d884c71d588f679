//! Reads the id of a record that may be wrong in every other way. No I/O.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::shape::Scalar;

/// The id in the field `name`, lower-cased as in keys; also of an object that stops being JSON after it.
pub(super) fn read(raw: &[u8], name: &'static str) -> Option<String> {
    let mut found = None;
    let mut json = serde_json::Deserializer::from_slice(raw);
    // An error comes after the id or instead of it: in both cases what has been found counts.
    let _ = Field { name, found: &mut found }.deserialize(&mut json);
    found
}

struct Field<'f> {
    name: &'static str,
    found: &'f mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(Name(field)) = fields.next_key()? {
            if field == self.name {
                // The id first, the rest of a long record unread, would be quicker, but a field that comes twice makes the
                // record malformed, and then neither id is to be trusted.
                let id = fields.next_value::<Scalar<'de>>()?.optional_id(self.name);
                if self.found.is_some() {
                    *self.found = None;
                    return Ok(());
                }
                *self.found = id.ok().flatten();
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A field's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
