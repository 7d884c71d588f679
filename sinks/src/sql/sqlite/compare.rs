//! Compares rows with what should be in them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};

use super::place::{Ours, Place, literal};
use super::rows::{MAX_PARAMETERS, bound, list};
use crate::sql::compare::{Contents, Expected};
use crate::sql::table::{Filling, quoted};

/// What the rows that are there say otherwise.
pub(super) async fn contents(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    rows: &[Expected<'_>],
) -> Result<BTreeMap<String, Contents>, sqlx::Error> {
    let table = place.table;
    let owned: Vec<usize> =
        table.columns.iter().enumerate().filter(|(_, column)| column.owned).map(|(at, _)| at).collect();
    let mut contents = BTreeMap::new();
    for chunk in rows.chunks((MAX_PARAMETERS / (owned.len() + 1)).max(1)) {
        let mut statement = sqlx::query(AssertSqlSafe(sql(place, &owned, chunk.len())));
        for row in chunk {
            statement = statement.bind(row.key.to_owned());
            for at in &owned {
                statement = bound(statement, &row.cells[*at]);
            }
        }
        for at in &owned {
            if let Some(keeps) = &table.columns[*at].keeps {
                statement = statement.bind(keeps.clone());
            }
        }
        for row in statement.fetch_all(&mut *connection).await? {
            let mut different = Vec::new();
            for (n, at) in owned.iter().enumerate() {
                if row.try_get::<bool, _>(n + 2)? {
                    different.push(*at);
                }
            }
            let marked: bool = row.try_get(1)?;
            if marked || !different.is_empty() {
                contents.insert(row.try_get(0)?, Contents { different, marked });
            }
        }
    }
    Ok(contents)
}

/// Values without affinity of their own take the column's, as they do when they are written; capitals count, whatever
/// the column's collation.
fn sql(place: &Place<'_>, owned: &[usize], rows: usize) -> String {
    let table = place.table;
    let Ours { from, key, .. } = place.ours();
    let row = format!("({})", vec!["?"; owned.len() + 1].join(", "));
    let values = vec![row; rows].join(", ");
    let names = (0..owned.len()).map(|n| format!(", c{n}")).collect::<String>();
    let different = owned.iter().enumerate().map(|(n, at)| {
        let column = &table.columns[*at];
        let name = quoted(&column.name);
        if let Filling::Object(parts) = &column.filling {
            // Other names in the object are somebody else's.
            let parts = parts
                .iter()
                .map(|(name, _)| literal(&format!("$.\"{name}\"")))
                .map(|part| format!(" or json_extract(t.{name}, {part}) is not json_extract(s.c{n}, {part})"));
            let kind = format!("not json_valid(t.{name}) or json_type(t.{name}) is not 'object'");
            return format!(", coalesce({kind}{}, true)", parts.collect::<String>());
        }
        let differs = format!("t.{name} is not s.c{n} collate binary");
        match column.keeps {
            None => format!(", {differs}"),
            Some(_) => format!(", ({differs} and not (s.c{n} is null and t.{name} is ?))"),
        }
    });
    let different = different.collect::<String>();
    let marked = table.soft().map_or("false".to_owned(), |(column, _)| format!("t.{} is not null", quoted(column)));
    format!(
        "with s (key{names}) as (values {values}) select s.key, {marked}{different} from s cross join {from} where {key} = s.key"
    )
}

/// Those of the keys whose rows are marked as gone.
pub(super) async fn marked(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    keys: &[&str],
) -> Result<BTreeSet<String>, sqlx::Error> {
    let Some((column, _)) = place.table.soft().filter(|_| !keys.is_empty()) else { return Ok(BTreeSet::new()) };
    let Ours { from, key, .. } = place.ours();
    let sql = format!(
        "select {key} from {from} where {key} in (select value from json_each(?)) and t.{} is not null",
        quoted(column)
    );
    let keys: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).bind(list(keys)).fetch_all(connection).await?;
    Ok(keys.into_iter().collect())
}
