//! What goes wrong between a struct and a message: the error of [`super::read`] and [`super::write`].

use std::fmt::{self, Display};

use crate::malformed::Malformed;

/// A place and what is wrong there. Never the contents.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) malformed: Malformed,
    /// The struct and the schema don't go together; otherwise the bytes or a value are to blame.
    pub(super) misfit: bool,
}

impl Fault {
    pub(super) fn misfit(reason: impl Into<String>) -> Fault {
        Fault { malformed: Malformed::new(0, reason), misfit: true }
    }

    #[cold]
    pub(super) fn in_field(self, field: &str) -> Fault {
        Fault { malformed: self.malformed.in_field(field), ..self }
    }

    #[cold]
    pub(super) fn in_item(self, index: usize) -> Fault {
        Fault { malformed: self.malformed.in_item(index), ..self }
    }

    /// The same fault, in a value that begins at this byte. What is inside the value and knows its byte keeps it.
    #[cold]
    pub(super) fn in_value_at(mut self, start: usize) -> Fault {
        if self.misfit && self.malformed.at == 0 {
            self.malformed.at = start;
        }
        self
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Fault {
        Fault { malformed, misfit: false }
    }
}

impl serde::de::Error for Fault {
    fn custom<T: Display>(message: T) -> Fault {
        Fault::misfit(without_values(&message.to_string()))
    }
}

impl serde::ser::Error for Fault {
    fn custom<T: Display>(message: T) -> Fault {
        Fault::misfit(without_values(&message.to_string()))
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.malformed.fmt(f)
    }
}

impl std::error::Error for Fault {}

/// A serde message without the values it may quote; names of fields stay.
pub(super) fn without_values(message: &str) -> String {
    match message.split_once("field `") {
        Some((before, after)) if !before.contains(['"', '`']) => {
            let name = after.split('`').next().unwrap_or_default();
            format!("{before}field {name}")
        }
        _ => message.split(['"', '`']).next().unwrap_or_default().trim_end().to_owned(),
    }
}
