//! One record that cannot be used, with its reason.

use std::fmt;

use bytes::Bytes;
use schemas::Key;

/// Why a record cannot be used. Names the place, what was expected and never what stood there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Groups rejects of one kind: `missing_field`, `wrong_type`, `unique_violation`.
    pub code: &'static str,
    /// For a person: place and expectation, without contents.
    pub text: String,
}

impl Reason {
    /// A reason of kind `code`.
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

/// A record that a source or a processor sets aside.
#[derive(Clone)]
pub struct Reject {
    /// The record's key, where it could be read.
    pub key: Option<Key>,
    /// Why.
    pub reason: Reason,
    /// The record as it was read (JSON of a feed, an Avro body), for repair and replay. Bounded by the reader.
    pub raw: Bytes,
}

impl Reject {
    /// Sets `raw` aside for `reason`.
    pub fn new(key: Option<Key>, reason: Reason, raw: impl Into<Bytes>) -> Self {
        Self { key, reason, raw: raw.into() }
    }
}

/// Never shows the contents: they are personal data.
impl fmt::Debug for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_ref().map_or("no key", Key::as_str);
        write!(f, "Reject({key}, {}, {} bytes)", self.reason, self.raw.len())
    }
}
