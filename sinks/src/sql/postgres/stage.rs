//! Many rows at once: they are copied in PostgreSQL's binary format into a temporary table, which one statement then
//! merges into the mapped one.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use super::binary::{self, Wire};
use super::place::Place;
use super::source::Staged;
use crate::sql::cell::Cell;
use crate::sql::table::quoted;
use crate::sql::transaction::Pending;

/// What every file of the format begins with: a signature, no flags, no extension.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// And ends with.
const TRAILER: i16 = -1;

/// What goes to the server at once.
const PART: usize = 1 << 18;

/// Rows in PostgreSQL's binary format, and the temporary table they fit in.
pub(super) struct Stage {
    /// Its name, quoted and with its schema.
    pub(super) name: String,
    create: String,
    rows: Vec<u8>,
}

impl Stage {
    /// `None`: some value can't be said in the format of its column, so the rows must go as text.
    pub(super) fn of(place: &Place<'_>, pending: &[&&Pending]) -> Option<Self> {
        let columns = &place.table.columns;
        let wires: Vec<Wire> = columns.iter().map(|column| Wire::of(column.shape, place.cast(&column.name))).collect();
        let mut rows = Vec::with_capacity(pending.len() * columns.len() * 24);
        rows.extend(HEADER);
        let fields = (wires.len() as i16 + 3).to_be_bytes();
        for row in pending {
            rows.extend(fields);
            let cells = row.cells();
            for (n, wire) in wires.iter().enumerate() {
                if !binary::field(&mut rows, *wire, cells.get(n).unwrap_or(&Cell::Null)) {
                    return None;
                }
            }
            text(&mut rows, Some(row.item.key.as_str()));
            binary::field(&mut rows, Wire::Int8, &Cell::Int(row.item.version));
            text(&mut rows, row.item.hash.as_deref());
        }
        rows.extend(TRAILER.to_be_bytes());

        let typed = columns.iter().zip(&wires).enumerate().map(|(n, (column, wire))| match wire {
            Wire::Text => format!("c{n} text"),
            _ => format!("c{n} {}", place.cast(&column.name)),
        });
        let typed = typed.collect::<Vec<_>>().join(", ");
        // Named by its columns: a table that is altered while we run gets another one.
        let name = format!("muster_stage_{:016x}", fnv(&place.name(), &typed));
        let create = format!(
            "set local client_min_messages = warning; create temporary table if not exists {} \
             ({typed}, key text, version bigint, hash text) on commit delete rows; set local client_min_messages to default",
            quoted(&name)
        );
        Some(Self { name: format!("pg_temp.{}", quoted(&name)), create, rows })
    }

    /// Fills the temporary table with these rows and no others.
    pub(super) async fn fill(&self, connection: &mut PgConnection, filled: &mut Staged) -> Result<(), sqlx::Error> {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.create.clone()))).await?;
        // Also after a savepoint was rolled back, and the table, if it was new, with it.
        if !filled.insert(self.name.clone()) {
            connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("truncate {}", self.name)))).await?;
        }
        let mut copy = connection.copy_in_raw(&format!("copy {} from stdin (format binary)", self.name)).await?;
        for part in self.rows.chunks(PART) {
            copy.send(part).await?;
        }
        copy.finish().await?;
        Ok(())
    }
}

fn text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => {
            out.extend((text.len() as i32).to_be_bytes());
            out.extend(text.as_bytes());
        }
        None => out.extend((-1_i32).to_be_bytes()),
    }
}

/// FNV-1a.
fn fnv(table: &str, columns: &str) -> u64 {
    let bytes = table.bytes().chain([0]).chain(columns.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
