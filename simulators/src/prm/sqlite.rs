//! Filling and changing a SQLite file.

use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Sqlite, SqlitePool};

use super::change::{Action, Write};
use super::ddl::Place;
use super::error::PrmError;
use super::fill::{Existing, Meter, OnProgress};
use super::recipe::Prm;
use super::row::{Cell, Row};
use super::tables::Table;

/// Each statement goes to the database's thread and back, so it takes several rows.
const ROWS_PER_INSERT: u64 = 100;

pub(super) async fn fill(
    prm: &Prm,
    pool: &SqlitePool,
    place: &Place,
    existing: Existing,
    on_progress: OnProgress<'_>,
) -> Result<(), PrmError> {
    let mut connection = pool.acquire().await?.detach();
    // All rows refer to rows that come: looking each up on the way would take longer than writing it. It means nothing inside
    // a transaction, and this connection isn't used for anything else.
    execute(&mut connection, "pragma foreign_keys = off").await?;
    let mut transaction = connection.begin_with("begin immediate").await?;
    for table in Table::ALL {
        execute(&mut transaction, &place.create_table(table)).await?;
    }
    match existing {
        Existing::Refuse => {
            for table in Table::ALL {
                let query = sqlx::query_scalar(AssertSqlSafe(place.holds_rows(table)));
                if query.fetch_one(&mut *transaction).await? {
                    return Err(PrmError::Filled(table));
                }
            }
        }
        Existing::Replace => run(&mut transaction, place.empty()).await?,
    }
    run(&mut transaction, place.before_fill()).await?;
    let mut meter = Meter::new(prm, on_progress);
    for table in Table::ALL {
        insert(prm, &mut transaction, place, table, &mut meter).await?;
    }
    meter.finishing();
    run(&mut transaction, place.after_fill()).await?;
    transaction.commit().await?;
    execute(&mut connection, "analyze").await?;
    connection.close().await?;
    Ok(())
}

async fn insert(
    prm: &Prm,
    connection: &mut SqliteConnection,
    place: &Place,
    table: Table,
    meter: &mut Meter<'_>,
) -> Result<(), PrmError> {
    let all = prm.rows(table);
    let whole = place.insert(table, ROWS_PER_INSERT as usize);
    for first in (0..all).step_by(ROWS_PER_INSERT as usize) {
        let rows = (all - first).min(ROWS_PER_INSERT);
        let statement = if rows == ROWS_PER_INSERT { whole.clone() } else { place.insert(table, rows as usize) };
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for number in first..first + rows {
            let Row { cells, .. } = prm.row(table, number, 0);
            for cell in &cells {
                query = bind(query, cell);
            }
        }
        query.execute(&mut *connection).await?;
        meter.written(table, rows);
    }
    Ok(())
}

/// Does it to one row.
pub(super) async fn write(connection: &mut SqliteConnection, place: &Place, write: &Write) -> Result<(), PrmError> {
    let table = write.row.table;
    let (statement, bound) = match write.action {
        Action::Insert => (place.insert(table, 1), write.row.cells.len()),
        Action::Update => (place.update(table), write.row.cells.len()),
        Action::Delete => (place.delete(table), table.key().len()),
    };
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for cell in &write.row.cells[..bound] {
        query = bind(query, cell);
    }
    let done = query.execute(connection).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(PrmError::Gone(table)) }
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

fn bind<'q>(query: Query<'q>, cell: &Cell) -> Query<'q> {
    match cell {
        Cell::Bool(value) => query.bind(i64::from(*value)),
        Cell::Int(value) => query.bind(*value),
        cell => query.bind(cell.text()),
    }
}

async fn run(connection: &mut SqliteConnection, statements: Vec<String>) -> Result<(), PrmError> {
    for statement in statements {
        execute(connection, &statement).await?;
    }
    Ok(())
}

async fn execute(connection: &mut SqliteConnection, statement: &str) -> Result<(), PrmError> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await?;
    Ok(())
}
