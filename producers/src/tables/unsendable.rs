//! Reads a table around the rows that the database can't send: a cast that fails, a division by zero in a view, text that
//! isn't in its own encoding. One such row fails the whole statement, so fewer are asked for until it stands alone.

use pipeline::change::Change;
use pipeline::reject::{Reason, Reject};
use pipeline::source::SourceError;
use serde_json::json;

use super::engine::{Engine, Gather};
use super::plan::Plan;
use super::postgres::Asked;
use super::postgres::failure::is_of_a_value;
use super::read::{Read, TableSource};
use super::sql::{Bounds, Extra, Statements};

/// So many rows of a pass are set aside for this; with more of them it is the column or the view that is wrong.
const MOST: u32 = 100;

/// The rows that couldn't be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// In the order of the change column.
    pub by_change: bool,
    /// Where they begin.
    pub bounds: Bounds,
    /// How many there were to be.
    pub limit: u32,
}

impl TableSource {
    /// The first rows of what couldn't be read as a whole: half as many, or a quarter, or one, which is then set aside.
    pub(super) async fn around<'p>(
        &mut self,
        engine: &mut Engine,
        plan: &'p Plan,
        span: Span,
        parameters: Vec<String>,
    ) -> Result<Read<'p>, SourceError> {
        let Span { by_change, bounds, mut limit } = span;
        let alone = plan.keys_alone();
        loop {
            limit = (limit / 2).max(1);
            // Which they are: the range is named, for to sort rows by the key, databases may work out all of all of them.
            let keys = Statements { dialect: engine.dialect(), name: &self.name, plan: &alone };
            let sql = match by_change {
                true => keys.by_change(bounds, limit, 0),
                false => keys.by_key(bounds, Extra::default(), Some(limit)),
            };
            // The last one is noted, however few come.
            let gather = Gather::new(&alone, by_change, Some(1), usize::MAX);
            let found = self.run(engine, &Asked { sql, parameters: parameters.clone() }, gather).await?;
            let (now, captured) = (found.now, found.captured);
            let rows = found.gather.rows;
            let (last, high) = (rows.last.clone(), rows.high);
            // Where a row was committed among them meanwhile, so many end before the last one: then their own is noted.
            let mut gather = Gather::new(plan, by_change, Some(limit), self.pace.most_bytes());
            let Some(last) = last else { return Ok(Read { gather, now, captured }) };

            let statements = Statements { dialect: engine.dialect(), name: &self.name, plan };
            let within = Bounds { up_to: true, ..bounds };
            let sql = match by_change {
                true => statements.by_change(within, limit, 0),
                false => statements.by_key(within, Extra::default(), Some(limit)),
            };
            let up_to = parameters.iter().cloned().chain(last.clone().parameters(by_change)).collect();
            let reason = match self.run(engine, &Asked { sql, parameters: up_to }, gather).await {
                Ok(mut read) => {
                    self.pace.slow(limit);
                    if !read.gather.more {
                        (read.gather.more, read.gather.rows.last) = (true, Some(last));
                    }
                    return Ok(read);
                }
                // That is no row's fault.
                Err(error) if !is_of_a_value(&error) => return Err(error),
                Err(_) if limit > 1 => continue,
                Err(SourceError::Refused { reason, .. }) if self.unsendable < MOST => reason,
                Err(error) => return Err(error),
            };
            self.unsendable += 1;
            self.pace.slow(limit);
            gather = Gather::new(plan, by_change, None, self.pace.most_bytes());
            let (changes, rejects) = rows.finish();
            let unsendable = |change: &Change| match change {
                Change::Put { key, body, .. } => {
                    let mut raw = schemas::to_json(&plan.schema, body).unwrap_or_default();
                    // No field: nobody takes what is left of the row for the row.
                    raw["unsendable"] = json!(reason);
                    Reject::new(Some(key.clone()), Reason::new("bad_value", reason.clone()), raw.to_string())
                }
                Change::Delete { key, .. } => {
                    Reject::new(Some(key.clone()), Reason::new("bad_value", reason.clone()), "{}")
                }
            };
            gather.rows.rejects = changes.iter().map(unsendable).chain(rejects).collect();
            (gather.rows.read, gather.rows.last, gather.rows.high) = (1, Some(last), high);
            gather.more = true;
            return Ok(Read { gather, now, captured });
        }
    }
}
