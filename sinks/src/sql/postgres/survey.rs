//! Counts what the mapped tables hold.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::catalog;
use super::place::Place;
use crate::sql::survey::{Survey, Terms, counting};
use crate::sql::table::Tables;

pub(super) async fn read(
    connection: &mut PgConnection,
    component: &str,
    schema: &str,
    tables: &Tables,
) -> Result<Vec<Survey>, sqlx::Error> {
    let catalog = catalog::read(connection, schema, tables).await?;
    let mut surveys = Vec::new();
    for table in &tables.0 {
        let Some(existing) = catalog.tables.get(&table.name).filter(|existing| !existing.is_other) else { continue };
        let mut survey = Survey::of(table, existing);
        let place = Place { component, schema, known: &catalog, table };
        let ours = place.ours();
        let terms = Terms {
            name: place.name(),
            ours: (ours.from, ours.key),
            is_foreign: place.is_foreign(),
            is_theirs: place.is_theirs(1),
            matching: table.matching.iter().map(|at| place.term(*at)).collect(),
        };
        let counting = counting(table, existing, &catalog, &terms);
        let patterns = |sql: &str| if sql.contains(&terms.is_theirs) { table.theirs.as_slice() } else { &[] };
        let mut statement = sqlx::query_as::<_, (i64, i64, i64)>(AssertSqlSafe(counting.rows.clone()));
        for (_, pattern) in patterns(&counting.rows) {
            statement = statement.bind(pattern.clone());
        }
        let (rows, ours, theirs) = statement.fetch_one(&mut *connection).await?;
        (survey.rows, survey.ours, survey.theirs) = (rows.unsigned_abs(), ours.unsigned_abs(), theirs.unsigned_abs());
        if let Some(ambiguous) = counting.ambiguous {
            let mut statement = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(ambiguous.clone()));
            for (_, pattern) in patterns(&ambiguous) {
                statement = statement.bind(pattern.clone());
            }
            let (values, rows) = statement.fetch_one(&mut *connection).await?;
            (survey.ambiguous_values, survey.ambiguous_rows) = (values.unsigned_abs(), rows.unsigned_abs());
        }
        if catalog.migrations > 0 {
            let sql = "select code, count(*) from muster.parked where component = $1 and topic = $2 group by code";
            let parked =
                sqlx::query_as::<_, (String, i64)>(sql).bind(component.to_owned()).bind(table.topic().to_owned());
            let parked = parked.fetch_all(&mut *connection).await?;
            survey.waiting = parked.into_iter().map(|(code, count)| (code, count.unsigned_abs())).collect();
        }
        surveys.push(survey);
    }
    Ok(surveys)
}
