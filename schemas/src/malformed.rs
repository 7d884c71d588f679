//! What is wrong with a message, and where: the error of every decoder in this crate.

use std::fmt;

/// A message that doesn't follow its schema. Names the place and the fault, never the contents: it may be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The field, as in `nursing_educations[3].year`; empty when the fault isn't inside a field.
    pub path: String,
    /// Byte of the body (of the whole message for [`crate::unframe`]) at which the faulty part begins.
    pub at: usize,
    /// The fault, as in `claims 40 bytes, 3 are left`.
    pub reason: String,
}

impl Malformed {
    pub(crate) fn new(at: usize, reason: impl Into<String>) -> Malformed {
        Malformed { path: String::new(), at, reason: reason.into() }
    }

    /// The same fault, seen from the record that holds `field`. Called while the error travels outwards.
    #[cold]
    pub(crate) fn in_field(mut self, field: &str) -> Malformed {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{field}{separator}{}", self.path);
        self
    }

    /// The same fault, seen from the array or map (entries count from 0) that holds the item.
    #[cold]
    pub(crate) fn in_item(mut self, index: usize) -> Malformed {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("[{index}]{separator}{}", self.path);
        self
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{} (at byte {})", self.reason, self.at)
    }
}

impl std::error::Error for Malformed {}
