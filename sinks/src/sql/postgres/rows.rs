//! Statements that write rows of the mapped tables.

use std::collections::BTreeMap;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

use crate::sql::cell::{Cell, hex};
use crate::sql::plan::Catalog;
use crate::sql::table::{GONE, MUSTER_HASH, MUSTER_KEY, MUSTER_VERSION, Table, quoted};
use crate::sql::transaction::Pending;

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// A table and the types its columns have.
pub(super) struct Place<'a> {
    pub(super) schema: &'a str,
    pub(super) known: &'a Catalog,
    pub(super) table: &'a Table,
}

impl Place<'_> {
    pub(super) fn name(&self) -> String {
        format!("{}.{}", quoted(self.schema), quoted(&self.table.name))
    }

    /// The type to cast a column's text to: without length, since an explicit cast to `varchar(9)` would cut.
    fn cast(&self, column: &str) -> &str {
        let columns = self.known.tables.get(&self.table.name).map(|table| &table.columns);
        columns.and_then(|columns| columns.get(column)).map_or("text", |column| column.cast.as_str())
    }

    fn columns(&self, places: &[usize]) -> impl Iterator<Item = &str> {
        places.iter().map(|place| self.table.columns[*place].name.as_str())
    }
}

/// As PostgreSQL reads it, whatever the column's type.
pub(super) fn text(cell: &Cell) -> Option<String> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Bool(b) => b.to_string(),
        Cell::Int(n) => n.to_string(),
        Cell::Real(x) if x.is_nan() => "NaN".to_owned(),
        Cell::Real(x) if x.is_infinite() => if *x > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        Cell::Real(x) => x.to_string(),
        Cell::Text(text) => text.clone(),
        Cell::Blob(bytes) => format!("\\x{}", hex(bytes)),
    })
}

fn column_of(rows: &[&&Pending], place: usize) -> Vec<Option<String>> {
    rows.iter().map(|row| row.cells().get(place).and_then(text)).collect()
}

fn keys(rows: &[&&Pending]) -> Vec<String> {
    rows.iter().map(|row| row.item.key.as_str().to_owned()).collect()
}

/// How many of `rows` were written; fewer means that something else has written newer ones.
///
/// Versions were compared when the batch was judged, by probes that lock nothing, so what is only a replay never gets
/// here; the guard is for what others wrote since.
pub(super) async fn upsert(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<u64, sqlx::Error> {
    let mut written = 0;
    for forced in [false, true] {
        let rows: Vec<&&Pending> = rows.iter().filter(|row| row.item.forced == forced).collect();
        if rows.is_empty() {
            continue;
        }
        let mut statement: Statement<'_> = sqlx::query(AssertSqlSafe(upsert_sql(place, forced)));
        for column in 0..place.table.columns.len() {
            statement = statement.bind(column_of(&rows, column));
        }
        statement = statement
            .bind(keys(&rows))
            .bind(rows.iter().map(|row| row.item.version).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.item.hash.clone()).collect::<Vec<_>>());
        for (_, value) in &place.table.initial {
            statement = statement.bind(text(value));
        }
        for value in place.table.columns.iter().filter_map(|column| column.keeps.as_ref()) {
            statement = statement.bind(value.clone());
        }
        written += statement.execute(&mut *connection).await?.rows_affected();
    }
    Ok(written)
}

fn upsert_sql(place: &Place<'_>, forced: bool) -> String {
    let table = place.table;
    let width = table.columns.len();
    let columns = table.columns.iter().map(|column| column.name.as_str());
    let initial = table.initial.iter().map(|(column, _)| column.as_str());
    let all = columns.chain([MUSTER_KEY, MUSTER_VERSION, MUSTER_HASH]).chain(initial).map(quoted);
    let all = all.collect::<Vec<_>>().join(", ");

    let arrays = (1..=width + 1).map(|n| format!("${n}::text[]"));
    let arrays = arrays.chain([format!("${}::bigint[]", width + 2), format!("${}::text[]", width + 3)]);
    let arrays = arrays.collect::<Vec<_>>().join(", ");
    let names = (0..width).map(|n| format!("c{n}")).chain(["key".into(), "version".into(), "hash".into()]);
    let names = names.collect::<Vec<_>>().join(", ");
    let cast = |column: &str, value: String| format!("{value}::{}", place.cast(column));
    let values = table.columns.iter().enumerate().map(|(n, column)| cast(&column.name, format!("s.c{n}")));
    let values = values.chain(["s.key".into(), "s.version".into(), "s.hash".into()]);
    let constants = table.initial.iter().enumerate();
    let constants = constants.map(|(n, (column, _))| cast(column, format!("${}::text", width + 4 + n)));
    let values = values.chain(constants).collect::<Vec<_>>().join(", ");

    let owned =
        table.columns.iter().filter(|column| column.owned).map(|column| (&*column.name, column.keeps.is_some()));
    let mut kept = width + 3 + table.initial.len();
    let set = owned.chain([(MUSTER_VERSION, false), (MUSTER_HASH, false)]).map(|(column, keeps)| {
        let name = quoted(column);
        if !keeps {
            return format!("{name} = excluded.{name}");
        }
        kept += 1;
        let stays = format!("excluded.{name} is null and t.{name}::text = ${kept}::text");
        format!("{name} = case when {stays} then t.{name} else excluded.{name} end")
    });
    let back = table.soft().map(|(column, _)| format!("{} = null", quoted(column)));
    let set = set.chain(back).collect::<Vec<_>>().join(", ");
    let version = quoted(MUSTER_VERSION);
    let guard = if forced { "" } else { &format!(" where t.{version} is null or excluded.{version} > t.{version}") };
    format!(
        "insert into {} as t ({all}) select {values} from unnest({arrays}) as s ({names}) \
         on conflict ({}) do update set {set}{guard}",
        place.name(),
        quoted(MUSTER_KEY),
    )
}

/// By what rows are recognised: places of columns, and whether the value is null there.
type Likeness = Vec<(usize, bool)>;

/// Null or not makes different statements: `is not distinct from` can't use an index, `=` and `is null` can.
fn by_likeness<'r>(table: &Table, rows: &[&'r Pending]) -> BTreeMap<Likeness, Vec<&'r Pending>> {
    let mut groups: BTreeMap<Likeness, Vec<&Pending>> = BTreeMap::new();
    for row in rows {
        let places = table.recognised_by(row.cells()).into_iter();
        let likeness = places.map(|place| (place, row.cells()[place] == Cell::Null)).collect();
        groups.entry(likeness).or_default().push(row);
    }
    groups
}

fn same(place: &Place<'_>, likeness: &Likeness) -> String {
    let one = |(n, (at, null)): (usize, &(usize, bool))| {
        let column = &place.table.columns[*at].name;
        match null {
            true => format!("t.{} is null", quoted(column)),
            false => format!("t.{} = s.m{n}::{}", quoted(column), place.cast(column)),
        }
    };
    let conditions = likeness.iter().enumerate().map(one);
    conditions.chain([format!("t.{} is null", quoted(MUSTER_KEY))]).collect::<Vec<_>>().join(" and ")
}

fn matching_arrays(likeness: &Likeness) -> (String, String) {
    let arrays = (0..likeness.len()).map(|n| format!(", ${}::text[]", n + 2)).collect();
    let names = (0..likeness.len()).map(|n| format!(", m{n}")).collect();
    (arrays, names)
}

fn bind_matching<'q>(mut statement: Statement<'q>, likeness: &Likeness, rows: &[&&Pending]) -> Statement<'q> {
    for (place, _) in likeness {
        statement = statement.bind(column_of(rows, *place));
    }
    statement
}

/// How many rows that aren't ours each could adopt, up to 2.
pub(super) async fn candidates(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<Vec<u8>, sqlx::Error> {
    let name = place.name();
    let order = place.columns(&place.table.matching).map(quoted).collect::<Vec<_>>().join(", ");
    // The order makes the planner take the index of foreign rows, however little it knows of the table.
    let foreign = format!("select 1 from {name} where {} is null order by {order} limit 1", quoted(MUSTER_KEY));
    if sqlx::query(AssertSqlSafe(foreign)).fetch_optional(&mut *connection).await?.is_none() {
        return Ok(vec![0; rows.len()]);
    }
    let mut found: BTreeMap<usize, u8> = BTreeMap::new();
    for (likeness, rows) in by_likeness(place.table, rows) {
        let (arrays, names) = matching_arrays(&likeness);
        let sql = format!(
            "select s.tag, (select count(*) from (select 1 from {name} t where {} limit 2) c) \
             from unnest($1::bigint[]{arrays}) as s (tag{names})",
            same(place, &likeness),
        );
        let rows: Vec<&&Pending> = rows.iter().collect();
        let tags: Vec<i64> = rows.iter().map(|row| row.item.tag as i64).collect();
        let statement = bind_matching(sqlx::query(AssertSqlSafe(sql)).bind(tags), &likeness, &rows);
        for row in statement.fetch_all(&mut *connection).await? {
            let tag: i64 = sqlx::Row::try_get(&row, 0)?;
            let count: i64 = sqlx::Row::try_get(&row, 1)?;
            found.insert(tag as usize, count.clamp(0, 2) as u8);
        }
    }
    Ok(rows.iter().map(|row| found.get(&row.item.tag).copied().unwrap_or(0)).collect())
}

/// Makes somebody else's rows ours. Answers how many it were.
pub(super) async fn adopt(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<u64, sqlx::Error> {
    let mut adopted = 0;
    for (likeness, rows) in by_likeness(place.table, rows) {
        let (arrays, names) = matching_arrays(&likeness);
        let sql = format!(
            "update {} t set {} = s.key from unnest($1::text[]{arrays}) as s (key{names}) where {}",
            place.name(),
            quoted(MUSTER_KEY),
            same(place, &likeness),
        );
        let rows: Vec<&&Pending> = rows.iter().collect();
        let statement = bind_matching(sqlx::query(AssertSqlSafe(sql)).bind(keys(&rows)), &likeness, &rows);
        adopted += statement.execute(&mut *connection).await?.rows_affected();
    }
    Ok(adopted)
}

/// Empties the contested columns.
pub(super) async fn vacate(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<(), sqlx::Error> {
    let set = place.table.contested().map(|column| format!("{} = null", quoted(column))).collect::<Vec<_>>().join(", ");
    let sql = format!("update {} set {set} where {} = any($1)", place.name(), quoted(MUSTER_KEY));
    let rows: Vec<&&Pending> = rows.iter().collect();
    sqlx::query(AssertSqlSafe(sql)).bind(keys(&rows)).execute(connection).await?;
    Ok(())
}

pub(super) async fn delete(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<(), sqlx::Error> {
    let name = place.name();
    let key = quoted(MUSTER_KEY);
    let rows: Vec<&&Pending> = rows.iter().collect();
    let Some((column, value)) = place.table.soft() else {
        let sql = format!("delete from {name} where {key} = any($1)");
        sqlx::query(AssertSqlSafe(sql)).bind(keys(&rows)).execute(connection).await?;
        return Ok(());
    };
    let now = match &value {
        None => "now()".to_owned(),
        Some(_) => format!("$3::text::{}", place.cast(column)),
    };
    let sql = format!(
        "update {name} t set {} = {now}, {} = s.version, {} = '{GONE}' \
         from unnest($1::text[], $2::bigint[]) as s (key, version) where t.{key} = s.key",
        quoted(column),
        quoted(MUSTER_VERSION),
        quoted(MUSTER_HASH),
    );
    let versions: Vec<i64> = rows.iter().map(|row| row.item.version).collect();
    let mut statement: Statement<'_> = sqlx::query(AssertSqlSafe(sql)).bind(keys(&rows)).bind(versions);
    if let Some(value) = &value {
        statement = statement.bind(text(value));
    }
    statement.execute(connection).await?;
    Ok(())
}
