//! What all ranges of a table come to, worked out by the database in one scan.
//!
//! Range by range, a table whose rows don't lie in the order of their key is read all over the disk, a range at a time; in
//! one scan it is read as it lies. A table that is too large for one statement is compared range by range.

use chrono::{DateTime, Utc};

use super::engine::Engine;
use super::plan::Plan;
use super::postgres::Asked;
use super::ranges::Bound;
use super::read::TableSource;
use super::sql::Statements;
use super::types::ColumnKind;

/// A table with more rows takes longer than a statement should.
const MOST_ROWS: u64 = 10_000_000;

/// A list of keys of various lengths is walked along for each row: with more steps it would take too long.
const MOST_STEPS: u64 = 2_000_000_000;

/// With more ranges, their last keys and what they come to would take more memory than a page.
pub(super) const MOST_RANGES: usize = 20_000;

/// What the ranges of one comparison come to.
pub struct Sums {
    /// When the comparison began.
    pub began: DateTime<Utc>,
    /// By place: rows, and the sum of their hashes. `None`: it is to be asked for range by range.
    by_place: Option<Vec<(u64, i64)>>,
}

impl Sums {
    /// What the range at this place comes to.
    pub fn of(&self, place: u64) -> Option<(u64, i64)> {
        let by_place = self.by_place.as_ref()?;
        by_place.get(usize::try_from(place).ok()?).copied()
    }
}

impl TableSource {
    /// Works them out for the comparison that began then, if it can be done at once.
    pub(super) async fn sum_up(&mut self, engine: &mut Engine, plan: &Plan, began: DateTime<Utc>, whole: bool) {
        let bounds = self.remembered.bounds();
        let rows: u64 = bounds.iter().flatten().map(|bound| bound.rows).sum();
        let statements = Statements { dialect: engine.dialect(), name: &self.name, plan };
        let mut by_place = None;
        let steps = rows.saturating_mul(bounds.as_ref().map_or(0, |bounds| bounds.len() as u64));
        let walked = plan.key.iter().any(|at| !is_of_one_width(&plan.select[*at].kind));
        let few = rows <= MOST_ROWS && (steps <= MOST_STEPS || !walked) && !self.sums_failed;
        if let (Some(bounds), Some(sql), true) = (bounds, statements.hashes(whole), few) {
            let asked = Asked { sql, parameters: vec![array(&bounds)] };
            match engine.hashes(&asked, bounds.len()).await {
                Ok(sums) => by_place = Some(sums),
                // A server that is away says so again when it is asked for the first range.
                Err(error) => {
                    self.sums_failed = true;
                    tracing::warn!(table = self.table.table, %error, "the table can't be summed up in one scan, from now on \
                        it is compared range by range");
                }
            }
        }
        self.sums = Some(Sums { began, by_place });
    }
}

/// Whether the server finds its place in a list of such by halves.
fn is_of_one_width(kind: &ColumnKind) -> bool {
    use ColumnKind::{Boolean, Date, Double, Local, Long, Moment, Uuid};
    matches!(kind, Long | Double | Boolean | Uuid | Date | Moment | Local)
}

/// The last keys, as an array's text.
fn array(bounds: &[Bound]) -> String {
    let mut text = String::from("{");
    for key in bounds.iter().filter_map(|bound| bound.up_to.as_ref()?.first()) {
        if text.len() > 1 {
            text.push(',');
        }
        text.push('"');
        for character in key.chars() {
            if matches!(character, '"' | '\\') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('"');
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_whatever_is_in_them() {
        let bound = |key: Option<&str>| Bound { up_to: key.map(|key| vec![key.to_owned()]), rows: 1 };
        let bounds = [bound(Some("a,b")), bound(Some("NULL")), bound(Some("say \"hi\" \\")), bound(None)];
        assert_eq!(array(&bounds), r#"{"a,b","NULL","say \"hi\" \\"}"#);
        assert_eq!(array(&bounds[3..]), "{}");
    }
}
