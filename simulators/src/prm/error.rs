//! What can go wrong with the database that is filled.

use super::tables::Table;

/// Why the registry can't be filled or changed.
#[derive(Debug, thiserror::Error)]
pub enum PrmError {
    /// Not an address we can use; it may hold a password, so it isn't shown.
    #[error("the database's address isn't one: expected postgres://user@host/database or sqlite:///path/to/file")]
    Address(#[source] Option<sqlx::Error>),
    /// SQLite has no schemas.
    #[error("a SQLite file has no schemas: leave the schema out")]
    Schema,
    /// Nobody answers there.
    #[error("the database can't be reached")]
    Unreachable(#[source] sqlx::Error),
    /// Somebody's rows, perhaps.
    #[error("table {0} holds rows already: name an empty database, or replace them (--replace)")]
    Filled(Table),
    /// What the changes rest on isn't there any more.
    #[error("a row of {0} isn't as it was left: does somebody else write into the tables?")]
    Gone(Table),
    /// A transaction is committed by who began it.
    #[error("the transaction belongs to another database")]
    Stranger,
    /// The database refuses.
    #[error("the database refused: {0}")]
    Database(#[from] sqlx::Error),
}
