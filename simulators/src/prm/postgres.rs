//! Filling and changing PostgreSQL.

use chrono::NaiveDateTime;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, PgPool};
use tokio::sync::mpsc;

use super::change::{Action, Write};
use super::ddl::Place;
use super::error::PrmError;
use super::fill::{Existing, Meter, OnProgress};
use super::recipe::Prm;
use super::tables::Table;

/// Rows are sent in pieces of so many bytes: some thousand rows, far above what a message costs.
const PIECE: usize = 1 << 20;

/// So many pieces wait for the network at most.
const PIECES: usize = 2;

/// Lines of one `COPY`, and how many.
struct Piece {
    lines: String,
    rows: u64,
}

pub(super) async fn fill(
    prm: &Prm,
    pool: &PgPool,
    place: &Place,
    existing: Existing,
    on_progress: OnProgress<'_>,
) -> Result<(), PrmError> {
    // A connection of its own: when this future is dropped in the middle of a COPY, the connection goes with it, and the
    // transaction with the connection.
    let mut connection = pool.acquire().await?.detach();
    let mut transaction = connection.begin().await?;
    // Sorts the keys of a million rows without files. What exists already is no news.
    execute(&mut transaction, "set local maintenance_work_mem = '256MB'; set local client_min_messages = warning")
        .await?;
    if let Some(statement) = place.create_schema() {
        execute(&mut transaction, &statement).await?;
    }
    for table in Table::ALL {
        execute(&mut transaction, &place.create_table(table)).await?;
    }
    match existing {
        Existing::Refuse => refuse_rows(&mut transaction, place).await?,
        Existing::Replace => run(&mut transaction, place.empty()).await?,
    }
    run(&mut transaction, place.before_fill()).await?;
    let mut meter = Meter::new(prm, on_progress);
    for table in Table::ALL {
        copy(prm, &mut transaction, place, table, &mut meter).await?;
    }
    meter.finishing();
    run(&mut transaction, place.after_fill()).await?;
    transaction.commit().await?;
    // So that whoever reads next finds what a table has that has been there for long: statistics, and no pages to tidy up.
    for table in Table::ALL {
        execute(&mut connection, &format!("vacuum (analyze) {}", place.name(table.name()))).await?;
    }
    connection.close().await?;
    Ok(())
}

async fn refuse_rows(connection: &mut PgConnection, place: &Place) -> Result<(), PrmError> {
    for table in Table::ALL {
        let holds: bool =
            sqlx::query_scalar(AssertSqlSafe(place.holds_rows(table))).fetch_one(&mut *connection).await?;
        if holds {
            return Err(PrmError::Filled(table));
        }
    }
    Ok(())
}

/// One thread makes rows while the server reads others.
async fn copy(
    prm: &Prm,
    connection: &mut PgConnection,
    place: &Place,
    table: Table,
    meter: &mut Meter<'_>,
) -> Result<(), PrmError> {
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let prm = prm.clone();
    let making = tokio::task::spawn_blocking(move || make(&prm, table, &sender));
    let mut copy = connection.copy_in_raw(&place.copy(table)).await?;
    while let Some(Piece { lines, rows }) = pieces.recv().await {
        copy.send(lines.as_bytes()).await?;
        meter.written(table, rows);
    }
    if let Err(panicked) = making.await {
        // Whatever was sent is a part only.
        copy.abort("the rows end in the middle").await?;
        std::panic::resume_unwind(panicked.into_panic());
    }
    copy.finish().await?;
    Ok(())
}

fn make(prm: &Prm, table: Table, sender: &mpsc::Sender<Piece>) {
    let mut scratch = String::new();
    let mut piece = Piece { lines: String::with_capacity(PIECE + PIECE / 8), rows: 0 };
    for number in 0..prm.rows(table) {
        prm.row(table, number, 0).write_copy(&mut piece.lines, &mut scratch);
        piece.rows += 1;
        if piece.lines.len() >= PIECE {
            let next = Piece { lines: String::with_capacity(PIECE + PIECE / 8), rows: 0 };
            if sender.blocking_send(std::mem::replace(&mut piece, next)).is_err() {
                // Nobody copies any more.
                return;
            }
        }
    }
    // When nobody copies any more, nobody misses the rest.
    let _ = sender.blocking_send(piece);
}

/// The transaction's time, as `now()` has it all along.
pub(super) async fn now(connection: &mut PgConnection) -> Result<NaiveDateTime, PrmError> {
    Ok(sqlx::query_scalar("select now() at time zone 'utc'").fetch_one(connection).await?)
}

/// Does it to one row.
pub(super) async fn write(connection: &mut PgConnection, place: &Place, write: &Write) -> Result<(), PrmError> {
    let table = write.row.table;
    let (statement, bound) = match write.action {
        Action::Insert => (place.insert(table, 1), write.row.cells.len()),
        Action::Update => (place.update(table), write.row.cells.len()),
        Action::Delete => (place.delete(table), table.key().len()),
    };
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for cell in &write.row.cells[..bound] {
        query = query.bind(cell.text());
    }
    let done = query.execute(connection).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(PrmError::Gone(table)) }
}

async fn run(connection: &mut PgConnection, statements: Vec<String>) -> Result<(), PrmError> {
    for statement in statements {
        execute(connection, &statement).await?;
    }
    Ok(())
}

async fn execute(connection: &mut PgConnection, statement: &str) -> Result<(), PrmError> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
