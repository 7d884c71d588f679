//! Any table or view of a PostgreSQL or SQLite database, followed into a topic of its own, as the configuration says.
//!
//! [`sources`] gives one [`Source`] for each table. `config` has the settings. `plan` makes the schema of a table's
//! columns (`types`, `derived`), `sql` the statements, `engine` runs them (`postgres`, `sqlite`), `rows` makes changes of
//! what comes, `read` goes through a table page by page, with `position` saying where it is; `compare` finds out
//! what differs from what `ranges` remembers (`sums`: in one scan), `unsendable` reads around rows that can't be sent. `probe` looks at tables
//! without reading them. What is promised, and what polling can't see: `docs/tables.md`.

mod compare;
mod config;
mod derived;
mod engine;
mod plan;
mod position;
mod postgres;
mod probe;
mod ranges;
mod read;
mod rows;
mod sql;
mod sqlite;
mod sums;
#[cfg(test)]
mod tests;
mod types;
mod unsendable;

use std::path::Path;
use std::sync::Arc;

use pipeline::clock::Clock;
use pipeline::source::{Source, SourceError};
use tokio::sync::Mutex;

use crate::Feed;
pub use config::{Compare, DatabaseUrl, Derived, TableConfig, TablesConfig, TablesSettings};
pub(crate) use probe::{plans, probe};
pub use types::ColumnKind;

/// The feeds of one database, in the order of the configuration. They share one connection. `folder`: where what is
/// remembered of tables may be kept; it can be deleted at any time.
pub fn sources(config: TablesConfig, folder: &Path, clock: &Arc<dyn Clock>) -> Result<Vec<Feed>, SourceError> {
    let engine = Arc::new(Mutex::new(engine::Engine::new(&config)?));
    let config = Arc::new(config);
    let feed = |table: &TableConfig| {
        let source = read::TableSource::new(
            Arc::clone(&config),
            table.clone(),
            Arc::clone(&engine),
            Arc::clone(clock),
            compare::Remembered::below(folder, &table.topic.name),
        );
        let source: Box<dyn Source> = Box::new(source);
        Feed { name: table.entity.clone(), topic: table.topic.name.clone(), source }
    };
    Ok(config.tables.iter().map(feed).collect())
}
