//! Where a table's feed has got to, as `muster.positions` keeps it.

use chrono::{DateTime, Utc};
use pipeline::source::Position;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The position of a table's feed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct At {
    /// The database's time before the first statement of the last pass that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<DateTime<Utc>>,
    /// The highest number of the change column that was met, where it is a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<i64>,
    /// Which memory of ranges goes with this topic; `None`: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<String>,
    /// The pass that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<Reading>,
}

/// A pass under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The database's time before its first statement.
    pub began: DateTime<Utc>,
    /// The highest number of the change column so far, or when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<i64>,
    /// The last row that was read; `None`: none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Row>,
    /// What it reads.
    pub what: What,
    /// Which ranges are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Cursor>,
}

/// How far a pass has got with ranges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The next range of what is remembered.
    pub next: u64,
    /// The first new range that it has become so far.
    pub first: u64,
    /// The next new range.
    pub new: u64,
}

/// A row's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The change column, as the database takes it back, where rows are read in its order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Json>,
    /// The key's columns, as the database takes them back.
    pub key: Vec<String>,
}

impl Row {
    /// As a statement takes it.
    pub fn parameters(self, by_change: bool) -> impl Iterator<Item = String> {
        let change = by_change.then(|| match self.change {
            Some(Json::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        });
        change.into_iter().chain(self.key)
    }
}

/// What a pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Every row, in the order of the key.
    Rows,
    /// Every row too, and what ranges of them come to is remembered.
    Remembering,
    /// Ranges that differ from what is remembered.
    Comparing,
    /// What the keys remembered as gone or touched have come to.
    Looking,
    /// What has changed, in the order of the change column.
    Changes,
    /// What changed in a window.
    Window,
}

impl At {
    /// What was saved. What can't be understood is no position: everything is read.
    pub fn of(position: Option<&Position>) -> Self {
        position.and_then(|position| serde_json::from_value(position.0.clone()).ok()).unwrap_or_default()
    }

    /// To be saved.
    pub fn position(&self) -> Position {
        Position(serde_json::to_value(self).unwrap_or_default())
    }

    /// A whole pass has ended here at some time.
    pub fn has_ended(&self) -> bool {
        self.began.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_position_comes_back_and_one_of_another_make_is_none() {
        let began = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let after = Some(Row { change: Some("2024-01-01 00:00:00".into()), key: vec!["7".into()] });
        let reading = Some(Reading { began, high: Some(3), after, what: What::Changes, ranges: None });
        let at = At { began: Some(began), high: None, ranges: Some("r".into()), reading };
        assert_eq!(At::of(Some(&at.position())), at);
        assert_eq!(At::of(Some(&Position(7.into()))), At::default());
        assert_eq!(At::default().position().0.to_string(), "{}");
    }
}
